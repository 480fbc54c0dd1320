"""Value Flows: flows of returns, checked on that of a Gaussian, which is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agents.common.maths.critic import action_gradient
from tests.agents.oracles import bare, networks, random_batch, random_noise, small_model

MEAN, STD = -3.0, 0.5


def gaussian(returns: Tensor, t: Tensor) -> Tensor:
    """Return the velocity of the flow from standard noise to N(MEAN, STD^2)."""
    variance = t**2 * STD**2 + (1 - t) ** 2
    slope = (t * STD**2 - (1 - t)) / variance
    return MEAN + slope.unsqueeze(1) * (returns - t.unsqueeze(1) * MEAN)


def test_following_a_gaussians_flow_scales_and_shifts_the_noise() -> None:
    model, end = bare("value_flows", flow_steps=1000), torch.ones(1, 5)
    z = torch.linspace(-2, 2, 5).view(1, 1, 5)
    slope = action_gradient(lambda x: model.follow(gaussian, x, end), z)
    torch.testing.assert_close(model.follow(gaussian, z, end), MEAN + STD * z, rtol=0, atol=0.01)
    torch.testing.assert_close(slope, torch.full_like(slope, STD), rtol=0, atol=0.01)


@pytest.mark.parametrize(("bounds", "lowest"), [({}, -12.0), ({"reward_min": -1.0, "reward_max": 0.0}, -2.0)])
def test_bounds_hold_returns_but_not_their_derivative(bounds: dict[str, float], lowest: float) -> None:
    model, z, end = bare("value_flows", gamma=0.5, **bounds), torch.tensor([[[-2.0, 2.0]]]), torch.ones(1, 2)

    def falling(returns: Tensor, t: Tensor) -> Tensor:
        return -10 + 0 * returns

    def growing(returns: Tensor, t: Tensor) -> Tensor:
        return falling(returns, t) + 0.3 * returns

    assert float(model.follow(falling, z, end).min()) == pytest.approx(lowest, abs=1e-5)
    slope = action_gradient(lambda x: model.follow(growing, x, end), z)
    torch.testing.assert_close(slope, torch.full_like(slope, (1 + 0.03) ** 10))


def test_an_action_is_rated_by_its_mean_return() -> None:
    nets = networks(critic=lambda observations, actions, returns, t: gaussian(returns, t))
    score = bare("value_flows").score(torch.zeros(1, 4, 3), torch.zeros(1, 4, 2), nets)
    assert score.flatten().tolist() == pytest.approx([MEAN] * 4)


def test_rows_with_certain_returns_count_half_and_those_that_are_not_valid_nothing() -> None:
    model = small_model("value_flows", confidence_temperature=1e6)
    batch = random_batch(model)
    targets = model.targets(batch, random_noise(model), model.policy.nets, {})
    torch.testing.assert_close(targets["weight"], 0.5 * batch.valid)
