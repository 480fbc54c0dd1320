"""QGF: values from the data alone, and a cloned flow that Q's gradient steers only where it acts."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.agents.oracles import (
    Field,
    Quadratic,
    bare,
    networks,
    random_batch,
    random_noise,
    small_model,
)

STEPS = 10


def test_the_gradient_is_taken_inside_the_action_box() -> None:
    model = bare("qgf", flow_steps=1, guidance_weight=2.5)
    nets = networks(behaviour=Field(lambda x, t: 3 - x), critic_target=Quadratic(0.0, 1.0))  # dQ/da = -a
    action = model.act(torch.zeros(1, 1, 1), {"action": torch.tensor([[[-2.5]]])}, nets)
    assert float(action) == pytest.approx(3 - 2.5 * 1)  # the flow leads to 3, where the gradient is that at 1


def test_two_critics_with_a_rho_of_1_are_their_minimum() -> None:
    model = small_model("qgf", ensemble_size=2)
    batch, nets = random_batch(model), model.policy.nets
    with torch.no_grad():
        q = nets.critic_target(batch.observations, batch.actions)
        score = model.score(batch.observations, batch.actions, nets)
    torch.testing.assert_close(score, q.amin(1))
    assert model.rho == 1


def test_nothing_that_is_trained_depends_on_the_guidance() -> None:
    first, second = (small_model("qgf", guidance_weight=weight) for weight in (0.0, 1.0))
    for model in (first, second):
        for seed in range(2):
            model.trainer.update_on(random_batch(model, seed=seed), random_noise(model, seed=seed))
    trained = (model.policy.nets.state_dict() for model in (first, second))
    assert all(torch.equal(p, q) for p, q in zip(*(state.values() for state in trained), strict=True))


@pytest.mark.parametrize(("mask", "counts"), [(False, True), (True, False)])
def test_cloning_of_crossing_sequences_is_the_authors_unless_masked(mask: bool, counts: bool) -> None:
    model = small_model("qgf", mask_cloning=mask)
    batch = random_batch(model)
    _, info = model.trainer.losses(dataclasses.replace(batch, valid=torch.zeros_like(batch.valid)), random_noise(model))
    assert float(info["td_loss"]) == float(info["value_loss"]) == 0
    assert (float(info["bc_flow_loss"]) > 0) is counts
