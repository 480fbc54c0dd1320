"""Interpolant, flow-matching loss, Euler sampler and distillation against closed forms."""

import numpy as np
import pytest
import torch

from agents.common.maths.flow import flow_matching_loss, integrate_flow, times_of_sampler
from tests.common.closed_forms import Gaussian


def test_times_of_the_sampler_are_equally_likely_and_include_both_ends():
    draws = torch.arange(1000) / 1000
    times, counts = times_of_sampler(draws, 4).unique(return_counts=True)
    assert times.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert counts.tolist() == [200] * 5
    assert times_of_sampler(torch.tensor(1 - 2**-24), 10) == 1  # the largest draw there is


# -- flow matching ----------------------------------------------------------------------------------------------------


def test_flow_matching_loss_averages_over_coordinates_and_all_rows_whatever_their_weight():
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


# -- sampler ----------------------------------------------------------------------------------------------------------


def test_euler_steps_evaluate_the_field_once_at_their_left_end_points():
    times = []

    def field(x, t):
        times.append(t)
        return torch.full_like(x, t)

    assert float(integrate_flow(field, torch.zeros(1, 1, 1), 4)) == pytest.approx((0 + 0.25 + 0.5 + 0.75) / 4)
    assert times == [0, 0.25, 0.5, 0.75]


def test_sampler_ends_where_the_golden_trace_does():
    end = integrate_flow(Gaussian(0.3, 0.5), torch.ones(1, 1, 1, dtype=torch.float64), 10)
    assert float(end) == pytest.approx(0.730783, abs=6e-7)
