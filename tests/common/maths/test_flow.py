"""The Euler sampler and its times, compared with closed forms; `tests/parity` has recorded numbers for the rest."""

import pytest
import torch

from agents.common.maths.flow import grid_times, integrate_flow
from tests.common.closed_forms import Gaussian


def test_sampler_times_are_equally_likely_with_both_ends():
    draws = torch.arange(1000) / 1000
    times, counts = grid_times(draws, 4).unique(return_counts=True)
    assert times.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert counts.tolist() == [200] * 5
    assert grid_times(torch.tensor(1 - 2**-24), 10) == 1  # the largest value that PyTorch samples


def test_sampler_ends_where_the_golden_trace_does():
    end = integrate_flow(Gaussian(0.3, 0.5), torch.ones(1, 1, 1, dtype=torch.float64), 10)
    assert float(end) == pytest.approx(0.730783, abs=6e-7)
