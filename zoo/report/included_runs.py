"""Single runs that come with the code: CSV files with one row for each evaluation, and how many of them there are."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from agents.common.files import regular_file
from zoo.errors import UsageError
from zoo.runs.history import PHASES
from zoo.runs.protocol import shortened

STAMPS = ("settings", "commit", "ogbench", "mujoco", "dataset")
"""What made a run: a hash of its settings, the commit of the code, versions of packages, and the SHA-256 of its data.

A stamp is empty where it is not known.
"""
COLUMNS = (
    "method", "environment", "seed", "phase", "step", "successes", "episodes", "return", "length", *STAMPS,
)  # fmt: skip
"""Columns of a file."""

_COUNTS = ["seed", "step", "successes", "episodes"]
_MEASURES = ["return", "length"]  # may be empty
_RUN = ["method", "environment", "seed"]


@dataclass(frozen=True)
class Progress:
    """How many of the planned runs are finished.

    :param missing: method -> its number of finished runs, where some are missing.
    :param each: the planned runs of one method.
    """

    finished: int
    planned: int
    missing: Mapping[str, int]
    each: int

    def describe(self) -> str:
        """Return how many runs are finished, and which are missing."""
        text = f"{self.finished} of {self.planned} planned runs are finished"
        missing = shortened(f"{method} has {number} of {self.each}" for method, number in self.missing.items())
        return ": ".join(filter(None, (text, ", ".join(missing))))


def read_included_runs(folder: Path, tasks: Collection[str]) -> pd.DataFrame:
    """Return the rows of all CSV files of a folder, with the columns `COLUMNS`.

    :param tasks: the environments that rows may be about.
    :raises UsageError: if there is no file, or one is damaged; the text names the file and the line.
    """
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise UsageError(f"expected CSV files of single runs in `{folder}`, got none; install the package again")
    table = _checked(pd.concat({path: read_texts(path, COLUMNS) for path in files}), tasks)
    repeated = table[table.duplicated([*_RUN, "phase", "step"])]
    if len(repeated):
        raise UsageError(
            f"expected one row for each evaluation of a run, got several for {', '.join(map(str, repeated.iloc[0]))} "
            f"in `{folder}`; remove all but one"
        )
    settings = table.groupby(["method", "environment"])["settings"].transform("nunique")
    if (settings > 1).any():
        row = table[settings > 1].iloc[0]
        raise UsageError(
            f"expected runs of one method on one environment to have the same settings, got several hashes for "
            f"{row['method']} on {row['environment']} in `{folder}`; give the others a method name of their own"
        )
    return table


def finished_runs(table: pd.DataFrame, last_steps: Callable[[str, str], Mapping[str, int]]) -> pd.DataFrame:
    """Return the rows of runs that were evaluated at the end of each of their phases.

    :param table: what `read_included_runs` returns.
    :param last_steps: (method, environment) -> the step at which each of its phases ends.
    """
    reached = table.groupby([*_RUN, "phase"])["step"].max()
    wanted = {pair: last_steps(*pair) for pair in set(zip(table["method"], table["environment"], strict=True))}
    is_finished = [
        all(reached.get((*run, phase), -1) >= end for phase, end in wanted[run[:2]].items())
        for run in zip(*(table[name] for name in _RUN), strict=True)
    ]
    return table[np.array(is_finished, dtype=bool)]


def check_progress(finished: pd.DataFrame, methods: Sequence[str], tasks: Sequence[str], seeds: int) -> Progress:
    """Return how many runs are finished of so many seeds of each method on each task; others do not count."""
    found = finished.groupby(["method", "environment"])["seed"].nunique().clip(upper=seeds)
    runs = {method: sum(int(found.get((method, task), 0)) for task in tasks) for method in methods}
    each = len(tasks) * seeds
    missing = {method: number for method, number in runs.items() if number < each}
    return Progress(sum(runs.values()), len(methods) * each, missing, each)


def read_texts(path: Path, columns: Sequence[str], remedy: str = "restore the file") -> pd.DataFrame:
    """Return one file's rows as texts; what ends in the middle of a line was cut, and has no method there.

    :param columns: that the file must have.
    :param remedy: what to do where it cannot be read.
    """
    try:
        text = regular_file(path).read_text(encoding="utf-8")
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, index_col=False)
        if missing := [name for name in columns if name not in table]:
            raise ValueError(f"it lacks {', '.join(missing)}")
    except (OSError, ValueError) as error:  # pandas' own errors and broken UTF-8 are ValueErrors
        raise UsageError(f"`{path}` cannot be read ({error}); {remedy}") from error
    table = table.fillna("")
    if not text.endswith("\n"):
        table.iloc[-1:, 0] = ""
    return table


def _checked(table: pd.DataFrame, tasks: Collection[str]) -> pd.DataFrame:
    """Return the rows of all files in the right types.

    :param table: texts, by file and row.
    """
    counts, measures = (table[names].apply(pd.to_numeric, errors="coerce") for names in (_COUNTS, _MEASURES))
    is_good = (
        (table["method"] != "")
        & table["environment"].isin(tasks)
        & table["phase"].isin(PHASES)
        & ((counts >= 0) & (counts % 1 == 0)).all(axis=1)
        & (counts["episodes"] >= counts["successes"].clip(lower=1))
        & (np.isfinite(measures) | (table[_MEASURES] == "")).all(axis=1)
    )
    if not is_good.all():
        path, row = is_good.idxmin()
        raise UsageError(
            f"`{path}`, line {row + 2}: expected an evaluation on a task of the set's suite, got "
            f"{', '.join(table.loc[path, row])}; restore the file"
        )
    return table.assign(**counts.astype(int), **measures).reset_index(drop=True)
