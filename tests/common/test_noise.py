"""The noise table: shapes, distributions, generators."""

import pytest
import torch

from agents.common.method import integers, normal, uniform
from tests.common.toys import seeded

SIZES = {"S": 2, "B": 500, "N": 4, "K": 5, "D": 3}


def test_draws_have_the_axis_of_replicas_and_the_named_axes():
    shapes = [draw(SIZES, seeded(), "cpu").shape for draw in (normal(), uniform(), integers())]
    assert shapes == [(2, 500, 3), (2, 500), (2, 500)]
    draw = normal("KBD").with_candidates()
    assert draw(SIZES, seeded(), "cpu").shape == (2, 5, 500, 4, 3)


@pytest.mark.parametrize("axes", ["BX", "SBD", "BL"])
def test_an_axis_that_does_not_exist_is_refused_with_those_that_do(axes):
    with pytest.raises(ValueError, match=rf"D \(flattened chunk\).*'{axes}'"):
        normal(axes)


@pytest.mark.parametrize(
    ("draw", "low", "high", "mean", "std"),
    [
        (normal(), -9, 9, 0, 1),
        (uniform(), 0, 1, 0.5, 12**-0.5),
        (integers(), 1, 5, 3, 2**0.5),  # of 1, 2, ..., K
    ],
)
def test_draws_are_standard_normal_or_uniform(draw, low, high, mean, std):
    values = draw({**SIZES, "B": 5000}, seeded(), "cpu")
    assert values.dtype == torch.float32
    assert low <= values.min() < values.max() <= high
    assert (float(values.mean()), float(values.std())) == pytest.approx((mean, std), abs=0.03)
