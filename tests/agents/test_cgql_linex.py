from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

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
    networks,
    normal_quantiles,
    routes,
    small_model,
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


def test_without_x_term_and_with_many_steps_the_guided_flow_ends_in_the_tilt() -> None:
    behaviour, tau, curvature = BASES["c"]
    settings = {"inverse_temperature": tau, "guidance_weight": 1.0, "x_term": False, "flow_steps": 1000}
    mean, std = gaussian_end("cgql_linex", behaviour, soft_q(behaviour, tau, curvature), **settings)
    assert mean == pytest.approx(1 / 6, abs=3e-4)
    assert std == pytest.approx(math.sqrt(1 / 6), abs=1e-3)


@pytest.mark.parametrize(
    ("weight", "x_term", "masses"),
    [
        (0.1, True, [0.134, 0.368, 0.281, 0.218]),
        (0.1, False, [0.113, 0.392, 0.292, 0.203]),
        (1.0, False, [0.223, 0.303, 0.169, 0.305]),
    ],
)
def test_guidance_moves_the_modes_of_a_mixture(weight: float, x_term: bool, masses: list[float]) -> None:
    def noisy(x: Tensor, t: float) -> Tensor:  # log E exp(Q) given x, for a linear Q
        shares, means, variance = FOUR_MODES.posterior(x, t)
        return (shares.log() + means @ TILT + 0.5 * variance * TILT.square().sum()).logsumexp(-1)

    model = bare("cgql_linex", flow_steps=10, inverse_temperature=1.0, guidance_weight=weight, x_term=x_term)
    nets = networks(behaviour_target=Field(FOUR_MODES.velocity), critic=Quadratic(TILT, noisy=noisy))
    noise = torch.randn(1, 30_000, 2, generator=torch.Generator().manual_seed(0))
    actions = model.act(torch.zeros(1, 30_000, 1), {"action": noise}, nets)[0]
    torch.testing.assert_close(mode_masses(actions), torch.tensor(masses), atol=0.012, rtol=0)


def linex(gap: Tensor, tau: float = 1.0, **settings: object) -> Tensor:
    """Return the losses at tau (Q' - q) = gap, where q = 0."""
    model = bare("cgql_linex", inverse_temperature=tau, **settings)
    return model.noisy_errors(torch.zeros_like(gap), gap / tau, {})


def test_linex_is_least_at_the_soft_value() -> None:
    clean = 0.5 * normal_quantiles(20_001).view(1, 1, -1)
    tau = 2.0
    q = torch.full_like(clean, 0.5 * tau * 0.25, requires_grad=True)  # log E exp(tau Q) / tau of N(0, 0.25)
    bare("cgql_linex", inverse_temperature=tau).noisy_errors(q, clean, {}).mean().backward()
    assert abs(float(q.grad.sum())) < 2e-3


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


def test_share_of_clipped_rows_is_logged() -> None:
    info: dict[str, Tensor] = {}
    bare("cgql_linex", inverse_temperature=1.0).noisy_errors(
        torch.zeros(1, 1, 4), torch.tensor([[[0.0, 4.0, 6.0, 9.0]]]), info
    )
    assert info["linex_clipped"].tolist() == [0.5]


def test_each_loss_trains_its_own_network() -> None:
    assert routes(small_model("cgql_linex")) == {"td": {"critic"}, "noisy": {"critic"}, "bc_flow": {"behaviour"}}


def test_linex_clip_must_be_positive() -> None:
    with pytest.raises(ValueError, match="`linex_clip` must be a finite number > 0, got 0"):
        small_model("cgql_linex", linex_clip=0)


@pytest.mark.slow
def test_learnt_guidance_samples_the_tilt() -> None:
    model = bandit_model("cgql_linex", 1, x_term=False, noisy_weight=1.0, guidance_weight=0.0)
    learn_bandit(model, Behaviour(0.5, [[0.0]]), 3_000, critic_target=Quadratic(1.0, 2.0))
    model.guidance_weight = 1.0  # a bandit's losses do not depend on it
    actions = bandit_actions(model)
    assert float(actions.mean()) == pytest.approx(0.160, abs=0.025)
    assert float(actions.std()) == pytest.approx(0.347, abs=0.025)
