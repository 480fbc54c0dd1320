"""Scores in files: one tidy CSV format for published sets and for exchange between reports.

A row with a seed is an evaluation of a run. A row without a seed is a published mean over several seeds; the column
``seeds`` contains their number. Scores are success rates as fractions, unless the column ``kind`` names another kind.
Unknown columns are ignored.

Published sets are in ``results/published``, both in a checkout and in an installed package; ``sets.yml`` describes
them.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from agents.common.validation import unknown_name_message
from zoo.datasets.names import split_environment, tasks_of
from zoo.report.comparison import ComparedMethod, Methods
from zoo.runs.folder import PHASES
from zoo.runs.protocol import describe_layers
from zoo.runs.scores import SCORE_KINDS, SUCCESS
from zoo.runs.versions import simulator
from zoo.settings.layers import read_yaml
from zoo.terminal.errors import UsageError

FOLDER = Path(__file__).resolve().parents[2] / "results" / "published"
COLUMNS = ("method", "env", "phase", "seed", "step", "score", "episodes")
"""Columns of a score file; other columns are optional."""
_NUMBERS = ("seed", "seeds", "step", "score", "episodes", "return")
_RUN = ["method", "environment", "seed", "phase"]


@dataclass(frozen=True)
class ScoreTables:
    """Scores of one source.

    :param table: evaluations of single runs, columns `zoo.runs.read.EVALUATION_COLUMNS`, of which files lack some, and
        means of methods whose single runs are unknown, with a number in ``seeds`` instead of ``seed``.
    """

    methods: Methods
    table: pd.DataFrame

    @property
    def evaluations(self) -> pd.DataFrame:
        """The evaluations of single runs."""
        return self.table[self.table["seed"].notna()]

    def only(self, column: str, values: Collection[str]) -> Self:
        """Return the scores that have one of the given values in a column."""
        return replace(self, table=self.table[self.table[column].isin(values)])

    def renamed(self, names: Mapping[str, str]) -> Self:
        """Return the scores with renamed methods.

        :param names: old name -> new name, for every method.
        """
        methods = {names[name]: method for name, method in self.methods.items()}
        table = self.table.assign(method=self.table["method"].map(names))
        return replace(self, methods=methods, table=table)

    def restricted(self, environments: Iterable[str]) -> Self:
        """Leave out methods without scores; the remaining methods describe only the given environments."""
        with_scores = {*self.table["method"]}
        # protocols and tallies are stored under either name
        places = set().union(*map(split_environment, environments))
        methods = {}
        for name, method in self.methods.items():
            if name in with_scores:
                methods[name] = method.only(places)
        return replace(self, methods=methods)


def last_evaluations(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return the last evaluation of each run in each phase, sorted by method, environment and seed."""
    return evaluations.sort_values([*_RUN, "step"]).drop_duplicates(_RUN, keep="last")


def scores_table(evaluations: pd.DataFrame, methods: Methods) -> pd.DataFrame:
    """Return evaluations with the columns of a score file, plus source and length, which `read_scores` ignores."""
    # sort the rows, so that a report has the same bytes whatever the order of folders
    table = evaluations.sort_values([*_RUN, "step"])
    table = table.rename(columns={"environment": "env"})
    sources = {name: method.source for name, method in methods.items()}
    table["source"] = table["method"].map(sources)
    return table.reindex(columns=[*COLUMNS, "source", "kind", "return", "length"])


def read_scores(path: Path, source: str) -> ScoreTables:
    """Return the scores of a file.

    :param path: a CSV file, compressed if its name ends in ``.gz``.
    :param source: name of the file's scores in tables.
    :raises UsageError: if the file cannot be read or a row is invalid; the message names the file and the line.
    """
    table = _read_rows(path)
    _check_rows(table, path)
    # a task may have several names
    table[["environment", "domain"]] = [*map(split_environment, table.pop("env"))]
    # sorted, so that a report does not depend on the order of rows
    methods = {name: ComparedMethod(name, source) for name in sorted(table["method"].unique())}
    return ScoreTables(methods, table.astype({"seed": "Int64"}))


def _read_rows(path: Path) -> pd.DataFrame:
    """Return the rows of a file: `COLUMNS`, ``seeds``, ``kind`` and ``return``; NaN for missing numbers."""
    try:
        texts = dict.fromkeys(("method", "env", "phase", "kind"), str)
        # no default NA values: a method may be called `NA`; `round_trip` reads exactly the numbers that were written
        table = pd.read_csv(path, dtype=texts, keep_default_na=False, float_precision="round_trip")
        missing = [name for name in COLUMNS if name not in table]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        if table.empty:
            raise ValueError("it has no rows")
    # ValueError includes parser errors of pandas and invalid UTF-8
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UsageError(
            f"`{path}` cannot be read ({error}); expected a file of scores, such as `scores.csv` of a report"
        ) from error
    table = table.assign(kind=table.get("kind", SUCCESS.name))
    # without unknown columns, which may have the names of columns that are added later
    table = table.reindex(columns=[*COLUMNS, "seeds", "kind", "return"])
    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in _NUMBERS}
    return table.assign(**numbers)


def _check_rows(table: pd.DataFrame, path: Path) -> None:
    """Raise UsageError for a row that is not a valid score or repeats another row."""
    # an unknown kind has NaN as limits, so its rows are rejected
    limits = pd.DataFrame({name: kind.limits for name, kind in SCORE_KINDS.items()})
    lowest, highest = limits.reindex(columns=table["kind"]).to_numpy()
    counts = table[["seed", "step", "episodes"]].assign(seed=table["seed"].fillna(table["seeds"]))
    named = (table[["method", "env"]] != "").all(axis=1)
    counted = ((counts >= 0) & (counts % 1 == 0)).all(axis=1) & (counts["episodes"] > 0)
    # a task may have several names
    names = table.assign(env=table["env"].map(lambda name: split_environment(name)[0]))
    repeated = names.duplicated(["method", "env", "phase", "seed", "step"])
    has_seed = table["seed"].notna()
    mixed = has_seed.groupby(table["method"]).transform("any")
    several = names.duplicated(["method", "env", "phase", "seed"])
    conditions = {
        "a method and an environment": named,
        f"one of the phases {', '.join(PHASES)}": table["phase"].isin(PHASES),
        "whole numbers as seed (or seeds), step and episodes (at least 1)": counted,
        "a score in the range of its kind, e.g. success from 0 to 1": table["score"].between(
            lowest, highest
        )
        & np.isfinite(table["score"]),
        "a seed in each row of a method, or success and one step without a seed": has_seed
        | (table["kind"] == SUCCESS.name) & ~mixed & ~several,
        "one row for each evaluation": ~repeated,
    }
    for expected, is_good in conditions.items():
        is_bad = ~is_good
        if is_bad.any():
            row = int(is_bad.argmax())
            cells = ", ".join(f"{name} {value}" for name, value in table.iloc[row].items())
            raise UsageError(
                f"`{path}`, line {row + 2}: expected {expected}, got {cells}; correct this line"
            )


# -- published sets ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedSet:
    """A set of published scores, with the fields of its entry in ``sets.yml``.

    :param suite: name of the set's list of tasks.
    :param protocol: protocol of most domains, fields of `zoo.runs.protocol.PROTOCOL`.
    :param domains: domain -> the fields that differ from ``protocol``.
    :param methods: method -> the fields that differ from ``protocol``; the key ``domains`` contains domain -> the
        fields that differ on this domain.
    """

    name: str
    title: str
    authors: str
    reference: str
    date: Any
    source: str
    suite: str
    protocol: dict[str, Any]
    notes: Sequence[str] = ()
    domains: dict[str, dict[str, Any]] = field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)

    def protocol_of(self, method: str, domain: str) -> dict[str, Any]:
        """Return the protocol of a method on a domain, fields of `zoo.runs.protocol.PROTOCOL`, None if unstated."""
        protocol = self.protocol | self.domains.get(domain, {})
        protocol |= self.methods.get(method, {})
        protocol |= protocol.pop("domains", {}).get(domain, {})
        return protocol | {
            "net_arch": describe_layers(protocol.get("net_arch")),
            "mujoco": simulator(domain, protocol.get("mujoco")),
        }

    @cached_property
    def scores(self) -> ScoreTables:
        """Published scores, with each method's protocol; raises UsageError if the file is damaged.

        Two methods' runs with equal seeds are not pairs, because the order of seeds differs between tasks and methods.
        """
        path = FOLDER / f"{self.name}.csv"
        if not path.exists():
            path = FOLDER / f"{self.name}.csv.gz"
        tables = read_scores(path, self.name)
        domains = sorted({*tables.table["domain"]})
        methods = {}
        for name in tables.methods:
            protocols = {domain: self.protocol_of(name, domain) for domain in domains}
            methods[name] = ComparedMethod(name, self.name, protocols)
        return replace(tables, methods=methods)


def load_set(name: str) -> PublishedSet:
    """Return a set of published scores; raises UsageError if it does not exist."""
    sets = _metadata()["sets"]
    if name not in sets:
        raise UsageError(unknown_name_message("set of published scores", name, sets))
    return PublishedSet(name, **sets[name])


def set_names() -> list[str]:
    """Return the names of all sets."""
    return list(_metadata()["sets"])


def suite_tasks(name: str) -> set[str]:
    """Return the environments of a suite."""
    return set().union(*map(tasks_of, _metadata()["suites"][name]))


def suite_of(tasks: Collection[str]) -> str | None:
    """Return the suite that consists of some tasks, or None."""
    for name in _metadata()["suites"]:
        if suite_tasks(name) == set(tasks):
            return name
    return None


def published_names() -> dict[str, str]:
    """Return algorithm -> its name in published scores, e.g. ``"qam_e"`` -> ``"QAM-E"``."""
    return dict(_metadata()["methods"])


def _metadata() -> dict[str, Any]:
    return dict(read_yaml(FOLDER / "sets.yml", "the list of published sets"))
