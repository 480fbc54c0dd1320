"""FQL: the one-step policy is where distillation and critic balance."""

from __future__ import annotations

import pytest
import torch

from tests.agents.oracles import (
    FOUR_MODES,
    TILT,
    Field,
    Quadratic,
    bandit_actions,
    bare,
    learn_bandit,
    mode_masses,
    networks,
    random_batch,
    random_noise,
    rows_of,
    small_model,
)


def test_teacher_is_clipped_and_student_is_not() -> None:
    model = bare("fql", flow_steps=1)
    far = networks(
        critic=Quadratic(0.0),
        critic_target=Quadratic(0.0),
        behaviour=Field(lambda x, t: torch.full_like(x, 5.0) - x),
        one_step=lambda observations, z: torch.full_like(z, 2.5),
    )
    batch, zeros = rows_of(torch.zeros(4, 1)), torch.zeros(1, 4, 1)
    draws = {"distill_z": zeros, "td_action": zeros, "bc_x0": zeros, "bc_t": torch.zeros(1, 4)}
    targets = model.targets(batch, draws, far, {})
    assert float(model.losses(batch, targets, draws, far, {})["distill"]) == pytest.approx((2.5 - 1.0) ** 2)
    assert float(targets["next_actions"].max()) == 1.0


def test_best_of_n_plays_the_candidate_with_the_highest_mean_value() -> None:
    model = small_model("fql", best_of_n=5)
    batch, noise = random_batch(model), random_noise(model)
    with torch.no_grad():
        nets = model.policy.nets
        chosen = model.sample_actions(batch.observations, {"action": noise["td_action"]}, nets)
        each = [model.act(batch.observations, {"action": noise["td_action"][:, :, n]}, nets) for n in range(5)]
        scores = torch.stack([nets.critic(batch.observations, actions).mean(1) for actions in each])
        best = nets.critic(batch.observations, chosen).mean(1)
    torch.testing.assert_close(best, scores.amax(0))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("weight", "masses", "mean"),
    [(10.0, [0.122, 0.390, 0.283, 0.205], [-0.107, 0.031]), (3.0, [0.218, 0.317, 0.205, 0.260], [0.126, 0.101])],
)
def test_learnt_policy_shifts_a_mixture(weight: float, masses: list[float], mean: list[float]) -> None:
    model = small_model(
        "fql", observations=1, distill_weight=weight, net_arch=[128] * 3, flow_steps=10, learning_rate=1e-3
    )
    learn_bandit(model, FOUR_MODES, steps=6000, critic=Quadratic(TILT), critic_target=Quadratic(TILT))
    actions = bandit_actions(model)
    assert float((mode_masses(actions) - torch.tensor(masses)).abs().max()) < 0.04
    torch.testing.assert_close(actions.mean(0), torch.tensor(mean), rtol=0, atol=0.04)
