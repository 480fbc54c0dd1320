"""Scores of runs, and their means with Welch-Satterthwaite t-intervals.

These cover the truth more often than the bootstrap at any number of seeds (``benchmarks/results/history/coverage.md``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from zoo.report.statistics.estimates import (
    QUANTILES,
    Array,
    Counts,
    Curve,
    Pair,
    Range,
    t_quantile,
    welch_curve,
    welch_half_width,
)

Scores = Mapping[str, Array]
"""Scores of one method: task -> (runs,), or (runs, evaluations) for a curve.

A run counts once per task: average the episodes of an evaluation first. Methods that are compared have the same tasks
in the same order.
"""

Episodes = Mapping[str, int]
"""Task -> the number of episodes behind each of its success rates, the fewest where runs differ."""

FRACTION = (0.0, 1.0)
"""The limits of a success rate."""


def tasks_by_runs(scores: Mapping[str, Array]) -> dict[int, list[str]]:
    """Return number of runs -> the tasks that have as many."""
    tasks: dict[int, list[str]] = {}
    for task, runs in scores.items():
        tasks.setdefault(len(runs), []).append(task)
    return tasks


def blocks_of(methods: Sequence[Scores]) -> list[Array]:
    """Return the scores of methods with as many runs of each task, one array for each number of runs.

    :return: arrays of shape (runs, tasks, methods * evaluations).
    """
    blocks = []
    for runs, tasks in tasks_by_runs(methods[0]).items():
        columns = []
        for scores in methods:
            columns.append(np.stack([scores[task].reshape(runs, -1).T for task in tasks], axis=1))
        blocks.append(np.concatenate(columns).T)
    return blocks


def mean(scores: Scores, limits: Range = FRACTION, episodes: Episodes | None = None) -> Curve:
    """Return the mean over tasks of the means over runs, at every evaluation, with point-wise bounds.

    :param limits: the lowest and highest possible score, infinite where there is none.
    :param episodes: the number of episodes behind each success rate, see `seed_variances`.
    """
    points = np.mean([np.atleast_1d(runs.mean(axis=0)) for runs in scores.values()], axis=0)
    seeds = np.array([*map(len, scores.values())])
    return welch_curve(points, seed_variances(scores, episodes) / len(scores) ** 2, seeds, limits)


def seed_variances(scores: Scores, episodes: Episodes | None = None) -> Array:
    """Return the variance of one run of each task, shape (tasks, evaluations); NaN where a task has one run.

    It is the sample variance over runs. The success rate of m episodes has a variance of at least p (1 - p) / m even
    if all seeds are equally good, so that is the least it can be: runs that agree by chance are not exact. For p, two
    successes and two failures are added to all episodes of the task (Agresti and Coull 1998), since a rate of 0 or 1
    would claim to be exact again.

    :param episodes: task -> the number of episodes behind each of its scores; without them there is no least variance.
    """
    variances = []
    for task, values in scores.items():
        runs = values.reshape(len(values), -1)
        variance = np.full(runs.shape[1], np.nan)
        if len(runs) > 1:
            variance = runs.var(axis=0, ddof=1)
        if episodes is not None:
            total = len(runs) * episodes[task]
            rate = (runs.mean(axis=0) * total + 2) / (total + 4)
            variance = np.maximum(variance, rate * (1 - rate) / episodes[task])  # NaN stays
        variances.append(variance)
    return np.array(variances)


Samples = Mapping[str, pd.DataFrame]
"""What is known of single runs: ``mean``, ``variance`` of one run and number of ``seeds``.

Each is a table with a row for each task and a column for each method.
"""


def samples_of(scores: Mapping[str, Scores], episodes: Mapping[str, Episodes]) -> Samples:
    """Return the mean, the variance and the number of the runs of each method and task.

    :param scores: method -> task -> (runs,); all methods have the same tasks.
    :param episodes: method -> what `seed_variances` takes, of the methods that have success rates.
    """
    runs = pd.DataFrame(scores, dtype=object)
    variances = {}
    for name, scores_of_method in scores.items():
        variances[name] = seed_variances(scores_of_method, episodes.get(name))[:, 0]
    return {
        "mean": runs.map(np.mean),
        "variance": pd.DataFrame(variances, runs.index),
        "seeds": runs.map(len),
    }


def pair_spreads(samples: Samples, pairs: Sequence[Pair]) -> tuple[Array, Counts]:
    """Return the variances behind the difference of means of each pair (X, Y): the tasks of X, then those of Y.

    :return: variances of one run, multiplied by the squared weight of its task, and numbers of runs, both of shape
        (2 tasks, pairs).
    """
    names = samples["seeds"].columns
    methods = names.get_indexer(np.ravel(pairs)).reshape(-1, 2)

    def of_pairs(statistic: str) -> NDArray[Any]:
        values = samples[statistic].to_numpy().T[methods]  # (pairs, 2, tasks)
        return values.reshape(len(pairs), -1).T

    return of_pairs("variance") / len(samples["seeds"]) ** 2, of_pairs("seeds")


# -- numbers of seeds that resolve a difference of means, planned from the observed variance ---------------------------

MAX_PLANNED_SEEDS = 1 << 20
"""Largest number of seeds in a plan; above it there is none."""


@dataclass(frozen=True)
class SeedPlan:
    """How many seeds of each of two methods resolve the difference of their means.

    :param half_width: of the 95% t-interval of the difference with the seeds that there are.
    :param seeds: the least number for each method and task, or None above `MAX_PLANNED_SEEDS`.
    :param interval: the number of seeds at both ends of the 95% interval of the variance.
    """

    half_width: float
    seeds: int | None
    interval: tuple[int | None, int | None]


def plan_seeds(samples: Samples, pair: Pair, resolve: float) -> SeedPlan | None:
    """Return the plan of two methods; None where nothing says how runs vary: a task has one, or all agree.

    It assumes that runs of every task vary as those that there are, that both methods get the same number of seeds on
    each of these tasks, and Welch-Satterthwaite's t-interval, whose quantile depends on that number.

    :param resolve: what half the width of the interval must stay below, in the units of the scores.
    """
    variances, seeds = pair_spreads(samples, [pair])
    half_width = welch_half_width(variances, seeds).item()
    if not half_width > 0:
        return None
    # Satterthwaite's degrees of freedom of the sum of variances itself: how well it is known.
    freedom = variances.sum() ** 2 / (variances**2 / np.maximum(seeds - 1, 1)).sum()
    low, high = (freedom / special.chdtri(freedom, end) for end in QUANTILES)
    interval = (_seeds_needed(low * variances, resolve), _seeds_needed(high * variances, resolve))
    return SeedPlan(half_width, _seeds_needed(variances, resolve), interval)


def _seeds_needed(variances: Array, resolve: float) -> int | None:
    """Return the least number of seeds, at least 2, with a half width below `resolve`; None above `MAX_PLANNED_SEEDS`.

    :param variances: of one run, weighted.
    """
    total = variances.sum()
    ratio = total**2 / (variances**2).sum()

    def is_enough(seeds: int) -> bool:
        return bool(t_quantile((seeds - 1) * ratio) * np.sqrt(total / seeds) < resolve)

    # the width falls with the number of seeds, so the first one that is enough can be bisected for
    seeds_needed = bisect_left(range(MAX_PLANNED_SEEDS + 1), True, lo=2, key=is_enough)
    return None if seeds_needed > MAX_PLANNED_SEEDS else seeds_needed
