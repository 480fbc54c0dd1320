"""Tables of scores in CSV files and on Markdown pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from agents.common.files import atomic_path, write_text
from zoo.terminal.errors import UsageError


def to_markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown, without its index; pandas' own `to_markdown` needs another package."""
    lines = [
        f"| {' | '.join(map(str, cells))} |"
        for cells in (table.columns, *table.astype(object).to_numpy())
    ]
    lines.insert(1, "|" + "---|" * table.shape[1])
    return "\n".join(lines)


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return the table in a CSV file, or an empty table if the file does not exist.

    :raises UsageError: if the file has other columns.
    """
    table = pd.DataFrame(columns=columns)
    if path.exists():
        table = pd.read_csv(path)
    if list(table.columns) != list(columns):
        raise UsageError(
            f"expected the columns {','.join(columns)} in {path}, got {','.join(table.columns)}"
        )
    return table


def merge_tables(tables: Sequence[pd.DataFrame], key: Sequence[str]) -> pd.DataFrame:
    """Return the rows of several tables, sorted by a key; of rows with equal keys, only the last is kept."""
    # pandas warns about empty tables
    filled = [table for table in tables if len(table)] or tables[:1]
    merged = pd.concat(filled).drop_duplicates(key, keep="last")
    return merged.sort_values(key, ignore_index=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, completely or not at all."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def replace_marked(page: Path, begin: str, end: str, text: str) -> None:
    """Replace the text between two markers of a page.

    :raises UsageError: if the page lacks a marker.
    """
    head, _, marked = page.read_text(encoding="utf-8").partition(begin)
    _, mark, tail = marked.partition(end)
    if not mark:
        raise UsageError(f"expected the markers {begin!r} and {end!r} in {page}; put them back")
    write_text(page, f"{head}{begin}{text}{end}{tail}")
