"""RLPD: the soft policy's optimum in closed form, cloning at the border of the box, prior data in every batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.agents.oracles import (
    Quadratic,
    assert_stacked_equals_single,
    bare,
    networks,
    normal_quantiles,
    routes,
    rows_of,
    small_model,
)
from tests.common.toys import tiny_model, toy_dataset


class Policy(nn.Module):
    """One Gaussian before the squash for every state."""

    def __init__(self, mean: float, log_std: float) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.tensor([mean, log_std]))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.numbers.expand(*observations.shape[:-1], 2).chunk(2, -1)
        return mean, log_std


class Fixed(nn.Module):
    """A temperature."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value]))

    def forward(self) -> Tensor:
        return self.value


def evaluate(policy: Policy, slope: float, alpha: float, data: float = 0.3, **settings: Any) -> Any:
    """Return losses, diagnostics and the temperature of RLPD for a linear value, by quadrature."""
    model, temperature, info = bare("rlpd", **settings), Fixed(alpha), {}
    eps = normal_quantiles().view(1, -1, 1)
    nets = networks(critic=Quadratic(slope), critic_target=Quadratic(slope), actor=policy, temperature=temperature)
    batch = rows_of(torch.full((eps.shape[1], 1), data))
    draws = {"policy_eps": eps, "td_policy": eps}
    losses = model.losses(batch, {"td": torch.zeros(1, eps.shape[1])}, draws, nets, info)
    return losses, {name: value.detach() for name, value in info.items()}, temperature


@pytest.mark.parametrize(
    ("slope", "alpha", "mean", "log_std", "action", "entropy"),
    [
        (1.0, 1.0, 0.4726, -0.1880, 0.3093, 0.5333),
        (1.0, 0.3, 1.1213, -0.4003, 0.6964, -0.2161),
        (1.0, 0.1, 1.725, -0.5759, 0.8976, -1.3306),
        (0.0, 1.0, 0.0, -0.1342, 0.0, 0.6836),
    ],
)
def test_policy_is_stationary_at_the_maximum_entropy_optimum(
    slope: float, alpha: float, mean: float, log_std: float, action: float, entropy: float
) -> None:
    policy = Policy(mean, log_std)
    losses, info, _ = evaluate(policy, slope, alpha)
    gradient = torch.autograd.grad(losses["actor"].sum(), policy.numbers)[0]
    torch.testing.assert_close(gradient, torch.zeros(2), rtol=0, atol=4e-4)
    assert float(info["entropy"]) == pytest.approx(entropy, abs=2e-3)
    assert float(info["policy_q"]) == pytest.approx(slope * action, abs=5e-4)


def test_temperature_rests_where_the_entropy_is_minus_half_a_coordinate() -> None:
    policy = Policy(1.29, -0.454)
    losses, info, temperature = evaluate(policy, slope=1.0, alpha=0.2242)
    assert float(info["entropy"]) == pytest.approx(-0.5, abs=5e-3)
    assert float(info["policy_q"]) == pytest.approx(0.7702, abs=1e-3)
    gradient = torch.autograd.grad(losses["actor"].sum(), policy.numbers, retain_graph=True)[0]
    torch.testing.assert_close(gradient, torch.zeros(2), rtol=0, atol=2e-3)  # the optimum is known to three digits
    assert abs(float(torch.autograd.grad(losses["temperature"].sum(), temperature.value)[0])) < 5e-3


def test_target_entropy_replaces_the_default() -> None:
    losses, info, temperature = evaluate(Policy(0.2, -0.1), 1.0, 1.0, target_entropy=0.25)
    gradient = torch.autograd.grad(losses["temperature"].sum(), temperature.value)[0]
    torch.testing.assert_close(gradient, info["entropy"] - 0.25)


def test_cloning_loss_is_the_likelihood_of_the_data() -> None:
    mean, std, action = 0.2, 0.5, 0.3
    u = math.atanh(action)
    log_prob = -0.5 * ((u - mean) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi)) - math.log(1 - action**2)
    losses, _, _ = evaluate(Policy(mean, math.log(std)), 1.0, 1.0, data=action, bc_weight=0.7)
    assert float(losses["bc"]) == pytest.approx(-log_prob, rel=1e-5)


@pytest.mark.parametrize("border", [-1.0, 1.0])
def test_actions_on_the_border_of_the_box_have_finite_likelihood_and_gradient(border: float) -> None:
    policy = Policy(0.0, 0.0)
    losses, _, _ = evaluate(policy, 1.0, 1.0, data=border, bc_weight=1.0)
    assert bool(torch.isfinite(losses["bc"]).all())
    assert bool(torch.isfinite(torch.autograd.grad(losses["bc"].sum(), policy.numbers)[0]).all())


def test_each_loss_trains_its_own_network() -> None:
    assert routes(small_model("rlpd", bc_weight=0.1)) == {
        "td": {"critic"},
        "actor": {"actor"},
        "temperature": {"temperature"},
        "bc": {"actor"},
    }


def test_stacked_replicas_equal_single_runs() -> None:
    assert_stacked_equals_single("rlpd", bc_weight=0.1)


def test_initial_temperature_is_a_setting() -> None:
    model = small_model("rlpd", initial_temperature=0.2)
    assert float(model.policy.nets.temperature()) == pytest.approx(0.2)


def test_learns_online_from_half_dataset_and_half_own_transitions() -> None:
    model = tiny_model("rlpd")
    seen: list[Any] = []
    model.load_dataset({**toy_dataset(), "rewards": np.full(60, 7.0, np.float32)})
    sample = model.replay_buffer.sample
    model.replay_buffer.sample = lambda *given: seen.append(sample(*given)) or seen[-1]
    model.learn(25)
    assert len(seen) == 15  # one update per step after the first ten
    for batch in seen:
        assert bool((batch.rewards[:, :8] > 0).all())
        assert bool((batch.rewards[:, 8:] < 0).all())


def test_a_missing_dataset_is_mentioned() -> None:
    model = tiny_model("rlpd")
    with pytest.warns(UserWarning, match="`balanced_sampling` has no dataset, so all batches are online"):
        model.learn(12)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"bc_weight": -1.0}, "`bc_weight` must be a finite number >= 0, got -1"),
        ({"initial_temperature": 0.0}, "`initial_temperature` must be a finite number > 0, got 0"),
        ({"batch_size": 7}, "`batch_size` must be even with `balanced_sampling`, got 7; use an even number"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        small_model("rlpd", **settings)
