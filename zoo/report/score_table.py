"""Scores in CSV files, a row for each evaluation: of published sets, of reports (``scores.csv``) and of suites."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from zoo.terminal.errors import UsageError

RESTORE = "restore the file"


@dataclass(frozen=True)
class ScoreTable:
    """The rows of CSV files, read and checked alike for every kind of file.

    :param rows: indexed by file and row.
    :param remedy: what to do about a damaged file, for messages.
    """

    rows: pd.DataFrame
    remedy: str = RESTORE

    @classmethod
    def read(cls, paths: Sequence[Path], columns: Sequence[str], remedy: str = RESTORE) -> Self:
        """Return the rows of files as texts; a row that was cut in the middle has no method.

        :param columns: that a file must have.
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
        return cls(pd.concat(tables), remedy)

    def with_numbers(self, integers: Sequence[str], reals: Sequence[str] = ()) -> Self:
        """Return the table with some columns as numbers, NaN where a cell is none.

        :param integers: columns of whole numbers.
        :param reals: columns of any numbers.
        """
        columns = {
            name: pd.to_numeric(self.rows[name], errors="coerce") for name in (*integers, *reals)
        }
        for name in integers:
            values = columns[name].astype(float)
            is_whole = np.isfinite(values) & (values % 1 == 0)
            columns[name] = values.where(is_whole)
        return replace(self, rows=self.rows.assign(**columns))

    def refuse(self, problems: Mapping[str, pd.Series]) -> None:
        """Refuse the first row with a problem.

        :param problems: what rows must be, in words -> (rows,) of bool, true where a row is not.
        :raises UsageError: naming the file and the line.
        """
        for expected, is_bad in problems.items():
            if is_bad.any():
                path, row = is_bad.idxmax()
                cells = ", ".join(
                    f"{name} {value}" for name, value in self.rows.loc[path, row].items()
                )
                raise UsageError(
                    f"`{path}`, line {row + 2}: expected {expected}, got {cells}; {self.remedy}"
                )

    def refuse_clashes(self, evaluation: Sequence[str], settings: Sequence[str]) -> None:
        """Refuse rows that repeat an evaluation, or have other settings than the rows of their method above.

        :param evaluation: the columns that name an evaluation.
        """
        place = ["method", "environment"]
        is_other = self.rows.duplicated(place) & ~self.rows.duplicated([*place, *settings])
        self.refuse({
            "one row for each evaluation of a run": self.rows.duplicated(evaluation),
            "equal settings for the runs of a method on an environment": is_other,
        })  # fmt: skip
