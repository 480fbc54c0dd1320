"""Runs that did not finish: how many there are, and what those that failed count for.

A comparison of finished runs alone flatters a method whose bad runs die. So every method says how many of its runs
finished, and a failed run keeps its last score to the end. A run that was interrupted, or goes on, has not failed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from zoo.report.comparison import OWN_RUNS, Tally, by_place, joined
from zoo.runs.protocol import phase_ends
from zoo.runs.read import EVALUATION_COLUMNS, RunTables
from zoo.runs.scores import OWN_SCALE, SUCCESS
from zoo.terminal.errors import UsageError


def tallies(tables: RunTables) -> dict[str, dict[str, Tally]]:
    """Return method -> environment -> how many of its runs were started, finished and failed.

    A run that another one of the same seed replaces is not counted.
    """

    def tally(runs: pd.DataFrame) -> Tally:
        finished = int(runs["problem"].isna().sum())
        return Tally(len(runs), finished, int(_has_failed(runs).sum()))

    return by_place(tables.runs[tables.runs["replaced_by"].isna()], tally)


def failed_scores(tables: RunTables, mode: str) -> pd.DataFrame:
    """Return the evaluations of failed runs, carried to the end of each phase, columns `EVALUATION_COLUMNS`.

    A failed run keeps its last score, or has zero, at each later step at which finished runs of its method on its
    environment were evaluated, and at the end of each phase. These rows are marked in the column ``carried``. A run
    that failed before its first evaluation after step 0 has no last score: it counts only as zero.

    :param mode: what they count for: ``last``, ``zero`` or ``exclude``.
    :raises UsageError: if zero is asked for where a return cannot be compared with it.
    """
    # a run that failed before its first evaluation has the kind of the others there
    usual = tables.runs.groupby("environment")["kind"].transform("first").fillna(SUCCESS.name)
    runs = tables.runs.assign(kind=tables.runs["kind"].fillna(usual))
    failed = runs[runs["replaced_by"].isna() & _has_failed(runs)]
    if mode == "exclude" or failed.empty:
        return pd.DataFrame(columns=EVALUATION_COLUMNS)
    counted = tables.counted()
    parts = []
    for row in failed.to_dict("records"):
        if mode == "zero" and row["kind"] in OWN_SCALE:
            raise UsageError(
                f"`--failed zero` needs scores with a zero, got returns of {row['environment']}; give "
                "--reference-scores for it, or --failed last"
            )
        evaluations = tables.evaluations[tables.evaluations["run"] == row["run"]]
        same_method = counted[counted["method"] == row["method"]]
        alike = same_method[same_method["environment"] == row["environment"]]
        due = {*phase_ends(row).items(), *zip(alike["phase"], alike["step"], strict=True)}
        parts.append(_carried(row, evaluations, sorted(due), mode))
    return pd.concat(parts, ignore_index=True)


def describe_tallies(tallies_by_method: Mapping[str, Tally], mode: str) -> list[str]:
    """Return one sentence for each method with runs that did not finish, and what such runs count for.

    :param tallies_by_method: method -> what became of its runs.
    """
    result = [
        f"{name}: {tally} runs finished, {tally.failed} failed (‡), {tally.unfinished} unfinished."
        for name, tally in tallies_by_method.items()
        if not tally.is_complete
    ]
    counts = {
        "last": "count with their last evaluation after step 0, where they have one, kept to the end",
        "zero": "count as zero",
        "exclude": "are left out, so scores are those of the survivors",
    }[mode]
    if result:
        result.append(f"Failed runs {counts} (--failed {mode}). Unfinished ones are left out.")
    return result


def _has_failed(runs: pd.DataFrame) -> pd.Series:
    return runs["problem"].notna() & (runs["state"] == "failed")


def _carried(
    row: Mapping[Hashable, Any], evaluations: pd.DataFrame, due: list[tuple[str, int]], mode: str
) -> pd.DataFrame:
    """Return a failed run's evaluations, and rows in place of those that it never reached.

    :param due: phase and step of every evaluation that the run should have had.
    """
    evaluations = evaluations.sort_values(["phase", "step"])
    if mode == "last" and not (evaluations["step"] > 0).any():  # at step 0 nothing is trained yet
        return evaluations.iloc[:0]
    # what the run and its evaluations have in common, such as its method, stands in both
    last = {"phase": "", "step": -1, "episodes": row["eval_episodes"], "source": OWN_RUNS, **row}
    if len(evaluations):
        last |= evaluations.iloc[-1].to_dict()
    if mode == "zero":
        successes = 0 if last["kind"] == SUCCESS.name else pd.NA
        last |= {"score": 0.0, "successes": successes, "return": np.nan}
    rows = []
    for phase, step in due:
        if (phase, step) > (last["phase"], last["step"]):
            rows.append({**last, "phase": phase, "step": step, "carried": True})
    table = pd.DataFrame(rows, columns=EVALUATION_COLUMNS).astype({"successes": "Int64"})
    return joined([evaluations, table], EVALUATION_COLUMNS)
