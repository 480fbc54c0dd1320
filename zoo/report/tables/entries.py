"""What tables are made of: entries for readers, numbers for programs, and how scores are written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from zoo.report.comparison import LEAST_BEST, Method
from zoo.report.statistics.estimates import UNSURE, Estimate
from zoo.runs.scores import Kind

NOT_KNOWN, ROUNDED = "-", "\N{EN DASH}"
"""An entry that is not known, and the detail of an estimate whose interval rounds to the number itself."""
NO_INTERVAL = "(no interval)"
"""The detail of an estimate whose resamples all agree."""
SHOWN_METRICS = ("mean", "iqm")
"""The aggregates that tables show; the median and the optimality gap are in the JSON only."""


@dataclass(frozen=True)
class Entry:
    """One entry of a table.

    :param detail: an interval, or what else is set smaller.
    :param value: what stands in the CSV file in place of the text, numbers as they are, scores as fractions.
    :param interval: what stands there beside the value.
    """

    text: str
    detail: str = ""
    is_bold: bool = False
    value: Any = None
    interval: tuple[float, float] | None = None

    @property
    def plain(self) -> str:
        """The entry on one line."""
        return f"{self.text} {self.detail}".strip()


@dataclass(frozen=True)
class Table:
    """One table."""

    name: str
    title: str
    caption: str
    header: list[str]
    rows: list[list[Entry]]


def method_entry(method: Method) -> Entry:
    """Return the name of a method, marked if runs failed."""
    return Entry(method.title, value=method.name)


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
    if best is None or not (best >= LEAST_BEST or not kind.is_comparable):
        return entry
    is_best = math.isclose(estimate.point, best) or estimate.point > best
    reaches = estimate.interval not in (None, kind.limits) and estimate.interval[1] >= best
    return replace(entry, text=entry.text + ("†" if reaches and not is_best else ""), is_bold=is_best and is_complete)


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
    return Entry(text(estimate.point), detail, value=estimate.point, interval=estimate.interval)


def range_text(ends: tuple[int, int]) -> str:
    """Return the smallest and the largest of some whole numbers as text, e.g. ``"1,000"`` or ``"3 to 12"``."""
    low, high = ends
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
