"""A table of a report and its entries: texts for readers, with the numbers behind them for programs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from agents.common.files import atomic_path
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


# -- tables as CSV, Markdown and LaTeX --------------------------------------------------------------------------------
# Signs that a font may lack are set in LaTeX's math mode, whose fonts are outlines in every installation.


# HTML would be part of the page that Markdown becomes
_MARKDOWN = str.maketrans({"|": r"\|", "<": "&lt;"})
_LATEX = str.maketrans({
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "<": "$<$", ">": "$>$", "|": "$|$", "~": r"$\sim$", "^": r"\^{}", "\\": r"$\backslash$",
    "†": r"$^\dagger$", "‡": r"$^\ddagger$", "…": r"\dots{}",
    "\N{MINUS SIGN}": "$-$", "\N{EN DASH}": "--",
})  # fmt: skip
# a hyphen before a number that is not inside a name
_MINUS = re.compile(r"(?<![\w)\]-])-(?=\.?\d)")
_LONG = 40  # letters, more than which are broken into lines
_MANY = 6  # columns, more than which have the detail of an entry below it


def to_csv(table: Table) -> str:
    """Return a table as CSV, its numbers unrounded, scores as fractions, intervals in two further columns."""
    columns: dict[str, list[Any]] = {}
    for name, entries in table.frame.items():
        columns[name] = [entry.written for entry in entries]
        details = [entry.detail for entry in entries]
        if any(entry.interval for entry in entries):
            # the detail is these two numbers, rounded
            ends = [entry.interval or (None, None) for entry in entries]
            columns[f"{name} low"], columns[f"{name} high"] = map(list, zip(*ends, strict=True))
        elif any(details):
            columns[f"{name} detail"] = details
    return pd.DataFrame(columns, dtype=object).to_csv(index=False)


def to_markdown(table: Table) -> str:
    """Return a table in Markdown."""

    def cell(entry: TableEntry) -> str:
        text = entry.text
        if entry.is_bold:
            text = f"**{text}**"
        return _markdown(f"{text} {entry.detail}".strip())

    rows = [["---"] * len(table.header), *table.frame.map(cell).to_numpy()]
    lines = [f"**{_markdown(table.title)}.** {_markdown(table.caption)}", ""]
    for cells in [map(_markdown, table.header), *rows]:
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def to_latex(table: Table, width: str = "page") -> str:
    r"""Return a table in LaTeX, made smaller where it is wider than its place; it needs two packages, named in it.

    :param width: where it stands, one of `zoo.report.figures.files.FIGURE_SIZES`.
    """
    place = "table" if width == "column" else "table*"  # across both columns of a paper
    is_wide = len(table.header) > _MANY
    types = ""
    for _, entries in table.frame.items():
        # a column of long texts is broken into lines; the first one is a name, the others are numbers
        if max(len(entry.plain) for entry in entries) > _LONG:
            types += "p{4cm}"
        elif types:
            types += "c"
        else:
            types = "l"
    # the texts are escaped here, since pandas knows fewer signs
    frame = table.frame.map(_latex_cell, is_narrow=is_wide).rename(columns=latex)
    body = frame.to_latex(index=False, column_format=types)
    return rf"""% \usepackage{{adjustbox,booktabs}}; with \usepackage[T1]{{fontenc}} also lmodern, else T1 sets bitmaps
\begin{{{place}}}
\centering
\caption{{{latex(f"{table.title}. {table.caption}")}}}
\label{{tab:{table.name}}}

\smallskip
\begin{{adjustbox}}{{max totalsize={{\linewidth}}{{0.85\textheight}}}}
{body}\end{{adjustbox}}
\end{{{place}}}
"""


def latex(text: str) -> str:
    """Return a text as LaTeX sets it, with a true minus sign before negative numbers."""
    written = _MINUS.sub("\N{MINUS SIGN}", text).translate(_LATEX)
    return re.sub(r"^\[", "{[}", written)  # a line break would read a bracket as its option


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all; make its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):  # not as text: Windows would write other line ends
        content = content.encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _markdown(text: str) -> str:
    return text.translate(_MARKDOWN).replace("](", r"]\(")


def _latex_cell(entry: TableEntry, is_narrow: bool) -> str:
    text = latex(entry.text)
    if entry.text == NOT_KNOWN:
        text = "--"
    if entry.is_bold:
        text = rf"\textbf{{{text}}}"
    if is_narrow and entry.detail:
        return rf"\shortstack{{{text}\\{{\scriptsize {latex(entry.detail)}}}}}"
    return f"{text} {latex(entry.detail)}".strip()
