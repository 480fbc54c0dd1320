"""Checks of user input. Each says what was expected, what was got and what to do."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real


def closest_names(name: str, choices: Iterable[str], n: int = 3) -> list[str]:
    """Return up to ``n`` choices that look most like a name, best first.

    :param name: what the user wrote.
    :param choices: the valid names.
    :param n: how many to return at most.
    :return: the closest valid names; when none is close, the first ``n`` in alphabetical order.
    """
    known = sorted(set(choices))
    return difflib.get_close_matches(name, known, n=n, cutoff=0.4) or known[:n]


def unknown_name_message(kind: str, name: str, choices: Iterable[str]) -> str:
    """Return the message for a name that is not one of the choices.

    :param kind: what the name stands for, e.g. ``"algorithm"``.
    :param name: what the user wrote.
    :param choices: the valid names.
    :return: one sentence that names the closest choices.
    """
    return f"unknown {kind} `{name}`; closest: {', '.join(closest_names(name, choices))}"


def number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> float:
    """Return a setting as a finite float inside a range.

    :param name: the setting's name, for the message.
    :param value: what was given.
    :param above: exclusive lower bound, or None.
    :param at_least: inclusive lower bound, or None.
    :param at_most: inclusive upper bound, or None.
    :param below: exclusive upper bound, or None.
    :return: the value as a float.
    :raises TypeError: if ``value`` is not a real number (booleans are not numbers here).
    :raises ValueError: if ``value`` is NaN, infinite or outside the range.
    """
    bounds = describe_bounds(above, at_least, at_most, below)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number{bounds}, got {value!r} of type {type(value).__name__}")
    result = float(value)
    inside = (
        math.isfinite(result)
        and (above is None or result > above)
        and (at_least is None or result >= at_least)
        and (at_most is None or result <= at_most)
        and (below is None or result < below)
    )
    if not inside:
        raise ValueError(f"`{name}` must be a finite number{bounds}, got {value!r}")
    return result


def integer(name: str, value: object, *, at_least: int | None = None) -> int:
    """Return a setting as an int inside a range; a whole float such as 1e5 is one.

    :param name: the setting's name, for the message.
    :param value: what was given.
    :param at_least: inclusive lower bound, or None.
    :return: the value as an int.
    :raises TypeError: if ``value`` is not a whole number (booleans are not numbers here).
    :raises ValueError: if ``value`` is below the bound.
    """
    bounds = describe_bounds(at_least=at_least)
    whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
    if isinstance(value, bool) or not whole:
        raise TypeError(f"`{name}` must be an int{bounds}, got {value!r} of type {type(value).__name__}")
    result = int(value)  # type: ignore[call-overload]  # whole, as was just seen
    if at_least is not None and result < at_least:
        raise ValueError(f"`{name}` must be an int{bounds}, got {value!r}")
    return result


def boolean(name: str, value: object) -> bool:
    """Return a setting that must be True or False.

    :param name: the setting's name, for the message.
    :param value: what was given.
    :return: the value.
    :raises TypeError: if ``value`` is not a bool.
    """
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be true or false, got {value!r} of type {type(value).__name__}")
    return value


def one_of(name: str, value: object, choices: Iterable[str]) -> str:
    """Return a setting that must be one of a few words.

    :param name: the setting's name, for the message.
    :param value: what was given.
    :param choices: the valid words.
    :return: the value.
    :raises ValueError: if ``value`` is none of them.
    """
    valid = tuple(choices)
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"`{name}` must be one of {', '.join(valid)}, got {value!r}")
    return value


def describe_bounds(
    above: float | None = None, at_least: float | None = None, at_most: float | None = None, below: float | None = None
) -> str:
    """Return a range in words, with a leading space, or nothing.

    :param above: exclusive lower bound, or None.
    :param at_least: inclusive lower bound, or None.
    :param at_most: inclusive upper bound, or None.
    :param below: exclusive upper bound, or None.
    :return: e.g. ``" > 0 and <= 1"``.
    """
    parts = [
        f"{sign} {bound:g}"
        for sign, bound in ((">", above), (">=", at_least), ("<", below), ("<=", at_most))
        if bound is not None
    ]
    return " " + " and ".join(parts) if parts else ""
