"""RLPD: the soft policy's optimum in closed form, cloning at the border of the box, prior data in every batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.agents.oracles import (
    Quadratic,
    bare,
    networks,
    normal_quantiles,
    rows_of,
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


def test_target_entropy_replaces_the_default() -> None:
    losses, info, temperature = evaluate(Policy(0.2, -0.1), 1.0, 1.0, target_entropy=0.25)
    gradient = torch.autograd.grad(losses["temperature"].sum(), temperature.value)[0]
    torch.testing.assert_close(gradient, info["entropy"] - 0.25)


@pytest.mark.parametrize("border", [-1.0, 1.0])
def test_actions_on_the_border_of_the_box_have_finite_likelihood_and_gradient(border: float) -> None:
    policy = Policy(0.0, 0.0)
    losses, _, _ = evaluate(policy, 1.0, 1.0, data=border, bc_weight=1.0)
    assert bool(torch.isfinite(losses["bc"]).all())
    assert bool(torch.isfinite(torch.autograd.grad(losses["bc"].sum(), policy.numbers)[0]).all())


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
