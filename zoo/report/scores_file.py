"""Files of scores: one tidy CSV format for published sets and for exchange between reports.

A row is an evaluation of a run. A row without a seed is a published mean over several seeds, with their number in
the column ``seeds``. Scores are fractions, or returns according to the column ``kind``; other columns are ignored.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from zoo.report.comparison import MEAN_COLUMNS, ComparedMethod, Methods
from zoo.runs.folder import PHASES
from zoo.runs.read import EVALUATION_COLUMNS, split_environment
from zoo.runs.scores import SCORE_KINDS, SUCCESS
from zoo.terminal.errors import UsageError

COLUMNS = ("method", "env", "phase", "seed", "step", "score", "episodes", "source")
_NUMBERS = ("seed", "seeds", "step", "score", "episodes")
_RUN = ["method", "environment", "seed", "phase"]


@dataclass(frozen=True)
class ScoreTables:
    """Scores of one source.

    :param evaluations: of single runs, columns `zoo.runs.read.EVALUATION_COLUMNS`.
    :param means: of methods without single runs, columns `zoo.report.comparison.MEAN_COLUMNS`.
    """

    methods: Methods
    evaluations: pd.DataFrame
    means: pd.DataFrame

    def only(self, column: str, values: Collection[str]) -> Self:
        """Return the scores with one of some values in a column."""
        runs = self.evaluations
        means = self.means
        return replace(
            self,
            evaluations=runs[runs[column].isin(values)],
            means=means[means[column].isin(values)],
        )

    def renamed(self, names: Mapping[str, str]) -> Self:
        """Return the scores of methods under other names."""
        methods = {}
        for name, method in self.methods.items():
            methods[names[name]] = replace(method, name=names[name])
        evaluations = with_names(self.evaluations, names)
        return replace(
            self, methods=methods, evaluations=evaluations, means=with_names(self.means, names)
        )

    def restricted(self, environments: Iterable[str]) -> Self:
        """Return the scores without empty methods, with methods restricted to some environments."""
        with_scores = {*self.evaluations["method"], *self.means["method"]}
        places = places_of_scores(environments)
        methods = {}
        for name, method in self.methods.items():
            if name in with_scores:
                methods[name] = method.only(places)
        return replace(self, methods=methods)


def with_names(table: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Return a table whose methods have other names."""
    return table.assign(method=table["method"].map(names).fillna(table["method"]))


def places_of_scores(environments: Iterable[str]) -> set[str]:
    """Return environments and their domains, the keys of published scores."""
    places: set[str] = set()
    for name in environments:
        places.update(split_environment(name)[:2])
    return places


def last_evaluations(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return the last evaluation of each run in each phase, in the order of methods, environments and seeds."""
    return evaluations.sort_values([*_RUN, "step"]).drop_duplicates(_RUN, keep="last")


def scores_table(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return evaluations in the columns of a file of scores, and two columns that are not read."""
    # independent of the order of folders: a report has the same bytes on every machine
    table = evaluations.sort_values([*_RUN, "step"], kind="stable")
    table = table.rename(columns={"environment": "env"})
    return table.reindex(columns=[*COLUMNS, "kind", "return", "length"])


def read_scores(path: Path, source: str) -> ScoreTables:
    """Return the scores of a file.

    :param path: a CSV file, compressed if it ends in ``.gz``.
    :param source: its name in tables.
    :raises UsageError: if it cannot be read, or a row is no score; the text names the file and the line.
    """
    table = _read_rows(path)
    _check_rows(table, path)
    table = with_places(table.rename(columns={"env": "environment"}))
    about = {"source": source, "run": str(path), "return": np.nan, "length": np.nan}
    table = table.assign(algorithm=table["method"], **about)
    is_mean = table["seed"].isna()
    runs = table[~is_mean].astype({"seed": int})
    means = table[is_mean].rename(columns={"score": "mean"})
    methods = {name: ComparedMethod(name, name, source) for name in table["method"].unique()}
    return ScoreTables(methods, runs[list(EVALUATION_COLUMNS)], means[list(MEAN_COLUMNS)])


def with_places(table: pd.DataFrame) -> pd.DataFrame:
    """Return scores with the full name of each environment, its domain and its task."""
    columns = ["environment", "domain", "task"]
    # each name is split once: a set has hundreds of thousands of rows
    places = {name: split_environment(name) for name in table["environment"].unique()}
    rows = pd.DataFrame.from_dict(places, "index", columns=columns).loc[table["environment"]]
    return table.assign(**rows.set_index(table.index))


def _read_rows(path: Path) -> pd.DataFrame:
    """Return the rows of a file with the columns `COLUMNS`, ``seeds`` and ``kind``; NaN for missing numbers."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        texts = dict.fromkeys(("method", "env", "phase", "source", "kind"), str)
        # a method may be called `NA`; `round_trip` reads the very numbers that were written
        table = pd.read_csv(
            io.BytesIO(content), dtype=texts, keep_default_na=False, float_precision="round_trip"
        )
        missing = [name for name in COLUMNS if name not in table]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        if table.empty:
            raise ValueError("it has no rows")
    # also errors of pandas and broken UTF-8
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UsageError(
            f"`{path}` cannot be read ({error}); expected a file of scores, such as `scores.csv` of a report"
        ) from error
    table = table.assign(seeds=table.get("seeds", ""), kind=table.get("kind", SUCCESS.name))
    for name in _NUMBERS:
        table[name] = pd.to_numeric(table[name], errors="coerce")
    return table


def _check_rows(table: pd.DataFrame, path: Path) -> None:
    """Raise UsageError for the first row that is no score, or that repeats one."""
    # an unknown kind has no limits, so its rows are rejected
    limits = pd.DataFrame({name: kind.limits for name, kind in SCORE_KINDS.items()})
    lowest, highest = limits.reindex(columns=table["kind"]).to_numpy()
    counts = table[["seed", "step", "episodes"]].assign(seed=table["seed"].fillna(table["seeds"]))
    named = (table[["method", "env"]] != "").all(axis=1)
    counted = ((counts >= 0) & (counts % 1 == 0)).all(axis=1)
    repeated = table.duplicated(["method", "env", "phase", "seed", "step"])
    conditions = {
        "a method and an environment": named,
        f"a phase of {', '.join(PHASES)}": table["phase"].isin(PHASES),
        "a seed or seeds, a step and episodes that are whole numbers": counted,
        "a score of its kind, such as success from 0 to 1": table["score"].between(lowest, highest),
        "one row for each evaluation": ~repeated,
    }
    for expected, is_good in conditions.items():
        is_bad = ~is_good
        if is_bad.any():
            row = int(is_bad.argmax())
            cells = ", ".join(f"{name} {value}" for name, value in table.iloc[row].items())
            raise UsageError(
                f"`{path}`, line {row + 2}: expected {expected}, got {cells}; restore the file"
            )
