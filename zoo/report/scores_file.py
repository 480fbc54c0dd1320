"""The scores that a report writes, ``scores.csv``: the last evaluation of every run in each phase, and how it was made.

Another report reads them with ``--with``, so that runs can be compared where only their scores are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zoo.report.comparison import MEAN_COLUMNS, ComparedMethod
from zoo.report.published_scores import read_texts, refuse_rows
from zoo.runs.folder import PHASES
from zoo.runs.protocol import PROTOCOL, show
from zoo.runs.read import EVALUATION_COLUMNS, split_environment
from zoo.runs.scores import KINDS, SUCCESS

COLUMNS = ("method", "algorithm", "environment", "seed", "phase", "step", "successes", "episodes", "kind", "score")
"""What a file must have, beside the fields of `zoo.runs.protocol.PROTOCOL`."""
_RUN = ["method", "environment", "seed", "phase"]
_COUNTS = ("seed", "step", "episodes")
_REMEDY = "take the `scores.csv` that `zoo compare -o` writes, unchanged"


@dataclass(frozen=True)
class Scored:
    """Scores of one source.

    :param evaluations: of single runs, columns `zoo.runs.read.EVALUATION_COLUMNS`.
    :param means: of methods without single runs, columns `zoo.report.comparison.MEAN_COLUMNS`.
    """

    methods: Mapping[str, ComparedMethod]
    evaluations: pd.DataFrame
    means: pd.DataFrame


def last_evaluations(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return the last evaluation of each run in each phase, in the order of methods, environments and seeds."""
    return evaluations.sort_values([*_RUN, "step"]).drop_duplicates(_RUN, keep="last")


def scores_table(evaluations: pd.DataFrame, methods: Mapping[str, ComparedMethod]) -> pd.DataFrame:
    """Return what the file holds: the last evaluations with the protocol of each."""
    table = last_evaluations(evaluations)
    pairs = zip(table["method"], table["environment"], strict=True)
    protocols = [methods[name].protocol_on(environment) for name, environment in pairs]
    fields = {field: [protocol.get(field) for protocol in protocols] for field in PROTOCOL}
    return table.assign(**{field: pd.Series(values, table.index, object) for field, values in fields.items()})


def read_scores(path: Path, source: str) -> Scored:
    """Return the scores of a file.

    :param source: what tables call it.
    :raises UsageError: if a column is missing, or a row is no score of a run; the text names the file and the line.
    """
    texts = read_texts([path], (*COLUMNS, *PROTOCOL), _REMEDY)
    numbers = {name: pd.to_numeric(texts[name], errors="coerce") for name in (*_COUNTS, "successes", "score")}
    table = texts.assign(**numbers)
    refuse_rows(texts[list(COLUMNS)], _problems(table, texts), _REMEDY)
    places = [split_environment(name) for name in table["environment"]]
    for column, values in zip(("environment", "domain", "task"), zip(*places, strict=True), strict=True):
        table[column] = values
    carried = texts["carried"] == "True" if "carried" in texts else False
    about = {"source": source, "run": f"{path}", "carried": carried, "return": np.nan, "length": np.nan}
    table = table.assign(**about).astype(dict.fromkeys(_COUNTS, int) | {"successes": "Int64"})
    methods = {}
    for name, group in table.groupby("method"):
        protocols = {
            str(environment): {field: _value(part[field].iloc[0]) for field in PROTOCOL}
            for environment, part in group.groupby("environment")
        }
        methods[str(name)] = ComparedMethod(str(name), str(group["algorithm"].iloc[0]), source, protocols)
    return Scored(methods, table[list(EVALUATION_COLUMNS)], pd.DataFrame(columns=list(MEAN_COLUMNS)))


def _problems(table: pd.DataFrame, texts: pd.DataFrame) -> dict[str, pd.Series]:
    """Return what rows should be, and which are not."""
    counts = table[list(_COUNTS)]
    is_rate = table["kind"] == SUCCESS.name
    limits = table["kind"].map({name: kind.limits for name, kind in KINDS.items()})
    low, high = limits.str[0], limits.str[1]
    same = texts.groupby(["method", "environment"])[list(PROTOCOL)].transform("nunique")
    return {
        "a method, an environment and a phase": (texts[["method", "environment"]] == "").any(axis=1)
        | ~table["phase"].isin(PHASES),
        f"a kind of scores, one of {', '.join(KINDS)}": limits.isna(),
        "whole numbers for seed, step and episodes": ~((counts >= 0) & (counts % 1 == 0)).all(axis=1)
        | (counts["episodes"] < 1),
        "a score within the limits of its kind": ~(np.isfinite(table["score"]) & table["score"].between(low, high)),
        "a success rate that is its successes by its episodes": is_rate
        & ~np.isclose(table["score"], table["successes"] / table["episodes"], rtol=0, atol=1e-9),
        "one score of a run in a phase": texts.duplicated(_RUN),
        "one protocol for the runs of a method on an environment": (same > 1).any(axis=1),
    }


def _value(text: str) -> Any:
    """Return a field of a protocol as it was before it became a text."""
    known = {"": None, "True": True, "False": False}
    if text in known:
        return known[text]
    return int(text) if text.isdecimal() and show(int(text)).replace(",", "") == text else text
