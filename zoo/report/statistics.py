r"""Aggregate scores of several runs on several tasks, with intervals.

The definitions are rliable's (Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
arXiv 2108.13264): runs are resampled with replacement inside each task, and the 2.5% and 97.5% percentiles of the
resampled aggregate bound it. Means are the exception: they have Welch-Satterthwaite t-intervals, which cover the truth
more often at any number of seeds (``results/coverage.md``). For the others only the computation differs. A resample is
kept as the number of times that each run was drawn, so that one matrix product turns a block of resamples into what an
aggregate needs: how many drawn scores are at most x. For F_j drawn scores at or below the j-th of the sorted levels
x_1 < ... < x_L of N scores,

    IQM = x_1 + \sum_{j<L} (x_{j+1} - x_j) clip(N - c - F_j, 0, N - 2 c) / (N - 2 c),  c = floor(N / 4)

The random stream is the one that rliable draws, so with the same seed both give the same interval. Every method and
every evaluation uses the same resamples of run numbers: results depend on the scores alone, not on their order.

All functions take the scores of one method (task -> runs), the number of bootstrap repetitions (at least 1), and the
lowest and highest possible score, infinite where there is none. They raise ValueError if there are no scores, or if one
is not a finite number within the limits. A run counts once per task: average the episodes of an evaluation first.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from zoo.report.estimates import Array, Curve, Estimate, percentile_bounds, welch_half_width
from zoo.report.resampling import resamples

Scores = Mapping[str, Array]
"""Scores of one method: task -> (runs,), or (runs, evaluations) for a curve."""

Episodes = Mapping[str, int]
"""Task -> the number of episodes behind each of its success rates, the fewest where runs differ."""

FRACTION = (0.0, 1.0)
"""The limits of a success rate."""
_LEVELS_AT_ONCE = 2_000  # columns of one matrix product, where scores are not on a grid


def aggregate(
    scores: Scores, reps: int, limits: tuple[float, float] = FRACTION, episodes: Episodes | None = None
) -> dict[str, Estimate]:
    """Return the ``mean``, ``iqm``, ``median`` over tasks and ``optimality_gap`` of one method.

    The optimality gap is that of gamma = 1: what is missing to 1, where scores above 1 count as 1. On scores that end
    at 1 it is one minus the mean, and says nothing new. Tasks with unequal numbers of runs count equally: each run then
    weighs one over its task's number of runs.

    :param episodes: the number of episodes behind each success rate, see `seed_variances`.
    """
    average, iqm = (curve.estimate(0) for curve in mean_and_iqm(scores, reps, limits, episodes))
    capped = average
    if limits[1] > 1:
        at_most_1 = {task: np.minimum(runs, 1) for task, runs in scores.items()}
        capped = mean(at_most_1, (limits[0], 1.0)).estimate(0)
    interval = None if capped.interval is None else (1 - capped.interval[1], 1 - capped.interval[0])
    gap = Estimate(1 - capped.point, interval, capped.kind)
    return {"mean": average, "iqm": iqm, "median": _median(scores, reps, limits), "optimality_gap": gap}


def mean_and_iqm(
    scores: Scores, reps: int, limits: tuple[float, float] = FRACTION, episodes: Episodes | None = None
) -> tuple[Curve, Curve]:
    """Return the mean and the interquartile mean at every evaluation, with point-wise bounds.

    The bounds hold for one evaluation each. They say nothing about an average over the curve: for that, reduce each
    run to its average first.
    """
    cells, seeds = flatten(scores, limits)
    evaluations = cells.shape[1]
    # Success rates have few levels. Other scores have one for each run, so that all evaluations at once take gigabytes.
    width = evaluations if limits == FRACTION else max(1, _LEVELS_AT_ONCE // len(cells))
    points, bounds = [], []
    for start in range(0, evaluations, width):
        pool = _Pool(cells[:, start : start + width], seeds)
        points.append(pool.iqm(np.ones((1, len(cells)), dtype=pool.dtype))[0])  # (K,)
        if min(seeds) > 1:
            parts = [pool.iqm(counts) for counts in resamples(seeds, reps, pool.dtype)]
            bounds.append(percentile_bounds(np.concatenate(parts)))  # (2, K)
    iqms = np.concatenate(points)
    average = mean(scores, limits, episodes)
    return average, Curve(iqms, np.concatenate(bounds, axis=1), "bootstrap") if bounds else Curve(iqms)


def mean(scores: Scores, limits: tuple[float, float] = FRACTION, episodes: Episodes | None = None) -> Curve:
    """Return the mean at every evaluation, with the point-wise bounds of Welch-Satterthwaite's t-interval."""
    cells, seeds = flatten(scores, limits)
    points = run_weights(seeds) @ cells
    variances = seed_variances(scores, limits, episodes) / len(seeds) ** 2
    half = welch_half_width(variances, np.asarray(seeds))
    if np.isnan(half).any():
        return Curve(points)
    return Curve(points, np.clip(np.stack([points - half, points + half]), *limits), "t")


def seed_variances(scores: Scores, limits: tuple[float, float] = FRACTION, episodes: Episodes | None = None) -> Array:
    """Return the variance of one run of each task, shape (tasks, K); NaN where a task has one run.

    It is the sample variance over runs. The success rate of m episodes has a variance of at least p (1 - p) / m even
    if all seeds are equally good, so that is the least it can be: runs that agree by chance are not exact. For p, two
    successes and two failures are added to all episodes of the task (Agresti and Coull 1998), since a rate of 0 or 1
    would claim to be exact again.

    :param episodes: task -> the number of episodes behind each of its scores; without them there is no least variance.
    """
    cells, seeds = flatten(scores, limits)
    edges = np.cumsum((0, *seeds))
    result = np.full((len(seeds), cells.shape[1]), np.nan)
    for task, (name, (start, end)) in enumerate(zip(sorted(scores), pairwise(edges), strict=True)):
        if end - start > 1:
            result[task] = cells[start:end].var(axis=0, ddof=1)
            if episodes is not None:
                total = (end - start) * episodes[name]
                rate = (cells[start:end].mean(axis=0) * total + 2) / (total + 4)
                result[task] = np.maximum(result[task], rate * (1 - rate) / episodes[name])
    return result


def performance_profile(scores: Scores, thresholds: Array, reps: int, limits: tuple[float, float] = FRACTION) -> Curve:
    """Return the fraction of runs whose score is above each threshold; below five seeds its bounds are too narrow.

    Put the thresholds, shape (K,), between the values that a score can take: with 50 episodes, (k + 0.5) / 50.
    """
    cells, seeds = flatten(scores, limits)
    above = (cells > thresholds).astype(float)  # (cells, K)
    points = run_weights(seeds) @ above
    if min(seeds) < 2:
        return Curve(points)
    return Curve(points, percentile_bounds(_resampled_mean(above, seeds, reps)), "bootstrap")


def flatten(scores: Scores, limits: tuple[float, float]) -> tuple[Array, tuple[int, ...]]:
    """Return all scores task by task, shape (cells, K), and the number of runs of each task; check them."""
    if not scores:
        raise ValueError("expected the scores of at least one task, got none; check which runs were selected")
    tasks = sorted(scores)
    columns = [np.asarray(scores[task], dtype=float) for task in tasks]
    columns = [column[:, None] if column.ndim == 1 else column for column in columns]
    empty = [task for task, column in zip(tasks, columns, strict=True) if not len(column)]
    cells = np.concatenate(columns)
    low, high = limits
    if empty or not (np.isfinite(cells) & (cells >= low) & (cells <= high)).all():
        wanted = "fractions in [0, 1]" if limits == FRACTION else f"finite numbers in [{low:g}, {high:g}]"
        raise ValueError(
            f"expected scores to be {wanted} with at least one run for each task, got "
            + (f"no run of `{empty[0]}`" if empty else f"values from {cells.min()} to {cells.max()}")
            + ("; divide successes by episodes" if limits == FRACTION else "")
        )
    return cells, tuple(len(column) for column in columns)


def run_weights(seeds: tuple[int, ...]) -> Array:
    """Return what one run weighs in the mean over tasks of the means over runs, shape (cells,)."""
    return np.repeat([1 / (len(seeds) * runs) for runs in seeds], seeds)


class _Pool:
    """The scores of all runs of all tasks as sorted levels, for every evaluation at once.

    :param cells: scores, shape (cells, K).
    :param seeds: the number of runs of each task.
    """

    def __init__(self, cells: Array, seeds: tuple[int, ...]) -> None:
        balanced = len(set(seeds)) == 1
        # Counts of a balanced layout are whole numbers, which 32 bits hold exactly; weights need 64.
        self.dtype = np.float32 if balanced else np.float64
        self.total = float(len(cells)) if balanced else 1.0
        self.cut = float(len(cells) // 4) if balanced else 0.25
        weight = np.ones(len(cells)) if balanced else run_weights(seeds)
        levels = [np.unique(column) for column in cells.T]
        edges = np.cumsum([0] + [len(level) - 1 for level in levels])
        self.lowest = np.array([level[0] for level in levels])
        self.at_most = np.empty((len(cells), edges[-1]), dtype=self.dtype)  # (cells, levels of all evaluations)
        self.gaps = np.zeros((edges[-1], len(levels)))
        for k, level in enumerate(levels):
            block = slice(edges[k], edges[k + 1])
            self.at_most[:, block] = weight[:, None] * (cells[:, k, None] <= level[:-1])
            self.gaps[block, k] = np.diff(level)

    def iqm(self, counts: NDArray[np.floating]) -> Array:
        """Return the interquartile mean of each resample: counts (R, cells) -> (R, K)."""
        below = (counts @ self.at_most).astype(np.float64)
        kept = self.total - 2 * self.cut
        above = np.clip(self.total - self.cut - below, 0, kept, out=below)
        return np.asarray(self.lowest + above @ self.gaps / kept)


def _resampled_mean(cells: Array, seeds: tuple[int, ...], reps: int) -> Array:
    """Return the mean of each resample: (cells, K) -> (reps, K)."""
    weighted = run_weights(seeds)[:, None] * cells
    return np.concatenate([counts @ weighted for counts in resamples(seeds, reps, np.float64)])


def _median(scores: Scores, reps: int, limits: tuple[float, float]) -> Estimate:
    """Return the median over tasks of the means over runs."""
    cells, seeds = flatten(scores, limits)
    starts = np.cumsum((0, *seeds))[:-1]
    weighted = cells[:, 0] / np.repeat(seeds, seeds)
    point = np.median(np.add.reduceat(weighted, starts))[None]
    if min(seeds) < 2:
        return Estimate(float(point[0]))
    means = (np.add.reduceat(counts * weighted, starts, axis=1) for counts in resamples(seeds, reps, np.float64))
    medians = np.concatenate([np.median(part, axis=1) for part in means])
    return Curve(point, percentile_bounds(medians[:, None]), "bootstrap").estimate(0)
