"""The drift of DriftQL's samples against closed forms."""

import math

import pytest
import torch

from agents.driftql import DriftQL

PAIR = torch.tensor([[[[-0.3, 0.0], [0.5, 0.0]]]])  # two samples of one state, (1, 1, 2, 2)


def test_two_samples_push_each_other_away_by_their_distance():
    # a sample has one other, so the softmax has one weight, whatever the kernel
    for kernel in ("laplace", "gaussian"):
        pull = DriftQL(kernel=kernel).repulsion(PAIR)
        torch.testing.assert_close(pull, torch.tensor([[[[0.8, 0.0], [-0.8, 0.0]]]]))


@pytest.mark.parametrize(
    ("kernel", "scaled", "expected"),
    [
        ("laplace", False, lambda d: math.exp(-d / 0.5)),
        ("laplace", True, lambda d: math.exp(-d / math.sqrt(2) / 0.5)),
        ("gaussian", False, lambda d: math.exp(-(d**2) / (2 * 0.5**2))),
    ],
)
def test_nearer_samples_weigh_more_as_the_kernel_says(kernel, scaled, expected):
    samples = torch.tensor([[[[0.0, 0.0], [0.4, 0.0], [-1.0, 0.0]]]])
    method = DriftQL(kernel=kernel, scale_distances=scaled, drift_temperature=0.5)
    near, far = expected(0.4), expected(1.0)
    mean = (near * 0.4 - far * 1.0) / (near + far)
    assert method.repulsion(samples)[0, 0, 0, 0].item() == pytest.approx(mean, abs=1e-6)


def test_the_drift_vanishes_where_samples_surround_the_action_as_far_as_each_other():
    # attraction by -0.4 and 0.4 to the action between them, and repulsion by twice as much
    samples = torch.tensor([[[[-0.4], [0.4]]]])
    drift = DriftQL().drift(samples, torch.zeros(1, 1, 1))
    torch.testing.assert_close(drift, torch.tensor([[[[-0.4], [0.4]]]]))
    alone = DriftQL().drift(samples.abs(), torch.zeros(1, 1, 1))  # two equal samples repel nothing
    torch.testing.assert_close(alone, -samples.abs())


def test_a_normalised_drift_has_a_mean_square_of_one():
    samples = torch.randn(2, 3, 8, 4, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    drift = DriftQL(normalize_drift=True).drift(samples, torch.zeros(2, 3, 4))
    torch.testing.assert_close(drift.square().mean((2, 3)), torch.ones(2, 3))
