"""Where a search looks for the value of a setting; declared beside it, e.g. ``search=log_range(0.1, 100)``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds, both included.

    :param low: lower bound.
    :param high: upper bound, above it.
    :param log: whether every order of magnitude gets the same share of the search.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"a range must go from a lower to a higher bound, got {self.low!r} and {self.high!r}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range must begin above 0, got {self.low!r}; choose a linear one")

    @property
    def ends(self) -> tuple[float, ...]:
        """Values that must be allowed if all are to be."""
        return self.low, self.high

    def __str__(self) -> str:
        """Return the range as ``zoo tune --search`` takes it."""
        return f"{self.low}:{self.high}" + (":log" if self.log else "")


@dataclass(frozen=True)
class Choice:
    """A few values without an order.

    :param values: at least two, all different.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2 or len(set(map(repr, self.values))) < len(self.values):
            raise ValueError(f"a choice must have at least two different values, got {list(self.values)!r}")

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that must be allowed if all are to be."""
        return self.values

    def __str__(self) -> str:
        """Return the choice as ``zoo tune --search`` takes it."""
        words = {"None": "null", "True": "true", "False": "false"}
        return f"[{', '.join(words.get(repr(value), str(value)) for value in self.values)}]"


Search = Range | Choice


def log_range(low: float, high: float) -> Range:
    """Declare a range in which every order of magnitude matters alike.

    :param low: lower bound, > 0.
    :param high: upper bound.
    :return: the declaration.
    """
    return Range(low, high, log=True)


def linear_range(low: float, high: float) -> Range:
    """Declare a range in which every difference matters alike.

    :param low: lower bound.
    :param high: upper bound.
    :return: the declaration.
    """
    return Range(low, high)


def choice(*values: Any) -> Choice:
    """Declare a few values to try.

    :param values: at least two.
    :return: the declaration.
    """
    return Choice(values)
