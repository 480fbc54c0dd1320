"""Runs that did not finish: how many there are, and what those that failed count for.

A comparison of finished runs alone flatters a method whose bad runs die. So every method says how many of its runs
finished, and a failed run keeps its last score to the end. A run that was interrupted, or goes on, has not failed.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from zoo.report.comparison import Tally, by_place, joined
from zoo.runs.protocol import phase_ends
from zoo.runs.read import EVALUATION_COLUMNS, RunTables


def tallies(tables: RunTables) -> dict[str, dict[str, Tally]]:
    """Return method -> environment -> how many of its runs were started, finished and failed.

    A run that another one of the same seed replaces is not counted.
    """

    def tally(runs: pd.DataFrame) -> Tally:
        finished = int(runs["problem"].isna().sum())
        return Tally(len(runs), finished, int(_has_failed(runs).sum()))

    return by_place(tables.runs[tables.runs["replaced_by"].isna()], tally)


def failed_scores(tables: RunTables) -> pd.DataFrame:
    """Return the evaluations of failed runs, carried to the end of each phase, columns `EVALUATION_COLUMNS`.

    A failed run keeps its last score at each later step at which finished runs of its method on its environment were
    evaluated, and at the end of each phase. At step 0 nothing is trained, so a run without a later evaluation has no
    score to keep.
    """
    runs = tables.runs
    failed = runs[runs["replaced_by"].isna() & _has_failed(runs)]
    counted = tables.counted()
    parts = []
    for row in failed.to_dict("records"):
        evaluations = tables.evaluations[tables.evaluations["run"] == row["run"]]
        evaluations = evaluations.sort_values(["phase", "step"])
        if not (evaluations["step"] > 0).any():
            continue
        alike = counted[
            (counted["method"] == row["method"]) & (counted["environment"] == row["environment"])
        ]
        due = {*phase_ends(row).items(), *zip(alike["phase"], alike["step"], strict=True)}
        last = evaluations.iloc[-1].to_dict()
        carried = [
            {**last, "phase": phase, "step": step}
            for phase, step in sorted(due)
            if (phase, step) > (last["phase"], last["step"])
        ]
        parts += [evaluations, pd.DataFrame(carried, columns=EVALUATION_COLUMNS)]
    return joined(parts, EVALUATION_COLUMNS)


def describe_tallies(tallies_by_method: Mapping[str, Tally]) -> list[str]:
    """Return one sentence for each method with runs that did not finish, and what such runs count for.

    :param tallies_by_method: method -> what became of its runs.
    """
    result = [
        f"{name}: {tally} runs finished, {tally.failed} failed (‡), {tally.unfinished} unfinished."
        for name, tally in tallies_by_method.items()
        if not tally.is_complete
    ]
    if result:
        result.append(
            "Failed runs count with their last evaluation after step 0, where they have one, kept to the end. "
            "Unfinished ones are left out."
        )
    return result


def _has_failed(runs: pd.DataFrame) -> pd.Series:
    return runs["problem"].notna() & (runs["state"] == "failed")
