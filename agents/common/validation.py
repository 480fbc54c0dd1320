"""Checks of user input. Each says what was expected, what was got and what to do.

They take the ``name`` of a setting, for the message, and the ``value`` that the user gave, and return the value. Bounds
may be None; ``above`` and ``below`` are exclusive, ``at_least`` and ``at_most`` inclusive. A value of the wrong type
raises TypeError, one that is not allowed ValueError.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real


class UntrustedError(ValueError):
    """A file holds code or names a module to import, and nothing says that its author is trusted."""


def closest_names(name: object, choices: Iterable[str], n: int = 3) -> list[str]:
    """Return up to ``n`` choices that look most like a name, best first; if none does, the first in the alphabet.

    Of declared settings by name, the one comes first that the paper or the authors' code calls so. In a YAML file, a
    name may be a number or nothing at all.
    """
    if isinstance(choices, Mapping):
        known_as = {
            choice: getattr(declared, "reference", "") for choice, declared in choices.items()
        }
        if published := [choice for choice, names in known_as.items() if name in names.split(", ")]:
            return published
    names_in_order = sorted(set(choices))
    return (
        difflib.get_close_matches(str(name), names_in_order, n=n, cutoff=0.4) or names_in_order[:n]
    )


def path_of(kind: type) -> str:
    """Return the name by which a file names a class, ``"package.module:Class"``."""
    return f"{kind.__module__}:{kind.__qualname__}"


def unknown_name_message(kind: str, name: object, choices: Iterable[str]) -> str:
    """Return the message for a name that is not one of the choices; ``kind`` is what it names, e.g. "algorithm"."""
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
    """Return a setting as a finite float inside a range; booleans are not numbers here."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    result = float(value) if is_number else math.nan  # type: ignore[arg-type]
    in_range = (
        math.isfinite(result)
        and (above is None or result > above)
        and (at_least is None or result >= at_least)
        and (at_most is None or result <= at_most)
        and (below is None or result < below)
    )
    if in_range:
        return result
    bounds = describe_bounds(above, at_least, at_most, below)
    if is_number:
        raise ValueError(f"`{name}` must be a finite number{bounds}, got {value!r}")
    raise TypeError(
        f"`{name}` must be a number{bounds}, got {value!r} of type {type(value).__name__}"
    )


def checked_pair(name: str, value: object) -> tuple[float, float]:
    """Return two finite numbers, of which the second must be the higher one; else raise ValueError."""
    try:
        low, high = (number(name, part) for part in value)  # type: ignore[attr-defined]  # else it is a TypeError
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be two finite numbers, e.g. [-1, 1], got {value!r}"
        ) from error
    if low >= high:
        raise ValueError(
            f"`{name}` must be a number and a higher one, got {[low, high]}; give the lower one first"
        )
    return low, high


def integer(
    name: str, value: object, *, at_least: int | None = None, at_most: int | None = None
) -> int:
    """Return a setting as an int inside a range; a whole float such as 1e5 is one, a boolean is not."""
    is_whole = isinstance(value, Integral) or (
        isinstance(value, Real) and float(value).is_integer()
    )
    is_int = is_whole and not isinstance(value, bool)
    if is_int and (at_least is None or value >= at_least) and (at_most is None or value <= at_most):  # type: ignore[operator]
        return int(value)  # type: ignore[call-overload]
    message = f"`{name}` must be an int{describe_bounds(at_least=at_least, at_most=at_most)}, got {value!r}"
    raise ValueError(message) if is_int else TypeError(f"{message} of type {type(value).__name__}")


def boolean(name: str, value: object) -> bool:
    """Return a setting that must be True or False."""
    if not isinstance(value, bool):
        raise TypeError(
            f"`{name}` must be true or false, got {value!r} of type {type(value).__name__}"
        )
    return value


def one_of(name: str, value: object, choices: Iterable[str]) -> str:
    """Return a setting that must be one of a few words."""
    valid = tuple(choices)
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"`{name}` must be one of {', '.join(valid)}, got {value!r}")
    return value


def describe_bounds(
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> str:
    """Return a range in words with a leading space, e.g. ``" > 0 and <= 1"``; nothing without bounds."""
    parts = [
        f"{sign} {bound if isinstance(bound, int) else f'{bound:g}'}"
        for sign, bound in ((">", above), (">=", at_least), ("<", below), ("<=", at_most))
        if bound is not None
    ]
    return " " + " and ".join(parts) if parts else ""
