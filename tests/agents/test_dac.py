from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agents.common.nets.heads import Time
from tests.agents.oracles import (
    FOUR_MODES,
    TILT,
    Behaviour,
    Field,
    Quadratic,
    bandit_actions,
    bandit_model,
    bare,
    learn_bandit,
    mode_masses,
    routes,
    small_model,
)
from tests.agents.test_qsm import SCHEDULE, balance, sampled


def stationary(behaviour: Behaviour, weight: float, slope: float | Tensor) -> Field:
    """Return the noise prediction at which DAC's losses balance, for Q(a) = slope.a."""

    def predict(x: Tensor, t: Time) -> Tensor:
        alpha_bar = SCHEDULE.alpha_bars[int(t)]
        return behaviour.noise_prediction(x, alpha_bar) - (1 - alpha_bar) ** 0.5 * slope / (2 * weight)

    return Field(predict)


@pytest.mark.parametrize("step", [1, 5, 10])
def test_losses_balance_where_the_theory_says(step: int) -> None:
    behaviour, critic = Behaviour(0.2, [[0.0]]), Quadratic(0.7)
    derivative = balance(
        bare("dac", bc_weight=2.0, flow_steps=10), stationary(behaviour, 2.0, 0.7), behaviour, critic, step
    )
    assert derivative == pytest.approx(0, abs=0.04)  # 4 for an offset of 1; sampling error 0.016


@pytest.mark.parametrize(
    ("std", "weight", "mean", "spread"),
    [(0.2, 1.0, 0.1216, 0.1819), (0.2, 0.3, 0.3358, 0.1817), (0.5, 1.0, 0.3474, 0.4563)],
)
def test_balanced_policy_samples_the_known_gaussian(std: float, weight: float, mean: float, spread: float) -> None:
    actions = sampled(bare("dac", flow_steps=10), stationary(Behaviour(std, [[0.0]]), weight, 1.0))
    assert float(actions.mean()) == pytest.approx(mean, abs=0.006)
    assert float(actions.std()) == pytest.approx(spread, abs=0.004)


@pytest.mark.parametrize(
    ("weight", "masses"), [(1.0, [0.308, 0.254, 0.130, 0.308]), (3.0, [0.188, 0.332, 0.231, 0.249])]
)
def test_balanced_policy_moves_the_modes_of_a_mixture(weight: float, masses: list[float]) -> None:
    actions = sampled(bare("dac", flow_steps=10), stationary(FOUR_MODES, weight, TILT), size=2)
    torch.testing.assert_close(mode_masses(actions), torch.tensor(masses), atol=0.01, rtol=0)


def test_each_loss_trains_its_own_network() -> None:
    assert routes(small_model("dac")) == {"td": {"critic"}, "bc": {"denoiser"}, "actor": {"denoiser"}}


def test_there_is_no_inverse_temperature() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'inverse_temperature'"):
        small_model("dac", inverse_temperature=1.0)


@pytest.mark.slow
def test_learnt_policy_samples_the_known_gaussian() -> None:
    model = bandit_model("dac", 2, bc_weight=1.0)
    exact = Quadratic(torch.tensor([1.0, -0.5]))
    learn_bandit(model, Behaviour(0.2, [[0.0, 0.0]]), 1_500, critic=exact, critic_target=exact)
    actions = bandit_actions(model)
    torch.testing.assert_close(actions.mean(0), torch.tensor([0.1216, -0.0608]), atol=0.02, rtol=0)
    torch.testing.assert_close(actions.std(0), torch.tensor([0.182, 0.182]), atol=0.02, rtol=0)
