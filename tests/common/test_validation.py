"""Checks of user input: what passes, and what the messages say."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from agents.common.validation import closest_names, integer, number, one_of


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.25), np.int64(1)])
def test_number_returns_a_float(value: float) -> None:
    got = number("rho", value, at_least=0, at_most=1)
    assert type(got) is float
    assert got == value


def test_number_accepts_only_inclusive_bounds_themselves() -> None:
    assert number("x", 0, at_least=0) == 0
    assert number("x", 1, at_most=1) == 1
    with pytest.raises(ValueError, match=re.escape("`x` must be a finite number > 0, got 0")):
        number("x", 0, above=0)
    with pytest.raises(ValueError, match=re.escape("`x` must be a finite number < 1, got 1")):
        number("x", 1, below=1)


@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan, math.inf, -math.inf, 10**400])
def test_number_outside_its_range_is_refused_with_the_range(value: float) -> None:
    message = re.escape(f"`tau` must be a finite number > 0 and <= 1, got {value!r}")
    with pytest.raises(ValueError, match=message):
        number("tau", value, above=0, at_most=1)


@pytest.mark.parametrize(("value", "kind"), [("1", "str"), (True, "bool"), (None, "NoneType")])
def test_a_value_of_the_wrong_type_is_refused_with_its_type(value: object, kind: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"`n` must be an int, got {value!r} of type {kind}")):
        integer("n", value)


@pytest.mark.parametrize("value", ["On", "", 1, None, ["on"]])
def test_word_outside_the_choices_is_refused_with_the_choices(value: object) -> None:
    with pytest.raises(ValueError, match=re.escape(f"`compile` must be one of auto, on, off, got {value!r}")):
        one_of("compile", value, ("auto", "on", "off"))


def test_closest_names_come_best_first() -> None:
    assert closest_names("qamf", ["fql", "qam_f", "qam", "dsrl"])[:2] == ["qam_f", "qam"]
