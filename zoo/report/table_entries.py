"""A table of a report and its entries: texts for readers, with the numbers behind them for programs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from agents.common.files import atomic_path
from zoo.report.statistics.estimates import Estimate, Range
from zoo.runs.scores import ScoreKind

NOT_KNOWN = "-"
"""An entry that is not known."""


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
        """Return a table of rows that all have the same headings; a column without any entry is left out."""
        # objects: pandas would make NaN of None
        frame = pd.DataFrame(rows, dtype=object).map(_entry)
        return cls(name, title, caption, frame.loc[:, (frame != TableEntry(NOT_KNOWN)).any()])

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


def score_entries(
    estimates: Mapping[str, Estimate | None], kind: ScoreKind, complete: Iterable[str]
) -> dict[str, TableEntry]:
    """Return scores that are compared with one another: the best is bold.

    Only the best one, so that bold never contradicts a test that finds another method better.

    :param complete: the methods all of whose runs finished; the others are never bold.
    """
    points = [estimate.point for estimate in estimates.values() if estimate]
    digits = digits_of(kind, estimates.values())
    entries = {}
    for name, estimate in estimates.items():
        entry = number_entry(estimate, kind.scale, digits)
        # where all are equal, such as one alone, none is the best
        if estimate and name in complete and min(points) < max(points):
            entry = replace(entry, is_bold=math.isclose(estimate.point, max(points)))
        entries[name] = entry
    return entries


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
    if estimate.interval is not None:
        low, high = (number_text(scale * end, digits) for end in estimate.interval)
        detail = f"[{low}, {high}]"
    return TableEntry(point, detail, value=estimate.point, interval=estimate.interval)


def range_text(ends: tuple[int, int]) -> str:
    """Return the smallest and the largest of some whole numbers as text, e.g. ``"1,000"`` or ``"3 to 12"``."""
    low, high = ends
    if low == high:
        return f"{low:,}"
    return f"{low:,} to {high:,}"


# -- tables as CSV and LaTeX ------------------------------------------------------------------------------------------


def to_csv(table: Table) -> str:
    """Return a table as CSV, its numbers unrounded, scores as fractions, intervals in two further columns."""
    columns: dict[str, list[Any]] = {}
    for name, entries in table.frame.items():
        columns[name] = [entry.written for entry in entries]
        if any(entry.interval for entry in entries):
            # the detail is these two numbers, rounded
            ends = [entry.interval or (None, None) for entry in entries]
            columns[f"{name} low"], columns[f"{name} high"] = map(list, zip(*ends, strict=True))
        elif any(entry.detail for entry in entries):
            columns[f"{name} detail"] = [entry.detail for entry in entries]
    return pd.DataFrame(columns, dtype=object).to_csv(index=False)


def to_latex(table: Table) -> str:
    """Return a table in LaTeX, which needs the package booktabs."""

    def cell(entry: TableEntry) -> str:
        text = latex(entry.plain)
        return rf"\textbf{{{text}}}" if entry.is_bold else text

    return (
        table.frame.map(cell)
        .rename(columns=latex)
        .to_latex(
            index=False,
            column_format="l" + "c" * (len(table.header) - 1),
            caption=latex(f"{table.title}. {table.caption}"),
            label=f"tab:{table.name}",
            position="t",
        )
    )


_LATEX = str.maketrans({
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "<": "$<$", ">": "$>$", "~": r"$\sim$", "^": r"\^{}", "\\": r"$\backslash$", "‡": r"$^\ddagger$",
    "\N{MINUS SIGN}": "$-$",
})  # fmt: skip


def latex(text: str) -> str:
    """Return a text as LaTeX sets it: pandas knows no minus sign."""
    return text.translate(_LATEX)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all; make its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # not as text, whose line ends differ between systems
    if isinstance(content, str):
        content = content.encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
