"""How much the scores of runs vary between seeds, for what is planned or tested with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.report.statistics import aggregates as statistics
from zoo.report.statistics.aggregates import Episodes, Scores
from zoo.report.statistics.estimates import Array


@dataclass(frozen=True)
class Spread:
    """How much the runs of a method vary on each task.

    :param variances: of one run of each task, as `seed_variances` has them, shape (tasks,).
    :param seeds: the number of runs of each task, shape (tasks,).
    """

    variances: Array
    seeds: NDArray[np.int64]


def spreads_of(
    scores: Mapping[str, Scores], limits: tuple[float, float], episodes: Mapping[str, Episodes] | None
) -> dict[str, Spread]:
    """Return the spread of each method, its tasks in alphabetical order.

    :param scores: method -> task -> (runs,).
    """
    return {
        method: Spread(
            statistics.seed_variances(runs, limits, None if episodes is None else episodes[method])[:, 0],
            np.array([len(runs[task]) for task in sorted(runs)]),
        )
        for method, runs in scores.items()
    }


def pair_spreads(spreads: Mapping[str, Spread], pairs: Iterable[tuple[str, str]]) -> tuple[Array, NDArray[np.int64]]:
    """Return what the difference of means of each pair (X, Y) is made of: the tasks of X, then those of Y.

    :return: variances of one run, multiplied by the squared weight of its task, and numbers of runs, both of shape
        (2 tasks, pairs).
    """
    both = [(spreads[x], spreads[y]) for x, y in pairs]
    variances = np.array([[*x.variances, *y.variances] for x, y in both]).T
    seeds = np.array([[*x.seeds, *y.seeds] for x, y in both]).T
    return variances / (len(variances) / 2) ** 2, seeds
