"""Sample efficiency as a number: how many steps runs need to half of the best final score of their task.

Each run is reduced to one number first, so that the interval is about runs (an interval of a curve is about one
evaluation). A run that never gets there has no such number. To leave it out would flatter a method whose bad runs fail,
and the median over runs is infinite for every method that fails on most tasks. So the mean is restricted, as in the
analysis of survival times: such a run counts as if it got there at its last step, and the fraction of runs that did get
there stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from zoo.report import statistics
from zoo.report.comparison import HalfBest, Phase
from zoo.report.entries import LEAST_BEST
from zoo.report.estimates import Array, Estimate, t_estimate, welch_half_width
from zoo.runs.history import PHASES
from zoo.runs.scores import RETURN, Kind

_OFFLINE = PHASES[0]


@dataclass(frozen=True)
class _Progress:
    """The evaluations of a method's runs on one task.

    :param run: which run each evaluation is of, from 0.
    :param made: steps of the phase that the run has made by then.
    :param scores: of the evaluations.
    """

    run: np.ndarray
    made: np.ndarray
    scores: Array

    def first_steps(self, threshold: float, budget: int) -> Array:
        """Return the first step of each run at which it has a score, infinite where it never has within a budget."""
        result = np.full(self.run.max() + 1, np.inf)
        found = (self.scores >= threshold) & (self.made <= budget)
        np.minimum.at(result, self.run[found], self.made[found])
        return result

    @property
    def largest_gap(self) -> int:
        """The most steps between two evaluations, which is how exactly a step can be known."""
        return int(np.diff(np.unique([0, *self.made])).max(initial=0))


def steps_to_half(phase: Phase, evaluations: pd.DataFrame, kind: Kind) -> HalfBest | None:
    """Return the steps to half of the best score, over the tasks of a phase whose best score is far enough above zero.

    :param evaluations: of all phases, since online training begins where offline training ended; one row for each
        evaluation of a run, columns `zoo.runs.read.EVALUATION_COLUMNS`.
    :return: None for returns, which have no zero, and where no task or no single run is left.
    """
    if kind is RETURN or not phase.scores:
        return None
    best = {task: max(cell.estimates["mean"].point for cell in phase.per_task[task].values()) for task in phase.tasks}
    thresholds = {task: value / 2 for task, value in best.items() if value >= LEAST_BEST}
    if not thresholds:
        return None
    found = _progress(evaluations[evaluations["environment"].isin(list(thresholds))], phase)
    budgets = {task: min(int(found[method, task].made.max()) for method in phase.scores) for task in thresholds}
    steps, reached = {}, {}
    for method in phase.scores:
        progress = {task: found[method, task] for task in thresholds}
        first = {task: progress[task].first_steps(thresholds[task], budgets[task]) for task in thresholds}
        gaps = {task: progress[task].largest_gap for task in thresholds}
        steps[method] = _restricted_mean(first, budgets, gaps)
        arrived = {task: np.isfinite(values).astype(float) for task, values in first.items()}
        reached[method] = statistics.mean(arrived, episodes=dict.fromkeys(arrived, 1)).estimate(0)
    return HalfBest(thresholds, budgets, steps, reached)


def _progress(evaluations: pd.DataFrame, phase: Phase) -> dict[tuple[str, str], _Progress]:
    """Return (method, task) -> its evaluations in one phase.

    A run goes online with the score of its last offline evaluation. One that has no offline phase begins at step 0, or
    where the others go online if its steps are counted from there.
    """
    step, score = evaluations["step"].to_numpy(int), evaluations["score"].to_numpy(float)
    seed, is_offline = evaluations["seed"].to_numpy(), (evaluations["phase"] == _OFFLINE).to_numpy()
    rows = evaluations.groupby(["method", "environment"], sort=False).indices
    borders: dict[str, int] = {}  # task -> where runs go online
    for (_, task), index in rows.items():
        borders[task] = max(borders.get(task, 0), int(step[index].max(where=is_offline[index], initial=0)))
    result = {}
    for (method, task), index in rows.items():
        if method not in phase.scores:
            continue
        if phase.name == _OFFLINE:
            index = index[is_offline[index]]
            begin: int | np.ndarray = 0
        else:
            begin = _steps_at_online(seed[index], step[index], is_offline[index], borders[task])
        made = step[index] - begin
        kept = made >= 0
        run = np.unique(seed[index][kept], return_inverse=True)[1]
        result[method, task] = _Progress(run, made[kept], score[index][kept])
    return result


def _steps_at_online(seed: np.ndarray, step: np.ndarray, is_offline: np.ndarray, border: int) -> np.ndarray:
    """Return at which step the run of each evaluation goes online.

    :param border: where other methods do so.
    """
    run = np.unique(seed, return_inverse=True)[1]
    ends, first = np.full(run.max() + 1, -1), np.full(run.max() + 1, np.iinfo(int).max)
    np.maximum.at(ends, run[is_offline], step[is_offline])
    np.minimum.at(first, run, step)
    alone = np.where(first > border, border, 0)
    return np.where(ends >= 0, ends, alone)[run]


def _restricted_mean(first: Mapping[str, Array], budgets: Mapping[str, int], gaps: Mapping[str, int]) -> Estimate:
    """Return the mean over tasks of the mean steps of runs, with a t-interval.

    :param first: task -> the first step of each run, infinite where it never gets there.
    :param gaps: task -> the most steps between two evaluations. A step is known no better than that, so its variance is
        at least that of any step in between, gap^2 / 12.
    """
    values = {task: np.minimum(steps, budgets[task]) for task, steps in first.items()}
    unbounded = (0.0, math.inf)
    mean = statistics.mean(values, unbounded)
    tasks = sorted(values)
    variances = statistics.seed_variances(values, unbounded)[:, 0]
    variances = np.maximum(variances, [gaps[task] ** 2 / 12 for task in tasks]) / len(tasks) ** 2
    half = float(welch_half_width(variances[:, None], np.array([len(values[task]) for task in tasks]))[0])
    point, most = float(mean.points[0]), float(np.mean(list(budgets.values())))
    if not any(np.isfinite(steps).any() for steps in first.values()):
        return Estimate(point)
    return t_estimate(point, half, (0.0, most))
