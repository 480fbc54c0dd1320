from __future__ import annotations

import pytest
import torch

from agents.common.batch import Batch
from tests.agents.oracles import (
    Behaviour,
    Field,
    Quadratic,
    bare,
    learn_bandit,
    networks,
    random_batch,
    random_noise,
    small_model,
)


@pytest.mark.parametrize(
    ("candidates", "mean", "std"), [(4, 1.02938, 0.70122), (8, 1.42360, 0.61065), (32, 2.06967, 0.49155)]
)
def test_best_of_n_is_the_largest_of_n_samples_of_the_flow(candidates: int, mean: float, std: float) -> None:
    model = bare("ifql", best_of_n=candidates, flow_steps=10)
    nets = networks(behaviour=Field(Behaviour(0.2, [[0.0]]).velocity), critic=Quadratic(1.0))
    noise = torch.randn(1, 20_000, candidates, 1, generator=torch.Generator().manual_seed(0))
    actions = model.sample_actions(torch.zeros(1, 20_000, 1), {"action": noise}, nets)
    base = 0.15418  # spread of the 10-step flow of a Gaussian with standard deviation 0.2
    assert float(actions.mean()) == pytest.approx(mean * base, abs=0.003)
    assert float(actions.std()) == pytest.approx(std * base, abs=0.003)


def test_candidates_are_rated_by_the_lowest_critic() -> None:
    model = bare("ifql")
    nets = networks(critic=lambda observations, actions: torch.tensor([[[1.0, 5.0], [2.0, -3.0]]]))
    assert model.score(torch.zeros(1, 2, 1), torch.zeros(1, 2, 1), nets).tolist() == [[1.0, -3.0]]


def value_loss_without_valid_rows(mask_value: bool) -> float:
    model = small_model("ifql", mask_value=mask_value)
    batch = random_batch(model)
    batch = Batch(**{**vars(batch), "valid": torch.zeros_like(batch.valid)})
    _, info = model.trainer.losses(batch, random_noise(model))
    assert float(info["td_loss"]) == 0
    assert float(info["bc_flow_loss"]) == 0
    return float(info["value_loss"])


def test_value_loss_counts_crossing_sequences_as_the_reference_does() -> None:
    assert value_loss_without_valid_rows(mask_value=False) > 0


def test_value_loss_can_leave_crossing_sequences_out() -> None:
    assert value_loss_without_valid_rows(mask_value=True) == 0


@pytest.mark.slow
def test_learnt_value_is_the_expectile_of_q_over_data_actions() -> None:
    model = small_model("ifql", 1, 1, rho=0.0, expectile=0.9, learning_rate=1e-3, net_arch=[32, 32])
    exact = Quadratic(1.0)
    learn_bandit(model, Behaviour(0.3, [[0.1]]), 2_000, critic=exact, critic_target=exact)
    value = float(model.policy.nets.value(torch.zeros(1, 1, 1)).detach())
    assert value == pytest.approx(0.1 + 0.3 * 0.86159, abs=0.015)
