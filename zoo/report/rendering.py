"""Tables as CSV, Markdown and LaTeX, the templates of all texts, and files written whole."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import jinja2

from agents.common.files import atomic_path
from zoo.report import latex
from zoo.report.entries import Table
from zoo.texts import csv_cell, printable

_MARKDOWN = str.maketrans({"|": r"\|", "<": "&lt;"})  # HTML would be part of the page that Markdown becomes


def to_csv(table: Table) -> str:
    """Return a table's numbers as CSV, one line for each, scores as fractions."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(table.data[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in table.data)
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """Return a table in Markdown."""
    return templates().get_template("table.md").render(table=table)


def to_latex(table: Table, width: str = "page") -> str:
    r"""Return a table in LaTeX; it needs ``\usepackage{array,booktabs}``.

    :param width: where it stands, one of `zoo.report.latex.PLACES`.
    """
    place = latex.PLACES[width]
    return templates().get_template("table.tex").render(parts=latex.split(table, place), place=place)


def templates(autoescape: bool = False) -> jinja2.Environment:
    """Return the templates of the page and the tables; ``autoescape`` escapes values for HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.do"],
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters["latex"] = latex.escape
    environment.filters["braced"] = lambda text: f"{{{text}}}"
    environment.filters["markdown"] = lambda text: printable(text).translate(_MARKDOWN).replace("](", r"]\(")
    return environment


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all; make its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())
