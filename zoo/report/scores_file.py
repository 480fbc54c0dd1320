"""The scores that a report writes, ``scores.csv``: the last evaluation of every run in each phase, and how it was made.

Another report reads them with ``--with``, so that runs can be compared where only their scores are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from zoo.report.comparison import MEAN_COLUMNS, ComparedMethod, Methods, by_place
from zoo.report.published_scores import are_counts, clashes, read_rows, refuse, with_places
from zoo.runs.folder import PHASES
from zoo.runs.protocol import PROTOCOL, show
from zoo.runs.read import EVALUATION_COLUMNS, split_environment
from zoo.runs.scores import SCORE_KINDS

COLUMNS = (
    "method",
    "algorithm",
    "environment",
    "seed",
    "phase",
    "step",
    "successes",
    "episodes",
    "kind",
    "score",
)
"""Columns that a file must have, beside the fields of `zoo.runs.protocol.PROTOCOL`."""
_RUN = ["method", "environment", "seed", "phase"]
_COUNTS = ["seed", "step", "episodes"]
_REMEDY = "take the `scores.csv` that `zoo compare -o` writes, unchanged"


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
        """Return the scores whose value in a column is one of some values."""
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
        """Return the scores with only the methods that have some, restricted to some environments."""
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
    """Return environments and their domains, by which published scores are known."""
    places: set[str] = set()
    for name in environments:
        places.update(split_environment(name)[:2])
    return places


def last_evaluations(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return the last evaluation of each run in each phase, in the order of methods, environments and seeds."""
    return evaluations.sort_values([*_RUN, "step"]).drop_duplicates(_RUN, keep="last")


def scores_table(evaluations: pd.DataFrame, methods: Methods) -> pd.DataFrame:
    """Return the rows of the file: the last evaluations with the protocol of each."""
    table = last_evaluations(evaluations)
    pairs = zip(table["method"], table["environment"], strict=True)
    protocols = [methods[name].protocol_on(environment) for name, environment in pairs]
    return table.assign(**pd.DataFrame(protocols, table.index, list(PROTOCOL), dtype=object))


def read_scores(path: Path, source: str) -> ScoreTables:
    """Return the scores of a file.

    :param source: its name in tables.
    :raises UsageError: if a column is missing, or a row is no score of a run; the text names the file and the line.
    """
    required = [*COLUMNS, *PROTOCOL]
    table = read_rows([path], required, [*_COUNTS, "successes", "score"], _REMEDY)
    # an unknown kind has no limits, so its rows are refused below
    limits = pd.DataFrame({name: kind.limits for name, kind in SCORE_KINDS.items()})
    lowest, highest = limits.reindex(columns=table["kind"]).to_numpy()
    is_good = (
        (table[["method", "environment"]] != "").all(axis=1)
        & table["phase"].isin(PHASES)
        & are_counts(table[_COUNTS])
        & table["score"].between(lowest, highest)
    )
    problems = {f"a score of a run, of kind {', '.join(SCORE_KINDS)}": ~is_good}
    refuse(table, problems | clashes(table, _RUN, PROTOCOL), _REMEDY)
    types = dict.fromkeys(_COUNTS, int) | {"successes": "Int64"}
    # no file has returns and lengths of the scored evaluation
    about = {"source": source, "run": f"{path}", "return": np.nan, "length": np.nan}
    table = with_places(table.assign(**about)).astype(types)
    table["carried"] = table.get("carried") == "True"
    algorithms = table.groupby("method")["algorithm"].first()
    protocols = by_place(
        table, lambda runs: {field: _value(runs[field].iloc[0]) for field in PROTOCOL}
    )
    methods = {}
    for name, protocols_of_method in protocols.items():
        methods[name] = ComparedMethod(name, algorithms[name], source, protocols_of_method)
    return ScoreTables(methods, table[list(EVALUATION_COLUMNS)], pd.DataFrame(columns=MEAN_COLUMNS))


def _value(text: str) -> Any:
    """Return the value of a protocol's field from its text."""
    if text.isdecimal() and show(int(text)).replace(",", "") == text:
        return int(text)
    return {"": None, "True": True, "False": False}.get(text, text)
