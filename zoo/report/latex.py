r"""Tables in LaTeX that fit a column or the width of the text without being scaled.

What is said about all rows alike, such as the number of seeds, moves into the caption. A table that is still too wide
or too long is split into several, each with the first column. Signs that a font may lack are set in math mode, whose
fonts are outlines in every installation.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from zoo.report.entries import Entry, Table
from zoo.runs.protocol import PROTOCOL
from zoo.texts import printable

_SIGNS = str.maketrans({
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    "~": r"$\sim$",
    "^": r"\^{}",
    "\\": r"$\backslash$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "…": r"\dots{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
})  # fmt: skip
_MINUS = re.compile(r"(?<![\w)\]-])-(?=\.?\d)")  # a hyphen before a number that is not inside a name

_NARROW, _WIDE = frozenset(" .,;:!|()[]'ijlt1f/-"), frozenset("mwMW%@")
_ABOUT = {"tasks", "seeds", "step", "phase", "protocol", *(field.replace("_", " ") for field in PROTOCOL)}
_PADDING = 4.0  # points between two columns
_LONGEST_TEXT = 24  # letters of a cell on one line
_MOST_LINES = 60


@dataclass(frozen=True)
class Place:
    """Where a table stands: its width and the size of its text in points, and the environment around it."""

    width: float
    size: float
    environment: str


PLACES = {
    "column": Place(234.0, 7.0, "table"),
    "text": Place(486.0, 8.0, "table*"),
    "page": Place(486.0, 8.0, "table*"),
}
"""The places of tables, under the names of `zoo.report.drawing.SHEETS`; 72 points are an inch."""


@dataclass(frozen=True)
class Part:
    """One table as LaTeX: the texts of its rows, the first of which is the header."""

    caption: str
    label: str
    columns: str
    rows: Sequence[str]


def escape(text: str) -> str:
    """Return a text as LaTeX sets it, with a true minus sign before negative numbers."""
    written = _MINUS.sub("\N{MINUS SIGN}", printable(text)).translate(_SIGNS)
    return "{[}" + written[1:] if written.startswith("[") else written  # a line break would read it as its option


def split(table: Table, place: Place) -> list[Part]:
    """Return a table as parts that each fit their place; intervals stand below their numbers where that saves parts."""
    table = _without_constants(table)
    inline = replace(
        table, rows=[[replace(entry, text=_plain(entry), detail="") for entry in row] for row in table.rows]
    )
    is_narrow = sum(_widths(inline, place)) <= place.width
    widths = _widths(inline if is_narrow else table, place)
    lines = max(1, _MOST_LINES // max(1 if is_narrow else _lines(row) for row in table.rows))
    pieces = [
        (block, table.rows[start : start + lines])
        for start in range(0, len(table.rows), lines)
        for block in _blocks(widths, place.width)
    ]
    parts = []
    for k, (block, rows) in enumerate(pieces):
        numbered = f" (part {k + 1} of {len(pieces)})" if len(pieces) > 1 else ""
        header = " & ".join(_stack(map(escape, _broken(table.header[column]))) for column in block)
        body = [" & ".join(_cell(row[column], is_narrow) for column in block) for row in rows]
        columns = "".join(_column_type(table, column, widths[column]) for column in block)
        label = table.name if k == 0 else f"{table.name}_{k + 1}"
        parts.append(Part(table.caption + numbered, label, columns, [header, *body]))
    return parts


def _without_constants(table: Table) -> Table:
    """Return a table without the columns about its scores in which all rows agree, named in the caption instead."""
    about = [k for k, name in enumerate(table.header) if k > 0 and name in _ABOUT]
    constant = [k for k in about if len(table.rows) > 1 and len({row[k].plain for row in table.rows}) == 1]
    if not constant:
        return table
    texts = "; ".join(f"{table.header[k]}: {table.rows[0][k].plain}" for k in constant)
    kept = [k for k in range(len(table.header)) if k not in constant]
    return replace(
        table,
        caption=f"{table.caption.rstrip('.')}. In all rows: {texts}.",
        header=[table.header[k] for k in kept],
        rows=[[row[k] for k in kept] for row in table.rows],
    )


def _blocks(widths: Sequence[float], room: float) -> Iterator[list[int]]:
    """Yield the columns of each part: the first one, and as many others as fit."""
    block, used = [0], widths[0]
    for column in range(1, len(widths)):
        if len(block) > 1 and used + widths[column] > room:
            yield block
            block, used = [0], widths[0]
        block.append(column)
        used += widths[column]
    yield block


def _widths(table: Table, place: Place) -> list[float]:
    """Return how wide each column is, in points; a long text is broken into lines."""
    result = []
    for column, name in enumerate(table.header):
        entries = [row[column] for row in table.rows]
        texts = [*_broken(name), *(text for entry in entries for text in (entry.text, entry.detail))]
        longest = max(map(text_width, texts))
        width = min(longest, _LONGEST_TEXT * 0.55) if _is_long(table, column) else longest
        result.append(width * place.size + _PADDING)
    return result


def text_width(text: str) -> float:
    """Return an upper bound of the width of a text in the fonts of papers, in font sizes."""
    return sum(
        0.36 if sign in _NARROW else 1.05 if sign in _WIDE else 0.86 if sign.isupper() else 0.62 for sign in text
    )


def _is_long(table: Table, column: int) -> bool:
    """Return whether a column holds texts of several lines."""
    return any(len(row[column].text) > _LONGEST_TEXT and not _is_number(row[column]) for row in table.rows)


def _is_number(entry: Entry) -> bool:
    return bool(entry.detail) or entry.text.endswith("]")


def _column_type(table: Table, column: int, width: float) -> str:
    if _is_long(table, column):
        return rf">{{\raggedright\arraybackslash}}p{{{width - _PADDING:.0f}pt}}"
    return "l" if column == 0 else "c"


def _lines(row: Sequence[Entry]) -> int:
    """Return how many lines a row takes."""
    return max(2 if entry.detail else -(-len(entry.text) // _LONGEST_TEXT) for entry in row) or 1


def _broken(name: str) -> list[str]:
    """Return the lines of a column's name."""
    return textwrap.wrap(name, 14) if len(name) > 14 else [name]


def _stack(lines: Iterable[str]) -> str:
    """Return lines on top of one another."""
    joined = r" \\ ".join(lines)
    return rf"\begin{{tabular}}{{@{{}}c@{{}}}}{joined}\end{{tabular}}" if r"\\" in joined else joined


def _plain(entry: Entry) -> str:
    return f"{entry.text} {entry.detail}".strip()


def _cell(entry: Entry, is_inline: bool) -> str:
    """Return an entry with its interval behind or below it, in the same size."""
    text = "--" if entry.text == "-" else escape(entry.text)
    text = rf"\textbf{{{text}}}" if entry.is_bold else text
    if is_inline:
        return f"{text} {escape(entry.detail)}".strip()
    return _stack([text, escape(entry.detail)]) if entry.detail else text
