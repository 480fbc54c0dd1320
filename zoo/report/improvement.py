"""How often a run of one method is better than a run of another, and by how much."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.report.estimates import FEW_SEEDS, Array, Curve, Estimate, Improvement, percentile_bounds, welch_mean
from zoo.report.resampling import BLOCK_ENTRIES, pair_counts
from zoo.report.statistics import FRACTION, Scores, flatten, run_weights


def improvements(
    scores: Mapping[str, Scores], pairs: Iterable[tuple[str, str]], reps: int, limits: tuple[float, float] = FRACTION
) -> dict[tuple[str, str], Improvement]:
    """Return P(X > Y), ties counted half, and the difference of means, for pairs (X, Y) of methods.

    Both methods of a pair are resampled independently: run j of one has nothing to do with run j of the other.

    :param scores: method -> task -> (runs,); both methods of a pair must have the same tasks.
    """
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[tuple[str, str]]] = {}  # seeds of X and Y -> pairs
    flat = {method: flatten(runs, limits) for method, runs in scores.items()}
    for pair in pairs:
        x, y = pair
        if set(scores[x]) != set(scores[y]):
            raise ValueError(
                f"expected `{x}` and `{y}` to have the same tasks, got {len(scores[x])} and {len(scores[y])} tasks "
                "that differ; keep the tasks that both have"
            )
        groups.setdefault((flat[x][1], flat[y][1]), []).append(pair)
    result: dict[tuple[str, str], Improvement] = {}
    for (seeds_x, seeds_y), group in groups.items():
        x, y = (np.stack([flat[name][0][:, 0] for name in side], axis=1) for side in zip(*group, strict=True))
        result.update(zip(group, _improvements(x, y, seeds_x, seeds_y, reps), strict=True))
    return result


def _improvements(
    x: Array, y: Array, seeds_x: tuple[int, ...], seeds_y: tuple[int, ...], reps: int
) -> list[Improvement]:
    """Return the comparison of pairs that share a layout: scores of X and of Y, each (cells, pairs)."""
    meetings = _Meetings.of(seeds_x, seeds_y)
    # `wins` holds twice the score of a meeting, 0, 1 or 2: whole numbers keep the sum exact.
    wins = 1 + np.sign(x[meetings.x] - y[meetings.y])  # (meetings, pairs)
    scale = meetings.weight / 2
    is_exact = len(set(scale)) == 1 and 2 * len(scale) < 2**24
    points = wins.sum(axis=0) * scale[0] if is_exact else scale @ wins
    differences = run_weights(seeds_x) @ x - run_weights(seeds_y) @ y
    fewest = min(*seeds_x, *seeds_y)
    if fewest < 2:
        return [Improvement(Estimate(float(p)), Estimate(float(d))) for p, d in zip(points, differences, strict=True)]
    table = wins.astype(np.float32) if is_exact else scale[:, None] * wins
    counts_x, counts_y = pair_counts(seeds_x, seeds_y, reps)
    weighted_x, weighted_y = run_weights(seeds_x)[:, None] * x, run_weights(seeds_y)[:, None] * y
    probability, gap = np.empty((2, reps, x.shape[1]))
    size = max(1, 10 * BLOCK_ENTRIES // len(scale))
    for start in range(0, reps, size):
        block = slice(start, start + size)
        drawn_x, drawn_y = counts_x[block].astype(table.dtype), counts_y[block].astype(table.dtype)
        total = (drawn_x[:, meetings.x] * drawn_y[:, meetings.y]) @ table
        probability[block] = total.astype(np.float64) * scale[0] if is_exact else total
        gap[block] = drawn_x.astype(np.float64) @ weighted_x - drawn_y.astype(np.float64) @ weighted_y
    chances = Curve(points, percentile_bounds(probability), "bootstrap")
    effects = Curve(differences, percentile_bounds(gap), "bootstrap")
    result = []
    for pair in range(x.shape[1]):
        effect = effects.estimate(pair)
        if fewest < FEW_SEEDS:
            effect = _welch_difference(x[:, pair], y[:, pair], seeds_x, seeds_y)
        result.append(Improvement(chances.estimate(pair), effect))
    return result


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
class _Meetings:
    """Every meeting of a run of X with a run of Y on the same task, as indices of cells.

    :param x: cell of X, shape (meetings,).
    :param y: cell of Y, shape (meetings,).
    :param weight: what a meeting weighs in the average, shape (meetings,).
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    weight: Array

    @classmethod
    def of(cls, seeds_x: tuple[int, ...], seeds_y: tuple[int, ...]) -> _Meetings:
        """Return the meetings of two layouts."""
        parts = []
        offset_x = offset_y = 0
        for n, m in zip(seeds_x, seeds_y, strict=True):
            weights = np.full(n * m, 1 / (len(seeds_x) * n * m))
            parts.append((offset_x + np.repeat(np.arange(n), m), offset_y + np.tile(np.arange(m), n), weights))
            offset_x, offset_y = offset_x + n, offset_y + m
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))
