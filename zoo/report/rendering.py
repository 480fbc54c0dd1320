"""Tables as CSV, Markdown and LaTeX, and the templates of all texts."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import jinja2

from zoo.report.tables import Table

_LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_LATEX |= {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "†": r"\textsuperscript{\dag}",
}
_LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}"}


def to_csv(table: Table) -> str:
    """Return a table's numbers as CSV.

    :param table: the table.
    :return: the text, one line a number, scores as fractions.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(table.data[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.data)
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """Return a table in Markdown.

    :param table: the table.
    :return: the text.
    """
    return templates().get_template("table.md").render(table=table)


def to_latex(table: Table) -> str:
    r"""Return a table in LaTeX; it needs ``\usepackage{booktabs,graphicx}``.

    :param table: the table.
    :return: the text.
    """
    return templates().get_template("table.tex").render(table=table)


def templates(autoescape: bool = False) -> jinja2.Environment:
    """Return the templates of the page and the tables.

    :param autoescape: whether values are escaped for HTML.
    :return: the templates with the filters ``latex`` and ``markdown``.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["latex"] = lambda text: re.sub(r"[&%$#_{}~^\\†<>]", lambda match: _LATEX[match[0]], text)
    environment.filters["markdown"] = lambda text: text.replace("|", r"\|")
    return environment
