"""Texts from labels, paths, files and messages, made harmless for where they are shown."""

from __future__ import annotations

import shlex
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

MOST_PARTS = 8
"""The most parts of a list that a person is shown."""
_FORMULA_BEGINS = ("=", "+", "-", "@")
_LONGEST_LABEL = 200


def printable(text: str, keep: str = "") -> str:
    """Return a text whose control bytes, which a terminal would obey, are written as escapes.

    :param keep: characters that stay, e.g. newlines.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else ascii(sign)[1:-1] for sign in text)


def wrapped(text: str) -> str:
    """Return a text whose lines are broken between words where the terminal is narrower than they are."""
    columns = shutil.get_terminal_size().columns
    break_line = textwrap.TextWrapper(columns, break_long_words=False, break_on_hyphens=False).fill
    return "\n".join(break_line(line) if len(line) > columns else line for line in text.split("\n"))


def in_words(result: Mapping[str, Any]) -> str:
    """Return a program's result for a person: a line for each value that there is, and what to do next.

    A pipe gets all of it as JSON.
    """
    lines = [
        f"{name.replace('_', ' ')}: {_value_in_words(value)}" for name, value in result.items() if value is not None
    ]
    match result:
        case {"next": _}:
            pass
        case {"report": path} | {"video": str(path)} | {"url": path}:
            lines.append(f"next: open {path}")
        case {"study": study, "algo": algo, "env": env}:
            lines.append(f"next: zoo train --algo {algo} --env {env} --study {shlex.quote(study)}")
        case {"runs": [{"run": run}, *_]} | {"run": run}:
            lines.append(f"next: zoo compare {shlex.quote(str(Path(run).parent.parent))} -o report/")
    return "\n".join(lines)


def _value_in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_value_in_words(part)}" for name, part in value.items())
    if isinstance(value, list):
        shown = [_value_in_words(part) for part in value[:MOST_PARTS]]
        if len(value) > MOST_PARTS:
            shown.append(f"and {len(value) - MOST_PARTS} more, which a pipe gets as JSON")
        between = "\n  " if any(isinstance(part, dict) for part in value) else ", "
        return between.removeprefix(", ") + between.join(shown)
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def csv_cell(value: Any) -> Any:
    """Return a value for a cell of a CSV file, which a spreadsheet does not run and a terminal does not obey.

    What would be a formula gets a quote in front. Numbers stay numbers, negative ones and those that are texts too.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    if not text.startswith(_FORMULA_BEGINS):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def csv_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with every cell and heading as `csv_cell` makes it."""
    texts = {name: column.map(csv_cell) for name, column in table.items() if column.dtype.kind == "O"}
    return table.assign(**texts).rename(columns=csv_cell)


def check_label(label: str | None) -> None:
    """Raise UsageError for a label that a table cannot show on one line."""
    if label is not None and not (label.isprintable() and len(label) <= _LONGEST_LABEL):
        raise UsageError(
            f"a label must be at most {_LONGEST_LABEL} characters without line breaks or control bytes, got "
            f"{label[:_LONGEST_LABEL]!a}; it names a row of tables, give a shorter or plainer one"
        )
