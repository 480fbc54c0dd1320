"""MeanFlowQL: a network whose slope along the way makes it a mean flow, and which climbs the critics."""

from __future__ import annotations

import pytest
import torch

from tests.agents.oracles import (
    Behaviour,
    Quadratic,
    bandit_actions,
    bandit_model,
    bare,
    learn_bandit,
    random_batch,
    small_model,
)

STD, MEAN = 0.4, 0.3


def test_targets_are_bounded() -> None:
    ones = torch.ones(1, 4, 1)
    assert bare("meanflowql").mean_flow_target(ones, ones, ones, 100 * ones).unique().tolist() == [-5]


def test_best_of_n_scores_candidates_by_the_mean_target_critic() -> None:
    model = small_model("meanflowql")
    assert model.best_of_n == 5
    batch, nets = random_batch(model), model.policy.nets
    with torch.no_grad():
        expected = nets.critic_target(batch.observations, batch.actions).mean(1)
        assert torch.equal(model.score(batch.observations, batch.actions, nets), expected)


@pytest.mark.slow
def test_a_bandits_actions_are_cloned_and_move_up_with_less_hold() -> None:
    def moments(weight: float) -> tuple[float, float]:
        model = bandit_model("meanflowql", 1, flow_weight=weight, best_of_n=1)
        learn_bandit(model, Behaviour(0.2, [[0.1]]), 600, critic_target=Quadratic(1.0), critic=Quadratic(1.0))
        actions = bandit_actions(model, 2_000)
        return float(actions.mean()), float(actions.std())

    (held, spread), (free, _) = moments(1_000.0), moments(3.0)
    assert held == pytest.approx(0.1, abs=0.05)
    assert spread == pytest.approx(0.2, abs=0.07)
    assert free > held + 0.1
