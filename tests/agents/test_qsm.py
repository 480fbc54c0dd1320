from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agents.common.maths.denoising import NoiseSchedule
from agents.common.nets.heads import Time
from agents.common.sb3.model import FlowQLearning
from tests.agents.oracles import (
    Behaviour,
    Field,
    Quadratic,
    bandit_actions,
    bandit_model,
    bare,
    learn_bandit,
    networks,
    random_batch,
    random_noise,
    small_model,
)

ROWS = 60_000
SCHEDULE = NoiseSchedule(1, 10, "vp")


def stationary(behaviour: Behaviour, weight: float, tau: float, slope: float | Tensor) -> Field:
    """Return the noise prediction at which QSM's losses balance, for Q(a) = slope.a."""

    def predict(x: Tensor, t: Time) -> Tensor:
        clean = behaviour.noise_prediction(x, SCHEDULE.alpha_bars[int(t)])
        return (weight * clean - tau * slope) / (1 + weight)

    return Field(predict)


def sampled(model: FlowQLearning, denoiser: Field, size: int = 1) -> Tensor:
    """Sample a model with an exact noise prediction, (ROWS, size)."""
    generator = torch.Generator().manual_seed(0)
    noise = {
        "action": torch.randn(1, ROWS, size, generator=generator),
        "denoise": torch.randn(1, 10, ROWS, size, generator=generator),
    }
    return model.act(torch.zeros(1, ROWS, 1), noise, networks(denoiser=denoiser, schedule=SCHEDULE))[0]


@pytest.mark.parametrize(
    ("std", "weight", "tau", "mean", "spread"),
    [
        (0.2, 10.0, 1.0, 0.0532, 0.1829),
        (0.2, 10.0, 10.0, 0.5001, 0.1553),
        (0.2, 30.0, 10.0, 0.1692, 0.1640),
        (0.5, 10.0, 1.0, 0.1273, 0.3999),
    ],
)
def test_balanced_policy_samples_the_known_gaussian(
    std: float, weight: float, tau: float, mean: float, spread: float
) -> None:
    model = bare("qsm", flow_steps=10)
    actions = sampled(model, stationary(Behaviour(std, [[0.0]]), weight, tau, 1.0))
    assert float(actions.mean()) == pytest.approx(mean, abs=0.006)
    assert float(actions.std()) == pytest.approx(spread, abs=0.004)


def test_gradient_of_q_can_come_from_the_online_critics() -> None:
    model = small_model("qsm", target_gradient=False)
    batch, noise, nets = random_batch(model), random_noise(model), model.policy.nets
    with torch.no_grad():
        before = model.targets(batch, noise, nets, {})["gradient"]
        for parameter in nets.critic.parameters():
            parameter.mul_(1.5)
        assert not torch.equal(before, model.targets(batch, noise, nets, {})["gradient"])


def test_schedule_travels_with_a_replica() -> None:
    single = small_model("qsm", seeds=[1, 2], seed=None, beta_schedule="cosine").replica(1)
    assert single.policy.nets.schedule.table.tolist() == [NoiseSchedule(1, 3, "cosine").alpha_bars]


@pytest.mark.slow
def test_learnt_policy_samples_the_known_gaussian() -> None:
    model = bandit_model("qsm", 2, bc_weight=10.0, inverse_temperature=1.0)
    exact = Quadratic(torch.tensor([1.0, -0.5]))
    learn_bandit(model, Behaviour(0.2, [[0.0, 0.0]]), 1_500, critic=exact, critic_target=exact)
    actions = bandit_actions(model)
    torch.testing.assert_close(actions.mean(0), torch.tensor([0.0532, -0.0266]), atol=0.015, rtol=0)
    torch.testing.assert_close(actions.std(0), torch.tensor([0.183, 0.183]), atol=0.02, rtol=0)
