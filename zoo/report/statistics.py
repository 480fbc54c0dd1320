r"""Aggregate scores of several runs on several tasks, with intervals.

The definitions are rliable's (Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
arXiv 2108.13264): runs are resampled with replacement inside each task, and the 2.5% and 97.5% percentiles of the
resampled aggregate bound it. Only the way to compute them differs. A resample is kept as the number of times that each
run was drawn, so that one matrix product turns a block of resamples into what every aggregate needs: how many drawn
scores are at most x. For F_j drawn scores at or below the j-th of the sorted levels x_1 < ... < x_L of N scores,

    mean = x_L - \sum_{j<L} (x_{j+1} - x_j) F_j / N
    IQM  = x_1 + \sum_{j<L} (x_{j+1} - x_j) clip(N - c - F_j, 0, N - 2 c) / (N - 2 c),  c = floor(N / 4)

The random stream is the one that rliable draws, so with the same seed both give the same interval. Every method and
every evaluation uses the same resamples of run numbers: results depend on nothing but the scores, in no order.

Scores are fractions in [0, 1] unless other limits are given. A run counts once per task: average the episodes of an
evaluation first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from agents.common.validation import integer
from zoo.report.resampling import BLOCK_ENTRIES, blocks, pair_counts, run_counts

Array = NDArray[np.float64]
Scores = Mapping[str, Array]
"""Scores of one method: task -> (runs,), or (runs, evaluations) for a curve."""

FRACTION = (0.0, 1.0)
"""The limits of a success rate."""
REPETITIONS = 50_000
PERCENTILES = (2.5, 97.5)
_LEVELS_AT_ONCE = 2_000  # columns of one matrix product, where scores are not on a grid
FEW_SEEDS = 5
"""With fewer seeds the percentile bootstrap is too narrow (coverage 0.87 at three seeds instead of 0.95)."""


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval.

    :param point: the estimate from all runs.
    :param interval: lower and upper bound, or None where the data allow none.
    :param kind: how the interval was made: ``"bootstrap"``, ``"t"`` or ``"none"``.
    """

    point: float
    interval: tuple[float, float] | None = None
    kind: str = "none"


@dataclass(frozen=True)
class Curve:
    """Estimates along an axis, e.g. one for each evaluation.

    :param points: the estimates, shape (K,).
    :param bounds: lower and upper bounds, shape (2, K), or None where the data allow none.
    :param kind: how the bounds were made: ``"bootstrap"``, ``"t"`` or ``"none"``.
    """

    points: Array
    bounds: Array | None = None
    kind: str = "none"

    def estimate(self, index: int) -> Estimate:
        """Return one point of the curve.

        :param index: which one.
        :return: its estimate.
        """
        interval = None if self.bounds is None else (float(self.bounds[0, index]), float(self.bounds[1, index]))
        return Estimate(float(self.points[index]), interval, self.kind)


@dataclass(frozen=True)
class Improvement:
    """How one method compares with another on the same tasks.

    :param probability: P(X > Y), ties counted half, averaged over tasks.
    :param difference: the effect size, mean of X minus mean of Y; None where scores of tasks cannot be averaged.
    """

    probability: Estimate
    difference: Estimate | None


def aggregate(scores: Scores, reps: int = REPETITIONS, limits: tuple[float, float] = FRACTION) -> dict[str, Estimate]:
    """Return the mean, interquartile mean, median over tasks and optimality gap of one method.

    The optimality gap is that of gamma = 1: what is missing to 1, where scores above 1 count as 1. On scores that end
    at 1 it is one minus the mean, and says nothing new. Tasks with unequal numbers of runs count equally: each run then
    weighs one over its task's number of runs.

    :param scores: task -> (runs,).
    :param reps: bootstrap repetitions, >= 1.
    :param limits: the lowest and the highest possible score, infinite where there is none.
    :return: estimates under the names ``mean``, ``iqm``, ``median`` and ``optimality_gap``.
    :raises ValueError: if there are no scores, or one is not a finite number within the limits.
    """
    cells, seeds = _cells(scores, limits)
    mean, iqm = _mean_and_iqm(cells, seeds, reps, limits)
    median = _median_of_task_means(cells, seeds, reps)
    estimates = {"mean": mean.estimate(0), "iqm": iqm.estimate(0), "median": median.estimate(0)}
    average = estimates["mean"]
    if limits[1] > 1:
        average = _mean(np.minimum(cells, 1), seeds, reps, (limits[0], 1.0)).estimate(0)
    gap = None if average.interval is None else (1 - average.interval[1], 1 - average.interval[0])
    return estimates | {"optimality_gap": Estimate(1 - average.point, gap, average.kind)}


def mean_and_iqm(
    scores: Scores, reps: int = REPETITIONS, limits: tuple[float, float] = FRACTION
) -> tuple[Curve, Curve]:
    """Return the mean and the interquartile mean at every evaluation, with point-wise bounds.

    The bounds hold for one evaluation each. They say nothing about an average over the curve: for that, reduce each
    run to its average first.

    :param scores: task -> (runs, K).
    :param reps: bootstrap repetitions, >= 1.
    :param limits: the lowest and the highest possible score, infinite where there is none.
    :return: two curves of K points.
    :raises ValueError: if there are no scores, or one is not a finite number within the limits.
    """
    cells, seeds = _cells(scores, limits)
    return _mean_and_iqm(cells, seeds, reps, limits)


def mean(scores: Scores, reps: int = REPETITIONS, limits: tuple[float, float] = FRACTION) -> Curve:
    """Return the mean at every evaluation, with point-wise bounds.

    :param scores: task -> (runs, K) or (runs,).
    :param reps: bootstrap repetitions, >= 1.
    :param limits: the lowest and the highest possible score, infinite where there is none.
    :return: a curve of K points.
    :raises ValueError: if there are no scores, or one is not a finite number within the limits.
    """
    cells, seeds = _cells(scores, limits)
    return _mean(cells, seeds, reps, limits)


def performance_profile(
    scores: Scores, thresholds: Array, reps: int = REPETITIONS, limits: tuple[float, float] = FRACTION
) -> Curve:
    """Return the fraction of runs whose score is above each threshold.

    Put the thresholds between the values that a score can take: with 50 episodes, (k + 0.5) / 50.

    :param scores: task -> (runs,).
    :param thresholds: where to evaluate it, shape (K,).
    :param reps: bootstrap repetitions, >= 1.
    :param limits: the lowest and the highest possible score, infinite where there is none.
    :return: a curve of K points; below five seeds its bootstrap bounds are too narrow.
    :raises ValueError: if there are no scores, or one is not a finite number within the limits.
    """
    cells, seeds = _cells(scores, limits)
    above = (cells > thresholds).astype(float)  # (cells, K)
    bounds = None if min(seeds) < 2 else _percentiles(_resampled_mean(above, seeds, reps))
    return Curve(_weights(seeds) @ above, bounds, "none" if bounds is None else "bootstrap")


def improvements(
    scores: Mapping[str, Scores],
    pairs: Iterable[tuple[str, str]],
    reps: int = REPETITIONS,
    limits: tuple[float, float] = FRACTION,
) -> dict[tuple[str, str], Improvement]:
    """Return P(X > Y), ties counted half, and the difference of means, for pairs of methods.

    Both methods of a pair are resampled independently: run j of one has nothing to do with run j of the other.

    :param scores: method -> task -> (runs,); every method has the same tasks.
    :param pairs: (X, Y) names of methods.
    :param reps: bootstrap repetitions, >= 1.
    :param limits: the lowest and the highest possible score, infinite where there is none.
    :return: (X, Y) -> its comparison.
    :raises ValueError: if two methods do not have the same tasks.
    """
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[tuple[str, str]]] = {}
    flat = {method: _cells(runs, limits) for method, runs in scores.items()}
    for x, y in pairs:
        if set(scores[x]) != set(scores[y]):
            raise ValueError(
                f"expected `{x}` and `{y}` to have the same tasks, got {len(scores[x])} and {len(scores[y])} tasks "
                "that differ; keep the tasks that both have"
            )
        groups.setdefault((flat[x][1], flat[y][1]), []).append((x, y))
    result: dict[tuple[str, str], Improvement] = {}
    for (seeds_x, seeds_y), group in groups.items():
        values = [(flat[x][0][:, 0], flat[y][0][:, 0]) for x, y in group]
        result.update(zip(group, _improvements(values, seeds_x, seeds_y, reps), strict=True))
    return result


def welch_mean(means: Sequence[float], variances: Sequence[float], seeds: Sequence[int]) -> Estimate:
    """Return the average of independent means with its Welch-Satterthwaite t-interval.

    Signs may be folded in: the difference of two means is the sum of one and the negative of the other.

    :param means: each one already multiplied by its weight, so that the estimate is their sum.
    :param variances: sample variances (ddof = 1) of one run, multiplied by the squared weight; 0 where exact.
    :param seeds: how many runs each mean is the average of.
    :return: the sum; without an interval if a mean with one run has no known variance (NaN).
    """
    point = float(np.sum(means))
    half = float(_welch_half_width(np.asarray(variances, float)[:, None], np.asarray(seeds))[0])
    return Estimate(point) if np.isnan(half) else Estimate(point, (point - half, point + half), "t")


def _cells(scores: Scores, limits: tuple[float, float]) -> tuple[Array, tuple[int, ...]]:
    """Return all scores task after task, (cells, K), and the number of runs of each task."""
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


def _weights(seeds: tuple[int, ...]) -> Array:
    """Return what one run weighs in the mean over tasks of the means over runs, shape (cells,)."""
    return np.repeat([1 / (len(seeds) * runs) for runs in seeds], seeds)


def _curve(
    points: Array, bounds: Array | None, cells: Array, seeds: tuple[int, ...], limits: tuple[float, float]
) -> Curve:
    """Return a curve of means, with t-bounds where there are too few seeds for the bootstrap."""
    if min(seeds) >= FEW_SEEDS:
        return Curve(points, bounds, "bootstrap")
    edges = np.cumsum((0, *seeds))
    variances = np.full((len(seeds), cells.shape[1]), np.nan)
    for task, (start, end) in enumerate(pairwise(edges)):
        if end - start > 1:
            variances[task] = cells[start:end].var(axis=0, ddof=1) / len(seeds) ** 2
    half = _welch_half_width(variances, np.asarray(seeds))
    if np.isnan(half).any():
        return Curve(points)
    return Curve(points, np.clip(np.stack([points - half, points + half]), *limits), "t")


def _welch_half_width(variances: Array, seeds: NDArray[np.int64]) -> Array:
    """Return half the width of the 95% t-interval of a sum of means: (parts, K) variances of one run -> (K,)."""
    parts = variances / seeds[:, None]
    total = parts.sum(axis=0)
    divisor = (parts**2 / np.maximum(seeds - 1, 1)[:, None]).sum(axis=0)
    freedom = np.divide(total**2, divisor, out=np.ones_like(total), where=divisor > 0)
    return np.asarray(stats.t.ppf(PERCENTILES[1] / 100, freedom) * np.sqrt(total))


def _mean(cells: Array, seeds: tuple[int, ...], reps: int, limits: tuple[float, float]) -> Curve:
    """Return the curve of means: (cells, K) -> K points."""
    points = _weights(seeds) @ cells
    bounds = None if min(seeds) < FEW_SEEDS else _percentiles(_resampled_mean(cells, seeds, reps))
    return _curve(points, bounds, cells, seeds, limits)


def _mean_and_iqm(cells: Array, seeds: tuple[int, ...], reps: int, limits: tuple[float, float]) -> tuple[Curve, Curve]:
    """Return both curves from one pass over the resamples: (cells, K) -> K points each."""
    evaluations = cells.shape[1]
    # Success rates have few levels. Other scores have one for each run, so that all evaluations at once take gigabytes.
    width = evaluations if limits == FRACTION else max(1, _LEVELS_AT_ONCE // len(cells))
    rows = _checked(reps) if min(seeds) > 1 else 0
    points, resampled = np.empty((2, evaluations)), np.empty((2, rows, evaluations))
    for start in range(0, evaluations, width):
        part = slice(start, start + width)
        pool = _Pool(cells[:, part], seeds)
        points[:, part] = np.concatenate(pool.mean_and_iqm(np.ones((1, len(cells)), dtype=pool.dtype)))
        for block, counts in blocks(run_counts(seeds, rows), pool.dtype) if rows else ():
            resampled[0, block, part], resampled[1, block, part] = pool.mean_and_iqm(counts)
    if not rows:
        return Curve(points[0]), Curve(points[1])
    mean_curve = _curve(points[0], _percentiles(resampled[0]), cells, seeds, limits)
    return mean_curve, Curve(points[1], _percentiles(resampled[1]), "bootstrap")


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
        weight = np.ones(len(cells)) if balanced else _weights(seeds)
        levels = [np.unique(column) for column in cells.T]
        edges = np.cumsum([0] + [len(level) - 1 for level in levels])
        self.lowest = np.array([level[0] for level in levels])
        self.highest = np.array([level[-1] for level in levels])
        self.at_most = np.empty((len(cells), edges[-1]), dtype=self.dtype)  # (cells, levels of all evaluations)
        self.gaps = np.zeros((edges[-1], len(levels)))
        for k, level in enumerate(levels):
            block = slice(edges[k], edges[k + 1])
            self.at_most[:, block] = weight[:, None] * (cells[:, k, None] <= level[:-1])
            self.gaps[block, k] = np.diff(level)

    def mean_and_iqm(self, counts: NDArray[np.floating]) -> tuple[Array, Array]:
        """Return both aggregates of each resample: counts (R, cells) -> (R, K) and (R, K)."""
        below = (counts @ self.at_most).astype(np.float64)
        means = self.highest - below @ self.gaps / self.total
        kept = self.total - 2 * self.cut
        above = np.clip(self.total - self.cut - below, 0, kept, out=below)
        return means, self.lowest + above @ self.gaps / kept


def _resampled_mean(cells: Array, seeds: tuple[int, ...], reps: int) -> Array:
    """Return the mean of each resample: (cells, K) -> (reps, K)."""
    weighted = _weights(seeds)[:, None] * cells
    means = np.empty((reps, cells.shape[1]))
    for block, counts in blocks(run_counts(seeds, _checked(reps)), np.float64):
        means[block] = counts @ weighted
    return means


def _median_of_task_means(cells: Array, seeds: tuple[int, ...], reps: int) -> Curve:
    """Return the median over tasks of the means over runs, for the first evaluation."""
    starts = np.cumsum((0, *seeds))[:-1]
    weighted = cells[:, 0] / np.repeat(seeds, seeds)
    point = np.median(np.add.reduceat(weighted, starts))[None]
    if min(seeds) < 2:
        return Curve(point)
    medians = np.empty((reps, 1))
    for block, counts in blocks(run_counts(seeds, _checked(reps)), np.float64):
        medians[block, 0] = np.median(np.add.reduceat(counts * weighted, starts, axis=1), axis=1)
    return Curve(point, _percentiles(medians), "bootstrap")


def _improvements(
    values: list[tuple[Array, Array]], seeds_x: tuple[int, ...], seeds_y: tuple[int, ...], reps: int
) -> list[Improvement]:
    """Return the comparison of pairs that share a layout; each value is (cells of X,), (cells of Y,)."""
    x, y = (np.stack(side, axis=1) for side in zip(*values, strict=True))  # (cells, pairs)
    products = _products(seeds_x, seeds_y)
    # `wins` holds twice the score of a meeting, 0, 1 or 2: whole numbers keep the sum exact.
    wins = 1 + np.sign(x[products.x] - y[products.y])  # (meetings, pairs)
    scale = products.weight / 2
    exact = len(set(scale)) == 1 and 2 * products.meetings < 2**24
    points = wins.sum(axis=0) * scale[0] if exact else scale @ wins
    differences = _weights(seeds_x) @ x - _weights(seeds_y) @ y
    if min(*seeds_x, *seeds_y) < 2:
        return [Improvement(Estimate(float(p)), Estimate(float(d))) for p, d in zip(points, differences, strict=True)]
    table = wins.astype(np.float32) if exact else scale[:, None] * wins
    probability, gap = np.empty((2, reps, len(values)))
    counts_x, counts_y = pair_counts(seeds_x, seeds_y, _checked(reps))
    weighted_x, weighted_y = _weights(seeds_x)[:, None] * x, _weights(seeds_y)[:, None] * y
    for start in range(0, reps, products.block):
        block = slice(start, start + products.block)
        drawn_x, drawn_y = counts_x[block].astype(table.dtype), counts_y[block].astype(table.dtype)
        total = (drawn_x[:, products.x] * drawn_y[:, products.y]) @ table
        probability[block] = total.astype(np.float64) * scale[0] if exact else total
        gap[block] = drawn_x.astype(np.float64) @ weighted_x - drawn_y.astype(np.float64) @ weighted_y
    few = min(*seeds_x, *seeds_y) < FEW_SEEDS
    chances = Curve(points, _percentiles(probability), "bootstrap")
    gaps = Curve(differences, _percentiles(gap), "bootstrap")
    effects = [
        _welch_difference(x[:, i], y[:, i], seeds_x, seeds_y) if few else gaps.estimate(i) for i in range(len(values))
    ]
    return [Improvement(chances.estimate(i), effect) for i, effect in enumerate(effects)]


def _welch_difference(x: Array, y: Array, seeds_x: tuple[int, ...], seeds_y: tuple[int, ...]) -> Estimate:
    """Return the difference of the means of two methods with its t-interval."""
    means: list[float] = []
    variances: list[float] = []
    for values, seeds, sign in ((x, seeds_x, 1.0), (y, seeds_y, -1.0)):
        for runs in np.split(values, np.cumsum(seeds)[:-1]):
            means.append(sign * float(runs.mean()) / len(seeds))
            variances.append(float(runs.var(ddof=1)) / len(seeds) ** 2)
    return welch_mean(means, variances, (*seeds_x, *seeds_y))


@dataclass(frozen=True)
class _Products:
    """Every meeting of a run of X with a run of Y on the same task, as indices of cells.

    :param x: cell of X, shape (meetings,).
    :param y: cell of Y, shape (meetings,).
    :param weight: what a meeting weighs in the average, shape (meetings,).
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    weight: Array

    @property
    def meetings(self) -> int:
        """How many meetings there are."""
        return len(self.x)

    @property
    def block(self) -> int:
        """How many resamples to hold at once."""
        return max(1, 10 * BLOCK_ENTRIES // self.meetings)


def _products(seeds_x: tuple[int, ...], seeds_y: tuple[int, ...]) -> _Products:
    """Return the meetings of two layouts."""
    parts = []
    offset_x = offset_y = 0
    for n, m in zip(seeds_x, seeds_y, strict=True):
        parts.append(
            (
                offset_x + np.repeat(np.arange(n), m),
                offset_y + np.tile(np.arange(m), n),
                np.full(n * m, 1 / (len(seeds_x) * n * m)),
            )
        )
        offset_x, offset_y = offset_x + n, offset_y + m
    x, y, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Products(x, y, weight)


def _checked(reps: int) -> int:
    """Return the number of repetitions, or say what is wrong with it."""
    return integer("reps", reps, at_least=1)


def _percentiles(resampled: Array) -> Array:
    """Return the bounds of each column: (reps, K) -> (2, K)."""
    columns = np.ascontiguousarray(resampled.T)  # sorting along memory is faster
    return np.asarray(np.percentile(columns, PERCENTILES, axis=1))
