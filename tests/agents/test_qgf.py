"""QGF: values from the data alone, and a cloned flow that Q's gradient steers only where it acts."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from tests.agents.oracles import (
    FOUR_MODES,
    TILT,
    Behaviour,
    Field,
    Quadratic,
    acting_depends_on,
    assert_stacked_equals_single,
    bare,
    mode_masses,
    networks,
    random_batch,
    random_noise,
    routes,
    small_model,
)

STEPS = 10


def guided_end(behaviour: Behaviour, critic: Quadratic, noise: list[float], **settings: object) -> list[float]:
    """Return where the guided flow of a one-dimensional behaviour ends."""
    model = bare("qgf", flow_steps=STEPS, **settings)
    nets = networks(behaviour=Field(behaviour.velocity), critic_target=critic)
    starts = torch.tensor(noise).view(1, -1, 1)
    return model.act(torch.zeros(1, len(noise), 1), {"action": starts}, nets).flatten().tolist()


def by_hand(behaviour: Behaviour, slope: float, curvature: float, x: float, weight: float, way: str) -> float:
    """Return the same for one start, written out with numbers."""
    for step in range(STEPS):
        t = step / STEPS
        variance = t**2 * behaviour.std**2 + (1 - t) ** 2
        along = (t * behaviour.std**2 - (1 - t)) / variance  # dv/dx of a Gaussian's flow
        v = along * x + (1 - t * along) * float(behaviour.means)
        clean = x + (1 - t) * v
        inside = abs(clean) < 1
        at = x if way == "noisy" else max(-1.0, min(1.0, clean))
        gradient = slope - curvature * at
        if way == "jacobian":
            gradient *= inside * (1 + (1 - t) * along)
        x += (v + weight * gradient) / STEPS
    return max(-1.0, min(1.0, x))


@pytest.mark.parametrize("way", ["clean", "jacobian", "noisy"])
@pytest.mark.parametrize(("slope", "curvature", "weight"), [(1.0, 0.0, 0.3), (-0.5, 2.0, 0.2)])
def test_guidance_takes_the_gradient_where_it_says(way: str, slope: float, curvature: float, weight: float) -> None:
    behaviour, starts = Behaviour(0.3, [[0.2]]), [-1.5, -0.2, 0.0, 0.7, 3.0]
    got = guided_end(behaviour, Quadratic(slope, curvature), starts, guidance_weight=weight, gradient=way)
    assert got == pytest.approx([by_hand(behaviour, slope, curvature, x, weight, way) for x in starts], abs=2e-6)


def test_the_gradient_is_taken_inside_the_action_box() -> None:
    model = bare("qgf", flow_steps=1, guidance_weight=2.5)
    nets = networks(behaviour=Field(lambda x, t: 3 - x), critic_target=Quadratic(0.0, 1.0))  # dQ/da = -a
    action = model.act(torch.zeros(1, 1, 1), {"action": torch.tensor([[[-2.5]]])}, nets)
    assert float(action) == pytest.approx(3 - 2.5 * 1)  # the flow leads to 3, where the gradient is that at 1


def test_guidance_moves_the_modes_of_a_mixture() -> None:
    def masses(weight: float) -> Tensor:
        model = bare("qgf", flow_steps=STEPS, guidance_weight=weight)
        nets = networks(behaviour=Field(FOUR_MODES.velocity), critic_target=Quadratic(TILT))
        noise = torch.randn(1, 20_000, 2, generator=torch.Generator().manual_seed(0))
        return mode_masses(model.act(torch.zeros(1, 20_000, 1), {"action": noise}, nets)[0])

    unguided, guided = masses(0.0), masses(0.5)
    torch.testing.assert_close(unguided, FOUR_MODES.log_weights.exp(), atol=0.04, rtol=0)
    assert guided[0] > 1.3 * unguided[0]  # the upper right mode has the largest Q
    assert guided[2] < 0.8 * unguided[2]


def test_two_critics_with_a_rho_of_1_are_their_minimum() -> None:
    model = small_model("qgf", ensemble_size=2)
    batch, nets = random_batch(model), model.policy.nets
    with torch.no_grad():
        q = nets.critic_target(batch.observations, batch.actions)
        score = model.score(batch.observations, batch.actions, nets)
    torch.testing.assert_close(score, q.amin(1))
    assert model.rho == 1


def acts_with(network: str, **settings: object) -> bool:
    """Return whether acting depends on a network."""
    model = small_model("qgf", **settings)
    return acting_depends_on(network, model, {"action": random_noise(model)["bc_x0"]})


def test_the_behaviour_flow_acts_guided_by_the_target_critics() -> None:
    assert acts_with("behaviour")
    assert acts_with("critic_target")
    assert not acts_with("critic")
    assert not acts_with("critic_target", guidance_weight=0.0)


def test_nothing_that_is_trained_depends_on_the_guidance() -> None:
    first, second = (small_model("qgf", guidance_weight=weight) for weight in (0.0, 1.0))
    for model in (first, second):
        for seed in range(2):
            model.update(random_batch(model, seed=seed), random_noise(model, seed=seed))
    trained = (model.policy.nets.state_dict() for model in (first, second))
    assert all(torch.equal(p, q) for p, q in zip(*(state.values() for state in trained), strict=True))


def test_an_update_draws_no_next_action() -> None:
    assert set(small_model("qgf").update_noise()) == {"bc_x0", "bc_t"}


def test_the_flow_is_cloned_at_the_times_of_the_sampler() -> None:
    model = small_model("qgf", flow_steps=4)
    times: list[float] = []
    nets = model.policy.nets
    batch, noise = random_batch(model), random_noise(model)
    nets["behaviour"] = Field(lambda x, t: times.extend((t * torch.ones(1, 8, 1)).flatten().tolist()) or 0 * x)
    model.losses(batch, {"td": batch.rewards, "value": batch.rewards}, noise, nets, {})
    expected = [math.floor(5 * draw) / 4 for draw in noise["bc_t"].flatten().tolist()]
    assert times == pytest.approx(expected)


@pytest.mark.parametrize(("mask", "counts"), [(False, True), (True, False)])
def test_cloning_of_crossing_sequences_is_the_authors_unless_masked(mask: bool, counts: bool) -> None:
    model = small_model("qgf", mask_cloning=mask)
    batch = random_batch(model)
    _, info = model.compute_losses(dataclasses.replace(batch, valid=torch.zeros_like(batch.valid)), random_noise(model))
    assert float(info["td_loss"]) == float(info["value_loss"]) == 0
    assert (float(info["bc_flow_loss"]) > 0) is counts


def test_each_loss_trains_its_own_network() -> None:
    assert routes(small_model("qgf")) == {"td": {"critic"}, "value": {"value"}, "bc_flow": {"behaviour"}}


@pytest.mark.parametrize("gradient", ["clean", "jacobian"])
def test_stacked_replicas_equal_single_runs(gradient: str) -> None:
    assert_stacked_equals_single("qgf", best_of_n=2, guidance_weight=0.5, gradient=gradient)


def test_the_ways_of_guidance_are_named() -> None:
    with pytest.raises(ValueError, match="`gradient` must be one of"):
        small_model("qgf", gradient="clear")
