"""A table of a report and its entries: texts for readers, with the numbers behind them for programs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from zoo.report.comparison import FAILED_BELOW
from zoo.report.statistics.estimates import UNSURE, Estimate, Range
from zoo.runs.scores import ScoreKind

NOT_KNOWN, ROUNDED = "-", "\N{EN DASH}"
"""An entry that is not known, and the detail of an estimate whose interval rounds to the number itself."""
NO_INTERVAL = "(no interval)"
"""The detail of an estimate whose resamples all agree."""


@dataclass(frozen=True)
class TableEntry:
    """One entry of a table.

    :param detail: an interval, or what else is set smaller.
    :param value: what stands in the CSV file in place of the text, numbers as they are, scores as fractions.
    :param interval: what stands there beside the value.
    """

    text: str
    detail: str = ""
    is_bold: bool = False
    value: Any = None
    interval: Range | None = None

    @property
    def plain(self) -> str:
        """The entry on one line."""
        return f"{self.text} {self.detail}".strip()

    @property
    def written(self) -> Any:
        """What stands in the CSV file."""
        if self.value is not None:
            return self.value
        if self.text == NOT_KNOWN:  # programs read an empty field as a missing value
            return ""
        return self.text


Row = Mapping[str, Any]
"""Heading -> a `TableEntry`, a text, or None for what is not known."""


@dataclass(frozen=True)
class Table:
    """One table, a `TableEntry` in each cell of its frame."""

    name: str
    title: str
    caption: str
    frame: pd.DataFrame

    @classmethod
    def of(cls, name: str, title: str, caption: str, rows: Sequence[Row]) -> Table:
        """Return a table of rows that all have the same headings."""
        # objects: pandas would make NaN of None
        return cls(name, title, caption, pd.DataFrame(rows, dtype=object).map(_entry))

    @property
    def header(self) -> list[str]:
        """Its headings."""
        return list(self.frame)

    @property
    def rows(self) -> list[list[TableEntry]]:
        """Its entries."""
        return self.frame.to_numpy().tolist()


def _entry(content: TableEntry | str | None) -> TableEntry:
    if isinstance(content, TableEntry):
        return content
    return TableEntry(content or NOT_KNOWN)


def digits_of(kind: ScoreKind, estimates: Iterable[Estimate | None]) -> int:
    """Return how many decimals to show of estimates that stand side by side."""
    values = []
    for estimate in filter(None, estimates):
        values += [estimate.point, *(estimate.interval or ())]
    return kind.digits(values)


def score_entry(
    estimate: Estimate | None, kind: ScoreKind, digits: int, best: float, is_complete: bool = True
) -> TableEntry:
    """Return a score, bold if it is the best and with a dagger if its interval reaches the best.

    Only the best one, so that bold never contradicts a test that finds another method better.

    :param is_complete: whether all runs behind it finished; else it is not bold.
    """
    entry = number_entry(estimate, kind.scale, digits)
    # where all methods fail, the best of them is no better than another
    if estimate is None or (kind.is_comparable and best < FAILED_BELOW):
        return entry
    if math.isclose(estimate.point, best) or estimate.point > best:
        return replace(entry, is_bold=is_complete)
    # an interval of the whole scale reaches everything, since one seed or two say nothing
    if estimate.interval not in (None, kind.limits) and estimate.interval[1] >= best:
        return replace(entry, text=f"{entry.text}†")
    return entry


def number_text(value: float, digits: int, sign: str = "-") -> str:
    """Return a number with some decimals and a true minus sign.

    :param sign: ``"+"`` where positive numbers have a sign too.
    """
    # a tie is decided by its value, not by the order in which it was summed; z: zero has no sign
    return f"{round(value, 9):{sign}z,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def number_entry(estimate: Estimate | None, scale: float, digits: int) -> TableEntry:
    """Return an estimate with its interval."""
    if estimate is None:
        return TableEntry(NOT_KNOWN)

    point = number_text(scale * estimate.point, digits)
    detail = ""
    if estimate.kind == UNSURE:
        detail = NO_INTERVAL
    elif estimate.interval is not None:
        low, high = (number_text(scale * end, digits) for end in estimate.interval)
        detail = f"[{low}, {high}]"
        if low == high == point:  # as brackets they would look certain
            detail = ROUNDED
    return TableEntry(point, detail, value=estimate.point, interval=estimate.interval)


def range_text(ends: tuple[int, int]) -> str:
    """Return the smallest and the largest of some whole numbers as text, e.g. ``"1,000"`` or ``"3 to 12"``."""
    low, high = ends
    if low == high:
        return f"{low:,}"
    return f"{low:,} to {high:,}"
