"""Declarations of noise."""

from __future__ import annotations

import pytest

from agents.core import normal
from tests.common.toys import seeded

SIZES = {"S": 2, "B": 500, "N": 4, "K": 5, "D": 3}


def test_draws_have_the_axis_of_replicas_and_the_named_axes():
    assert normal("KBND")(SIZES, seeded(), "cpu").shape == (2, 5, 500, 4, 3)


@pytest.mark.parametrize("axes", ["BX", "SBD", "BL"])
def test_axis_that_does_not_exist_is_refused_with_those_that_do(axes):
    with pytest.raises(ValueError, match=rf"'{axes}'.*D \(flattened chunk\)"):
        normal(axes)
