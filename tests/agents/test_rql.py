"""RQL: flows backwards, the value of what they pass through, and a flow that climbs it step by step."""

from __future__ import annotations

import pytest
import torch

from agents.common.maths.flow import integrate_flow
from tests.agents.oracles import (
    Behaviour,
    Quadratic,
    bandit_actions,
    bandit_model,
    learn_bandit,
    random_batch,
    random_noise,
    small_model,
)

# -- losses -----------------------------------------------------------------------------------------------------------


# -- acting -----------------------------------------------------------------------------------------------------------


def test_the_moving_average_acts_and_follows_at_its_own_pace() -> None:
    model = small_model("rql", policy_tau=1.0, tau=0.0)
    nets = model.policy.nets
    model.trainer.update_on(random_batch(model), random_noise(model))
    before = [p.detach().clone() for p in nets.flow.parameters()]
    model.trainer.update_on(random_batch(model), random_noise(model))
    assert all(torch.equal(p, q) for p, q in zip(nets.flow_target.parameters(), before, strict=True))
    state, noise = random_batch(model).observations, {"action": random_noise(model)["bc_x0"]}
    with torch.no_grad():
        expected = integrate_flow(nets.flow_target.at(state), noise["action"], model.flow_steps).clamp(-1, 1)
        assert torch.equal(model.act(state, noise, nets), expected)


def test_best_of_n_scores_complete_actions_by_the_mean_critic() -> None:
    model = small_model("rql", best_of_n=4)
    batch, nets = random_batch(model), model.policy.nets
    with torch.no_grad():
        expected = nets.critic(batch.observations, batch.actions, 1.0).mean(1)
        assert torch.equal(model.score(batch.observations, batch.actions, nets), expected)


@pytest.mark.slow
def test_a_weaker_hold_to_the_data_moves_a_bandits_actions_further_up() -> None:
    def mean_action(weight: float) -> float:
        model = bandit_model("rql", 1, rho=0.0, bc_weight=weight, policy_tau=0.02)
        learn_bandit(model, Behaviour(0.2, [[0.1]]), 600, critic_target=Quadratic(1.0))
        return float(bandit_actions(model, 2_000).mean())

    free, held = mean_action(0.1), mean_action(1_000.0)
    assert held == pytest.approx(0.1, abs=0.05)
    assert free > held + 0.06
