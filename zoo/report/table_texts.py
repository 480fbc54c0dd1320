"""Tables as CSV, Markdown and LaTeX.

Signs that a font may lack are set in LaTeX's math mode, whose fonts are outlines in every installation.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from agents.common.files import atomic_path
from zoo.report.table_entries import NOT_KNOWN, Table, TableEntry

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
