from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.agents.oracles import (
    Behaviour,
    Quadratic,
    bandit_actions,
    bandit_model,
    bare,
    learn_bandit,
)
from tests.agents.test_cgql import BASES, gaussian_end


def soft_q(behaviour: Behaviour, tau: float, curvature: float) -> Quadratic:
    """Return Q(a) = a - p a^2 / 2 with, at noisy actions, log E exp(tau Q) / tau over the clean actions behind them."""

    def noisy(x: Tensor, t: float) -> Tensor:
        _, means, variance = behaviour.posterior(x, t)
        mean = means[..., 0, 0]  # one component, one coordinate; constants in x are left out
        return (mean - 0.5 * curvature * mean.square()) / (1 + tau * curvature * variance)

    return Quadratic(1.0, curvature, noisy)


@pytest.mark.parametrize(
    ("base", "weight", "x_term", "mean", "std"),
    [
        ("a", 0.1, True, 0.0254, 0.5846),
        ("b", 0.1, False, 0.2118, 0.1542),
        ("c", 0.1, True, 0.0190, 0.5725),
        ("c", 0.1, False, 0.0179, 0.4217),
        ("c", 1.0, True, 0.308, 4.40),
        ("c", 1.0, False, 0.160, 0.347),
    ],
)
def test_guided_flow_has_the_closed_form_of_a_gaussian(
    base: str, weight: float, x_term: bool, mean: float, std: float
) -> None:
    behaviour, tau, curvature = BASES[base]
    settings = {"inverse_temperature": tau, "guidance_weight": weight, "x_term": x_term}
    got = gaussian_end("cgql_linex", behaviour, soft_q(behaviour, tau, curvature), **settings)
    assert got[0] == pytest.approx(mean, abs=6e-5 if weight < 1 else 6e-4)
    assert got[1] == pytest.approx(std, abs=6e-5 if weight < 1 else 6e-3)


def linex(gap: Tensor, tau: float = 1.0, **settings: object) -> Tensor:
    """Return the losses at tau (Q' - q) = gap, where q = 0."""
    model = bare("cgql_linex", inverse_temperature=tau, **settings)
    return model.noisy_errors(torch.zeros_like(gap), gap / tau, {})


def test_beyond_the_clip_the_loss_is_the_gap_itself() -> None:
    gap = torch.tensor([[[4.99, 5.01, 300.0]]])
    expected = torch.tensor([[[math.exp(4.99), 5.01, 300.0]]])
    torch.testing.assert_close(linex(gap), expected)


def test_linear_continuation_is_the_tangent_at_the_clip() -> None:
    gap = torch.tensor([[[5.0 - 1e-3, 5.0, 5.0 + 1e-3, 7.0]]])
    below, at, above, far = linex(gap, linear_continuation=True)[0, 0].tolist()
    slope = math.exp(5.0)
    assert above - at == pytest.approx(at - below, rel=5e-3)
    assert far == pytest.approx(slope * 3, rel=1e-5)


def test_clipped_rows_have_finite_gradient_where_the_exponential_overflows() -> None:
    model = bare("cgql_linex", inverse_temperature=10.0)
    q = torch.zeros(1, 1, 1, requires_grad=True)
    model.noisy_errors(q, torch.full((1, 1, 1), 1e3), {}).sum().backward()
    assert float(q.grad) == -10.0


@pytest.mark.slow
def test_learnt_guidance_samples_the_tilt() -> None:
    model = bandit_model("cgql_linex", 1, x_term=False, noisy_weight=1.0, guidance_weight=0.0)
    learn_bandit(model, Behaviour(0.5, [[0.0]]), 3_000, critic_target=Quadratic(1.0, 2.0))
    model.guidance_weight = 1.0  # a bandit's losses do not depend on it
    actions = bandit_actions(model)
    assert float(actions.mean()) == pytest.approx(0.160, abs=0.025)
    assert float(actions.std()) == pytest.approx(0.347, abs=0.025)
