"""The times of the Euler sampler's grid; `tests/parity` has recorded numbers for the rest."""

import torch

from agents.common.maths.flow import grid_times


def test_sampler_times_are_equally_likely_with_both_ends():
    draws = torch.arange(1000) / 1000
    times, counts = grid_times(draws, 4).unique(return_counts=True)
    assert times.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert counts.tolist() == [200] * 5
    assert grid_times(torch.tensor(1 - 2**-24), 10) == 1  # the largest value that PyTorch samples
