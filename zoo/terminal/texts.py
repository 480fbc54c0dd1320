"""Texts from labels, paths, files and messages, made harmless for where they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

_FORMULA_BEGINS = ("=", "+", "-", "@")
_LONGEST_LABEL = 200


def printable(text: str, keep: str = "") -> str:
    """Return a text whose control bytes, which a terminal would obey, are written as escapes.

    :param keep: characters that stay, e.g. newlines.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else ascii(sign)[1:-1] for sign in text)


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
