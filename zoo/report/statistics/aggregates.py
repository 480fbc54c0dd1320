r"""Aggregate scores of several runs on several tasks, with intervals.

The definitions are rliable's (Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
arXiv 2108.13264): runs are resampled with replacement inside each task, and the 2.5% and 97.5% percentiles of the
resampled aggregate bound it. Means are the exception: they have Welch-Satterthwaite t-intervals, which cover the truth
more often at any number of seeds (``results/coverage.md``). For the others only the computation differs. A resample is
kept as the number of times that each run was drawn, so that one matrix product turns a block of resamples into F_j, how
many drawn scores are at or below the j-th of the sorted levels x_1 < ... < x_L of N scores:

    IQM = x_1 + \sum_{j<L} (x_{j+1} - x_j) clip(N - c - F_j, 0, N - 2 c) / (N - 2 c),  c = floor(N / 4)

The random stream is the one that rliable draws, so with the same seed both give the same interval. Every method and
every evaluation uses the same resamples of run numbers: results depend on the scores alone, not on their order.

All functions take the scores of one method (task -> runs), the number of bootstrap repetitions (at least 1), and the
lowest and highest possible score, infinite where there is none. They raise ValueError if there are no scores, or if one
is not a finite number within the limits. A run counts once per task: average the episodes of an evaluation first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.report.statistics.estimates import Array, Curve, Estimate, percentile_bounds, welch_half_width
from zoo.report.statistics.resampling import resamples

Scores = Mapping[str, Array]
"""Scores of one method: task -> (runs,), or (runs, evaluations) for a curve."""

Episodes = Mapping[str, int]
"""Task -> the number of episodes behind each of its success rates, the fewest where runs differ."""

FRACTION = (0.0, 1.0)
"""The limits of a success rate."""


def aggregate(
    scores: Scores,
    reps: int,
    limits: tuple[float, float] = FRACTION,
    episodes: Episodes | None = None,
    metrics: Sequence[str] = (),
) -> dict[str, Estimate]:
    """Return ``mean``, ``iqm``, ``median`` over tasks and ``optimality_gap`` of one method, or those of ``metrics``.

    The optimality gap is that of gamma = 1: what is missing to 1, where scores above 1 count as 1. On scores that end
    at 1 it is one minus the mean, and says nothing new. Tasks with unequal numbers of runs count equally: each run then
    weighs one over its task's number of runs.

    :param episodes: the number of episodes behind each success rate, see `seed_variances`.
    """

    def gap() -> Estimate:
        if limits[1] <= 1:
            return mean(scores, limits, episodes).estimate(0).taken_from(1)
        at_most_1 = {task: np.minimum(runs, 1) for task, runs in scores.items()}
        return mean(at_most_1, (limits[0], 1.0)).estimate(0).taken_from(1)

    made: dict[str, Callable[[], Estimate]] = {
        "mean": lambda: mean(scores, limits, episodes).estimate(0),
        "iqm": lambda: interquartile_mean(scores, reps, limits).estimate(0),
        "median": lambda: _median(scores, reps, limits).estimate(0),
        "optimality_gap": gap,
    }
    return {metric: made[metric]() for metric in metrics or made}


def interquartile_mean(scores: Scores, reps: int, limits: tuple[float, float] = FRACTION) -> Curve:
    """Return the interquartile mean at every evaluation, with point-wise bounds.

    The bounds hold for one evaluation each. They say nothing about an average over the curve: for that, reduce each
    run to its average first.
    """
    cells, seeds = flatten(scores, limits)
    curves = [_iqm(column, seeds, reps) for column in cells.T]
    bounds = [curve.bounds for curve in curves if curve.bounds is not None]
    return Curve(np.concatenate([c.points for c in curves]), np.hstack(bounds) if bounds else None, curves[0].kind)


def _median(scores: Scores, reps: int, limits: tuple[float, float]) -> Curve:
    """Return the median over tasks of the means of their runs."""
    cells, seeds = flatten(scores, limits)
    weighted, starts = cells[:, 0] / np.repeat(seeds, seeds), np.cumsum((0, *seeds))[:-1]
    middle = [(len(seeds) - 1) // 2, len(seeds) // 2]

    def median(counts: Array) -> Array:
        means = np.add.reduceat(counts * weighted, starts, axis=1)
        return np.asarray(np.sort(means, axis=1)[:, middle].mean(axis=1, keepdims=True))  # `np.median` takes longer

    return _bootstrap(median, seeds, reps)


def mean(scores: Scores, limits: tuple[float, float] = FRACTION, episodes: Episodes | None = None) -> Curve:
    """Return the mean at every evaluation, with the point-wise bounds of Welch-Satterthwaite's t-interval."""
    cells, seeds = flatten(scores, limits)
    points = run_weights(seeds) @ cells
    half = welch_half_width(seed_variances(scores, limits, episodes) / len(seeds) ** 2, np.asarray(seeds))
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
    result = np.full((len(seeds), cells.shape[1]), np.nan)
    for row, task, runs in zip(result, sorted(scores), np.split(cells, np.cumsum(seeds)[:-1]), strict=True):
        if len(runs) > 1:
            row[:] = runs.var(axis=0, ddof=1)
        if len(runs) > 1 and episodes is not None:
            total = len(runs) * episodes[task]
            rate = (runs.mean(axis=0) * total + 2) / (total + 4)
            np.maximum(row, rate * (1 - rate) / episodes[task], out=row)
    return result


def performance_profile(scores: Scores, thresholds: Array, reps: int, limits: tuple[float, float] = FRACTION) -> Curve:
    """Return the fraction of runs whose score is above each threshold; below five seeds its bounds are too narrow.

    Put the thresholds, shape (K,), between the values that a score can take: with 50 episodes, (k + 0.5) / 50.
    """
    cells, seeds = flatten(scores, limits)
    above = run_weights(seeds)[:, None] * (cells > thresholds)  # (cells, K)
    return _bootstrap(lambda counts: counts @ above, seeds, reps)


def flatten(scores: Scores, limits: tuple[float, float]) -> tuple[Array, tuple[int, ...]]:
    """Return all scores task by task, shape (cells, K), and the number of runs of each task; check them."""
    if not scores:
        raise ValueError("expected the scores of at least one task, got none; check which runs were selected")
    tasks = sorted(scores)
    cells = np.concatenate([np.asarray(scores[task], dtype=float) for task in tasks])
    empty = [task for task in tasks if not len(scores[task])]
    low, high = limits
    if empty or not (np.isfinite(cells) & (cells >= low) & (cells <= high)).all():
        wanted = "fractions in [0, 1]" if limits == FRACTION else f"finite numbers in [{low:g}, {high:g}]"
        raise ValueError(
            f"expected scores to be {wanted} with at least one run for each task, got "
            + (f"no run of `{empty[0]}`" if empty else f"values from {cells.min()} to {cells.max()}")
            + ("; divide successes by episodes" if limits == FRACTION else "")
        )
    return cells.reshape(len(cells), -1), tuple(len(scores[task]) for task in tasks)


def run_weights(seeds: tuple[int, ...]) -> Array:
    """Return what one run weighs in the mean over tasks of the means over runs, shape (cells,)."""
    return np.repeat([1 / (len(seeds) * runs) for runs in seeds], seeds)


def _iqm(cells: Array, seeds: tuple[int, ...], reps: int) -> Curve:
    """Return the interquartile mean of one evaluation."""
    # Counts of a balanced layout are whole numbers, which 32 bits hold exactly; weights need 64.
    is_balanced = len(set(seeds)) == 1
    weight = np.ones(len(cells), np.float32) if is_balanced else run_weights(seeds)
    total, cut = (len(cells), len(cells) // 4) if is_balanced else (1.0, 0.25)
    levels = np.unique(cells)
    at_most = weight[:, None] * (cells[:, None] <= levels[:-1])  # (cells, levels)
    shares = np.diff(levels) / (total - 2 * cut)

    def iqm(counts: NDArray[np.floating]) -> Array:
        return np.asarray(levels[0] + np.clip(total - cut - counts @ at_most, 0, total - 2 * cut) @ shares)[:, None]

    return _bootstrap(iqm, seeds, reps, weight.dtype.type)


def _bootstrap(
    statistic: Callable[..., Array], seeds: tuple[int, ...], reps: int, dtype: type[np.floating] = np.float64
) -> Curve:
    """Return a statistic of how often each run is drawn, (R, cells) -> (R, K), with its percentile bounds."""
    points = statistic(np.ones((1, sum(seeds)), dtype))[0]
    if min(seeds) < 2:
        return Curve(points)
    resampled = np.concatenate([statistic(counts) for counts in resamples(seeds, reps, dtype)])
    return Curve(points, percentile_bounds(resampled), "bootstrap")
