"""Interpolant, flow-matching loss, Euler sampler and distillation against closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.common.maths.flow import flow_matching_loss, integrate_flow, times_of_sampler
from tests.common.closed_forms import Gaussian, sampled_moments


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_times_of_the_sampler_are_equally_likely_and_include_both_ends() -> None:
    draws = torch.arange(1000) / 1000
    times, counts = times_of_sampler(draws, 4).unique(return_counts=True)
    assert times.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert counts.tolist() == [200] * 5
    assert times_of_sampler(torch.tensor(1 - 2**-24), 10) == 1  # the largest draw there is


# -- flow matching ----------------------------------------------------------------------------------------------------


def test_flow_matching_loss_averages_over_coordinates_and_all_rows_whatever_their_weight() -> None:
    generator = np.random.default_rng(0)
    x_0, x_1 = generator.standard_normal((2, 2, 4, 3))  # (S, B, D) each
    t, weight = generator.random((2, 4)), np.array([[1.0, 0, 1, 1], [0, 0, 0.5, 0]])
    expected = np.zeros(2)
    for s, b, d in np.ndindex(2, 4, 3):
        at = (1 - t[s, b]) * x_0[s, b, d] + t[s, b] * x_1[s, b, d]
        predicted = 2 * at + t[s, b]
        expected[s] += weight[s, b] * (predicted - (x_1[s, b, d] - x_0[s, b, d])) ** 2 / (4 * 3)
    tensors = [torch.from_numpy(array) for array in (x_0, x_1, t, weight)]
    np.testing.assert_allclose(flow_matching_loss(lambda x, t: 2 * x + t, *tensors), expected, rtol=1e-12)


def test_flow_matching_loss_is_least_at_the_closed_form_velocity() -> None:
    rows, behaviour = 200_000, Gaussian(0.3, 0.5)
    x_0, x_1 = normals(1, rows, 1), 0.3 + 0.5 * normals(1, rows, 1, seed=1)
    t = torch.rand(1, rows, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    bias = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    field = lambda x, t: behaviour(x, t) + bias[0] + bias[1] * x  # noqa: E731
    loss = flow_matching_loss(field, x_0, x_1, t, torch.ones(1, rows, dtype=torch.float64))
    slope = torch.autograd.grad(loss.sum(), bias)[0]
    assert float(slope.abs().max()) < 0.02  # five standard errors
    # what is left is the variance of x_1 - x_0 given x_t, s^2 / V_t, averaged over t: s * pi / 2
    assert float(loss.detach()) == pytest.approx(0.5 * math.pi / 2, rel=0.01)


# -- sampler ----------------------------------------------------------------------------------------------------------


def test_euler_steps_evaluate_the_field_once_at_their_left_end_points() -> None:
    times: list[float] = []

    def field(x: Tensor, t: float) -> Tensor:
        times.append(t)
        return torch.full_like(x, t)

    assert float(integrate_flow(field, torch.zeros(1, 1, 1), 4)) == pytest.approx((0 + 0.25 + 0.5 + 0.75) / 4)
    assert times == [0, 0.25, 0.5, 0.75]


def test_sampler_ends_where_the_golden_trace_does() -> None:
    end = integrate_flow(Gaussian(0.3, 0.5), torch.ones(1, 1, 1, dtype=torch.float64), 10)
    assert float(end) == pytest.approx(0.730783, abs=6e-7)


@pytest.mark.parametrize("s", [0.1, 0.5, 1.5])
def test_sampled_mean_is_exact_at_any_number_of_steps(s: float) -> None:
    assert [sampled_moments(Gaussian(0.3, s), steps)[0] for steps in (1, 2, 7, 50)] == pytest.approx([0.3] * 4)


@pytest.mark.parametrize("s", [0.1, 0.5, 1.5])
def test_euler_error_halves_when_flow_steps_double(s: float) -> None:
    errors = [abs(sampled_moments(Gaussian(0.3, s), steps)[1] - s) for steps in (100, 200, 400, 800)]
    ratios = [first / second for first, second in itertools.pairwise(errors)]
    assert ratios == pytest.approx([2.0] * 3, rel=0.05)
