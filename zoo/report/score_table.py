"""Scores in CSV files, a row for each evaluation: of published sets, of reports (``scores.csv``) and of suites.

They are read and checked alike. A table of several files is indexed by file and row, so that a message can name both.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from zoo.terminal.errors import UsageError

RESTORE = "restore the file"


def read_rows(
    paths: Sequence[Path],
    columns: Sequence[str],
    numbers: Sequence[str] = (),
    remedy: str = RESTORE,
) -> pd.DataFrame:
    """Return the rows of files as texts; a row that was cut in the middle has no method.

    :param columns: that a file must have.
    :param numbers: the columns to read as numbers, NaN where a cell is none.
    :param remedy: what to do about a damaged file, for messages.
    :raises UsageError: if a file cannot be read, lacks a column or has no rows.
    """
    tables = {}
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
            table = pd.read_csv(
                io.StringIO(text), dtype=str, keep_default_na=False, index_col=False
            ).fillna("")
            missing = [name for name in columns if name not in table]
            if missing:
                raise ValueError(f"it lacks {', '.join(missing)}")
            if table.empty:
                raise ValueError("it has no rows")
        except (OSError, ValueError) as error:  # also errors of pandas and broken UTF-8
            raise UsageError(f"`{path}` cannot be read ({error}); {remedy}") from error
        # a number that was cut short is still a number, so without a method the row is refused
        if not text.endswith("\n"):
            table.iloc[-1:, 0] = ""
        tables[path] = table
    rows = pd.concat(tables)
    return rows.assign(**{name: pd.to_numeric(rows[name], errors="coerce") for name in numbers})


def are_counts(columns: pd.DataFrame) -> pd.Series:
    """Return where all of some columns are whole numbers from 0 on, (rows,) of bool; NaN is none."""
    return ((columns >= 0) & (columns % 1 == 0)).all(axis=1)


def refuse(table: pd.DataFrame, problems: Mapping[str, pd.Series], remedy: str = RESTORE) -> None:
    """Refuse the first row with a problem.

    :param problems: what rows must be, in words -> (rows,) of bool, true where a row is not.
    :raises UsageError: naming the file and the line.
    """
    for expected, is_bad in problems.items():
        if is_bad.any():
            path, row = is_bad.idxmax()
            cells = ", ".join(f"{name} {value}" for name, value in table.loc[path, row].items())
            raise UsageError(
                f"`{path}`, line {row + 2}: expected {expected}, got {cells}; {remedy}"
            )


def clashes(
    table: pd.DataFrame, evaluation: Sequence[str], settings: Sequence[str]
) -> dict[str, pd.Series]:
    """Return the problems of rows that repeat an evaluation, or have other settings than those of their method above.

    :param evaluation: the columns that name an evaluation.
    """
    place = ["method", "environment"]
    return {
        "one row for each evaluation of a run": table.duplicated(evaluation),
        "equal settings for the runs of a method on an environment": (
            table.duplicated(place) & ~table.duplicated([*place, *settings])
        ),
    }
