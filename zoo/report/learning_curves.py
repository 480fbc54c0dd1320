"""Learning curves of methods: scores at every evaluation, over several runs and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from zoo.report.statistics import aggregates as statistics
from zoo.report.statistics.estimates import Curve
from zoo.report.statistics.resampling import in_parallel
from zoo.runs.scores import Kind


@dataclass(frozen=True)
class LearningCurve:
    """Scores of one method at its evaluations.

    :param steps: gradient steps, then environment steps on top, shape (K,).
    :param seeds: the smallest and the largest number of runs of a task.
    :param mean: mean at each step.
    :param iqm: interquartile mean at each step, or None where it was not computed.
    """

    steps: np.ndarray
    seeds: tuple[int, int]
    mean: Curve
    iqm: Curve | None = None


def episodes_of(runs: pd.DataFrame) -> dict[str, statistics.Episodes]:
    """Return method -> environment -> the number of episodes of its evaluations, the fewest where they differ.

    :param runs: one row for each evaluation of a run, columns `zoo.runs.read.EVALUATION_COLUMNS`.
    """
    fewest = runs.groupby(["method", "environment"])["episodes"].min()
    return {
        str(method): {str(environment): int(number) for environment, number in part.droplevel(0).items()}
        for method, part in fewest.groupby(level=0)
    }


def learning_curves(
    runs: pd.DataFrame, tasks: Sequence[str], kind: Kind, reps: int, with_iqm: bool = True
) -> dict[str, LearningCurve]:
    """Return method -> its learning curve over some tasks, for each method that has them all.

    A curve has the steps at which all runs of the method on these tasks were evaluated.

    :param runs: one row for each evaluation of a run, columns `zoo.runs.read.EVALUATION_COLUMNS`.
    """
    tables = {
        str(method): group.pivot_table(index=["environment", "seed"], columns="step", values="score").dropna(axis=1)
        for method, group in runs[runs["environment"].isin(tasks)].groupby("method")
    }

    episodes = episodes_of(runs) if kind.limits == statistics.FRACTION else {}

    def curve(method: str) -> LearningCurve:
        table = tables[method]
        played = episodes.get(method)
        scores = {task: table.loc[task].to_numpy() for task in tasks}
        steps, runs = table.columns.to_numpy(), [len(found) for found in scores.values()]
        seeds = min(runs), max(runs)
        iqm = statistics.interquartile_mean(scores, reps, kind.limits) if with_iqm else None
        return LearningCurve(steps, seeds, statistics.mean(scores, kind.limits, played), iqm)

    complete = [
        method
        for method, table in tables.items()
        if table.shape[1] and set(tasks) <= set(table.index.get_level_values("environment"))
    ]
    return in_parallel(curve, complete)
