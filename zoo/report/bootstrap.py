"""Bootstrap intervals by rliable (Agarwal et al. 2021, arXiv 2108.13264).

Runs are resampled with replacement within each task. Methods with equal numbers of runs share one call of rliable and
the same resamples, so no interval depends on the other methods. Their scores are arrays (runs, tasks, methods), called
blocks. All tasks of a block have the same number of runs, so a method may have several blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from rliable import library
from scipy import stats

from zoo.envs.checks import global_numpy_seed
from zoo.report.comparison import by_value
from zoo.report.statistics import MIN_SEEDS, Array, Curve, Estimate, Scores


def interquartile_means(scores: Mapping[str, Scores], reps: int) -> dict[str, Estimate]:
    """Return method -> the interquartile mean of the scores of all its runs, with an interval.

    Tasks have equal weights, so a run on a task with more runs has less weight.
    """

    def statistic(*blocks: Array) -> Array:
        runs = [_runs_of(block) for block in blocks]
        if len(blocks) == 1:  # equals `rliable.metrics.aggregate_iqm` of each method
            return stats.trim_mean(runs[0], 0.25, axis=0)
        weights = np.concatenate(
            [np.full(len(block), 1 / len(block)) for block in blocks for _ in block[0]]
        )
        return _middle_mean(np.concatenate(runs), weights)

    curves = _estimated(scores, statistic, reps)
    return {name: curve.estimate() for name, curve in curves.items()}


def performance_profiles(
    scores: Mapping[str, Scores], thresholds: Array, reps: int
) -> dict[str, Curve]:
    """Return method -> the fraction of its runs whose score is above each threshold, with point-wise intervals.

    Tasks have equal weights. Thresholds, shape (K,), should be midpoints between possible scores: (k + 0.5) / 50 for
    50 episodes.
    """

    def statistic(*blocks: Array) -> Array:
        # equals `rliable.library.score_distributions`, but has no loop over thresholds
        tasks = sum(block.shape[1] for block in blocks)
        fractions = np.zeros(len(thresholds) * blocks[0].shape[2])
        for block in blocks:
            # sort each method's runs once, then find all thresholds by bisection
            runs = np.sort(_runs_of(block), axis=0)
            counts = [np.searchsorted(column, thresholds, "right") for column in runs.T]
            fractions += block.shape[1] / tasks * (1 - np.concatenate(counts) / len(runs))
        return fractions

    return _estimated(scores, statistic, reps)


def probabilities_of_improvement(
    x: Scores, rivals: Mapping[str, Scores], reps: int
) -> dict[str, Estimate]:
    """Return method Y -> P(X > Y), averaged over tasks with equal weights; a tie counts one half.

    The values are those of `rliable.metrics.probability_of_improvement`, which is slow: it calls SciPy's rank test for
    each task and resample.
    """

    def statistic(*blocks: Array) -> Array:
        # the blocks of X come first, followed by the rivals' blocks of the same tasks
        half = len(blocks) // 2
        total = np.zeros(blocks[-1].shape[2])
        for runs_x, runs_y in zip(blocks[:half], blocks[half:], strict=True):
            above = np.count_nonzero(runs_x[:, None] > runs_y, axis=(0, 1, 2))
            not_below = np.count_nonzero(runs_x[:, None] >= runs_y, axis=(0, 1, 2))
            total += (above + not_below) / (2 * len(runs_x) * len(runs_y))
        return total / len(x)

    curves = _estimated(rivals, statistic, reps, first=x)
    return {name: curve.estimate() for name, curve in curves.items()}


def _runs_of(block: Array) -> Array:
    """Return all runs of all tasks of a block, shape (runs of all tasks, methods)."""
    return block.reshape(-1, block.shape[2])


def _middle_mean(runs: Array, weights: Array) -> Array:
    """Return the weighted mean of the runs between the weighted quartiles, shape (methods,).

    :param runs: (runs, methods).
    :param weights: (runs,).
    """
    order = np.argsort(runs, axis=0)
    ends = np.cumsum(weights[order], axis=0) / weights.sum()
    starts = np.concatenate([np.zeros_like(ends[:1]), ends[:-1]])
    shares = np.clip(np.minimum(ends, 0.75) - np.maximum(starts, 0.25), 0, None)
    return np.average(np.take_along_axis(runs, order, axis=0), axis=0, weights=shares)


def _estimated(
    scores: Mapping[str, Scores],
    function: Callable[..., Array],
    reps: int,
    first: Scores | None = None,
) -> dict[str, Curve]:
    """Return method -> a statistic of its blocks, with intervals if each task has at least `MIN_SEEDS` runs.

    :param function: maps blocks to K numbers for each method, shape (methods * K,).
    :param reps: bootstrap repetitions; 0 for no intervals.
    :param first: scores of another method, whose blocks precede all other blocks.
    """
    groups = by_value({name: tuple(map(len, runs.values())) for name, runs in scores.items()})
    result = {}
    for names in groups.values():
        members = [scores[name] for name in names]
        sources = [members] if first is None else [[first], members]
        # all tasks of a block must have the same number of runs, also in the blocks of `first`
        counts = {task: tuple(len(source[0][task]) for source in sources) for task in members[0]}
        task_groups = by_value(counts).values()
        blocks = [_block(source, tasks) for source in sources for tasks in task_groups]
        points = function(*blocks)
        bounds = np.full((2, len(points)), np.nan)
        if reps and min(map(len, blocks)) >= MIN_SEEDS:
            bounds = _bounds(blocks, function, reps)
        for k, ends in enumerate(np.split(np.arange(len(points)), len(names))):
            result[names[k]] = Curve(points[ends], bounds[:, ends])
    return result


def _bounds(blocks: list[Array], function: Callable[..., Array], reps: int) -> Array:
    """Return the lower and upper ends of the intervals of a statistic, shape (2, methods * K)."""
    # rliable resamples the numbers of the runs, which stand for the runs of every method
    numbers = [np.indices(block.shape[:2])[0] for block in blocks]

    def statistic(*chosen: Array) -> Array:
        parts = zip(blocks, chosen, strict=True)
        return function(*(block[rows, np.arange(rows.shape[1])] for block, rows in parts))

    # rliable samples from NumPy's global generator and ignores its own argument `random_state`
    with global_numpy_seed(0):
        _, intervals = library.get_interval_estimates({"": numbers}, statistic, reps=reps)
    return intervals[""]


def _block(methods: list[Scores], tasks: list[str]) -> Array:
    """Return the scores on tasks that have the same number of runs, shape (runs, tasks, methods)."""
    return np.stack([np.stack([scores[t] for t in tasks], axis=1) for scores in methods], axis=2)
