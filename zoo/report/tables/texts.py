r"""Tables as CSV, Markdown and LaTeX, and files written whole.

Signs that a font may lack are set in LaTeX's math mode, whose fonts are outlines in every installation.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from agents.common.files import atomic_path
from zoo.report.tables.entries import NOT_KNOWN, Entry, Table
from zoo.terminal.texts import csv_cell, printable

_MARKDOWN = str.maketrans({"|": r"\|", "<": "&lt;"})  # HTML would be part of the page that Markdown becomes
_LATEX = str.maketrans({
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    **{sign: f"${sign}$" for sign in "<>|"},
    "~": r"$\sim$",
    "^": r"\^{}",
    "\\": r"$\backslash$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "…": r"\dots{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
})  # fmt: skip
_MINUS = re.compile(r"(?<![\w)\]-])-(?=\.?\d)")  # a hyphen before a number that is not inside a name
_LONG = 40  # letters, more than which are broken into lines
_MANY = 6  # columns, more than which have the detail of an entry below it


def to_csv(table: Table) -> str:
    """Return a table as CSV, its numbers unrounded, scores as fractions, intervals in two further columns."""
    columns: list[list[Any]] = []
    for name, entries in zip(table.header, zip(*table.rows, strict=True), strict=True):
        texts = ["" if entry.text == NOT_KNOWN else entry.text for entry in entries]
        values = [text if e.value is None else e.value for e, text in zip(entries, texts, strict=True)]
        columns.append([name, *values])
        if any(entry.interval for entry in entries):
            ends = [entry.interval or (None, None) for entry in entries]
            columns += [[f"{name} low", *(low for low, _ in ends)], [f"{name} high", *(high for _, high in ends)]]
        elif any(entry.detail for entry in entries):
            columns.append([f"{name} detail", *(entry.detail for entry in entries)])
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(map(csv_cell, row) for row in zip(*columns, strict=True))
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """Return a table in Markdown."""

    def cell(entry: Entry) -> str:
        text, detail = _markdown(entry.text), _markdown(entry.detail)
        return f"**{text}** {detail}".strip() if entry.is_bold else f"{text} {detail}".strip()

    rows = [
        map(_markdown, table.header),
        ["---"] * len(table.header),
        *(map(cell, row) for row in table.rows),
    ]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"**{_markdown(table.title)}.** {_markdown(table.caption)}", "", *lines, ""])


def to_latex(table: Table, width: str = "page") -> str:
    r"""Return a table in LaTeX, made smaller where it is wider than its place; it needs two packages, named in it.

    :param width: where it stands, one of `zoo.report.figures.files.SHEETS`.
    """
    place = "table" if width == "column" else "table*"
    longest = [max(len(entry.plain) for entry in column) for column in zip(*table.rows, strict=True)]
    types = "".join("p{4cm}" if letters > _LONG else "l" if k == 0 else "c" for k, letters in enumerate(longest))
    header, *rows = (
        " & ".join(row) + r" \\"
        for row in (map(latex, table.header), *([_latex_cell(e, len(row) > _MANY) for e in row] for row in table.rows))
    )
    body = "\n".join(rows)
    return rf"""% \usepackage{{adjustbox,booktabs}}; with \usepackage[T1]{{fontenc}} also lmodern, else T1 sets bitmaps
\begin{{{place}}}
\centering
\caption{{{latex(f"{table.title}. {table.caption}")}}}
\label{{tab:{table.name}}}

\smallskip
\begin{{adjustbox}}{{max totalsize={{\linewidth}}{{0.85\textheight}}}}
\begin{{tabular}}{{{types}}}
\toprule
{header}
\midrule
{body}
\bottomrule
\end{{tabular}}
\end{{adjustbox}}
\end{{{place}}}
"""


def latex(text: str) -> str:
    """Return a text as LaTeX sets it, with a true minus sign before negative numbers."""
    written = _MINUS.sub("\N{MINUS SIGN}", printable(text)).translate(_LATEX)
    return "{[}" + written[1:] if written.startswith("[") else written  # a line break would read it as its option


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all; make its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())


def _markdown(text: str) -> str:
    return printable(text).translate(_MARKDOWN).replace("](", r"]\(")


def _latex_cell(entry: Entry, is_narrow: bool) -> str:
    text = "--" if entry.text == NOT_KNOWN else latex(entry.text)
    text = rf"\textbf{{{text}}}" if entry.is_bold else text
    if is_narrow and entry.detail:
        return rf"\shortstack{{{text}\\{{\scriptsize {latex(entry.detail)}}}}}"
    return f"{text} {latex(entry.detail)}".strip()
