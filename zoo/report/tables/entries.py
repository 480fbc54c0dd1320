"""What tables are made of: entries for readers, numbers for programs, and how scores are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from zoo.report.comparison import LEAST_BEST, Cell
from zoo.report.statistics.estimates import UNSURE, Estimate
from zoo.runs.scores import RETURN, Kind

NOT_KNOWN, ROUNDED = "-", "\N{EN DASH}"
"""An entry that is not known, and the detail of an estimate whose interval rounds to the number itself."""
NO_INTERVAL = "(no interval)"
"""The detail of an estimate whose resamples all agree."""
SHOWN_METRICS = ("mean", "iqm")
"""The aggregates that tables show; the median and the optimality gap are in the JSON only."""


@dataclass(frozen=True)
class Entry:
    """One entry of a table; its detail, an interval, is set smaller."""

    text: str
    detail: str = ""
    is_bold: bool = False

    @property
    def plain(self) -> str:
        """The entry on one line."""
        return f"{self.text} {self.detail}".strip()


@dataclass(frozen=True)
class Table:
    """One table in words and in numbers.

    :param data: the numbers, one row each, for the CSV file; scores are fractions.
    """

    name: str
    title: str
    caption: str
    header: list[str]
    rows: list[list[Entry]]
    data: list[dict[str, Any]] = field(default_factory=list)


def digits_of(kind: Kind, estimates: Iterable[Estimate | None]) -> int:
    """Return how many decimals to show of estimates that stand side by side."""
    return kind.digits(value for e in estimates if e is not None for value in (e.point, *(e.interval or ())))


def score_entry(
    estimate: Estimate | None, kind: Kind, digits: int, best: float | None, is_complete: bool = True
) -> Entry:
    """Return a score, bold if it is the best and with a dagger if its interval reaches the best.

    Only the best one, so that bold never contradicts a test that finds another method better.

    :param is_complete: whether all runs behind it finished; else it is not bold.
    """
    if estimate is None:
        return Entry(NOT_KNOWN)
    entry = number_entry(estimate, kind.scale, digits)
    if best is None or not (best >= LEAST_BEST or kind is RETURN):
        return entry
    is_best = math.isclose(estimate.point, best) or estimate.point > best
    reaches = estimate.interval not in (None, kind.limits) and estimate.interval[1] >= best
    return Entry(entry.text + ("†" if reaches and not is_best else ""), entry.detail, is_best and is_complete)


def with_minus(number: str) -> str:
    """Return a number's text with a minus sign for its hyphen."""
    return number.replace("-", "\N{MINUS SIGN}")


def number_entry(estimate: Estimate, scale: float, digits: int) -> Entry:
    """Return an estimate with its interval."""

    def text(value: float) -> str:
        shown = round(scale * value, 9)  # a tie is decided by its value, not by the order in which it was summed
        return with_minus(f"{shown:z,.{digits}f}")  # z: zero has no sign

    detail = NO_INTERVAL if estimate.kind == UNSURE else ""
    if estimate.interval is not None:
        ends = [text(bound) for bound in estimate.interval]
        detail = ROUNDED if {*ends} == {text(estimate.point)} else f"[{', '.join(ends)}]"
    return Entry(text(estimate.point), detail)


def range_text(ends: tuple[int, int]) -> str:
    """Return the smallest and the largest of some whole numbers as text, e.g. ``"1,000"`` or ``"3 to 12"``."""
    low, high = ends
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def cell_data(about: Mapping[str, Any], cell: Cell) -> list[dict[str, Any]]:
    """Return one row of numbers for each estimate of a cell."""
    counts: dict[str, int | None] = {"tasks": cell.tasks, "fewest_seeds": cell.seeds[0], "most_seeds": cell.seeds[1]}
    counts |= dict.fromkeys(("started", "finished", "failed")) if cell.tally is None else asdict(cell.tally)
    return [
        {**about, "metric": metric, **estimate_data("score", estimate), **counts}
        for metric, estimate in cell.estimates.items()
    ]


def estimate_data(name: str, estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as columns of numbers."""
    low, high = estimate.interval or (None, None)
    return {name: estimate.point, f"{name}_low": low, f"{name}_high": high, f"{name}_interval": estimate.kind}
