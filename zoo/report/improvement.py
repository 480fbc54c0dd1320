"""How often a run of one method is better than a run of another, and by how much."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.report.estimates import (
    SIGNIFICANT,
    Array,
    Curve,
    Estimate,
    Improvement,
    Record,
    holm,
    percentile_bounds,
    welch_half_width,
    welch_p_values,
)
from zoo.report.resampling import BLOCK_ENTRIES, pair_counts
from zoo.report.statistics import FRACTION, Episodes, Scores, flatten, run_weights, seed_variances


def improvements(
    scores: Mapping[str, Scores],
    pairs: Iterable[tuple[str, str]],
    reps: int,
    limits: tuple[float, float] = FRACTION,
    episodes: Mapping[str, Episodes] | None = None,
) -> dict[tuple[str, str], Improvement]:
    """Return P(X > Y), ties counted half, and the difference of means, for pairs (X, Y) of methods.

    Both methods of a pair are resampled independently: run j of one has nothing to do with run j of the other. The
    difference has Welch-Satterthwaite's t-interval and p value.

    :param scores: method -> task -> (runs,); both methods of a pair must have the same tasks.
    :param episodes: method -> the episodes behind its success rates, see `zoo.report.statistics.seed_variances`.
    """
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[tuple[str, str]]] = {}  # seeds of X and Y -> pairs
    flat = {method: flatten(runs, limits) for method, runs in scores.items()}
    variances = {
        method: seed_variances(runs, limits, None if episodes is None else episodes[method])[:, 0]
        for method, runs in scores.items()
    }
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
        spread = [
            np.stack([variances[name] for name in side], axis=1) / len(seeds) ** 2
            for side, seeds in zip(zip(*group, strict=True), (seeds_x, seeds_y), strict=True)
        ]
        differences = run_weights(seeds_x) @ x - run_weights(seeds_y) @ y
        seeds = np.array((*seeds_x, *seeds_y))
        half = welch_half_width(np.concatenate(spread), seeds)
        p_values = welch_p_values(differences, np.concatenate(spread), seeds[:, None])
        found = [
            Improvement(chance, effect, None if np.isnan(p) else float(p), record)
            for chance, effect, p, record in zip(
                _chances(x, y, seeds_x, seeds_y, reps),
                _effects(differences, half),
                p_values,
                _records(x, y, seeds_x, seeds_y, spread),
                strict=True,
            )
        ]
        result.update(zip(group, found, strict=True))
    return result


def _effects(differences: Array, half: Array) -> list[Estimate]:
    """Return differences of means; without intervals where a variance is not known (half a width of NaN)."""
    return [
        Estimate(float(point)) if np.isnan(width) else Estimate(float(point), (point - width, point + width), "t")
        for point, width in zip(differences.tolist(), half.tolist(), strict=True)
    ]


def _records(
    x: Array, y: Array, seeds_x: tuple[int, ...], seeds_y: tuple[int, ...], spread: Sequence[Array]
) -> list[Record]:
    """Return on how many tasks each X is better and worse than its Y, see `Improvement`.

    :param spread: variances of one run of X and of Y, divided by the squared number of tasks: two of (tasks, pairs).
    """
    starts = [np.cumsum((0, *seeds))[:-1] for seeds in (seeds_x, seeds_y)]
    weights = [run_weights(seeds)[:, None] for seeds in (seeds_x, seeds_y)]
    means = [np.add.reduceat(w * cells, start) for w, cells, start in zip(weights, (x, y), starts, strict=True)]
    differences = means[0] - means[1]  # (tasks, pairs), each divided by the number of tasks as the variances are
    tasks, pairs = differences.shape
    seeds = np.repeat(np.array([seeds_x, seeds_y]), pairs, axis=1)
    p_values = welch_p_values(differences.ravel(), np.stack([part.ravel() for part in spread]), seeds)
    is_decided = holm(p_values.reshape(tasks, pairs), tasks) <= SIGNIFICANT
    won, lost = ((is_decided & (sign * differences > 0)).sum(axis=0) for sign in (1, -1))
    return [Record(int(w), int(k), tasks - int(w + k)) for w, k in zip(won, lost, strict=True)]


def _chances(x: Array, y: Array, seeds_x: tuple[int, ...], seeds_y: tuple[int, ...], reps: int) -> list[Estimate]:
    """Return P(X > Y) of pairs that share a layout: scores of X and of Y, each (cells, pairs)."""
    meetings = _Meetings.of(seeds_x, seeds_y)
    # `wins` holds twice the score of a meeting, 0, 1 or 2: whole numbers keep the sum exact.
    wins = 1 + np.sign(x[meetings.x] - y[meetings.y])  # (meetings, pairs)
    scale = meetings.weight / 2
    is_exact = len(set(scale)) == 1 and 2 * len(scale) < 2**24
    points = wins.sum(axis=0) * scale[0] if is_exact else scale @ wins
    if min(*seeds_x, *seeds_y) < 2:
        return [Estimate(float(point)) for point in points]
    table = wins.astype(np.float32) if is_exact else scale[:, None] * wins
    counts_x, counts_y = pair_counts(seeds_x, seeds_y, reps)
    probability = np.empty((reps, x.shape[1]))
    size = max(1, 10 * BLOCK_ENTRIES // len(scale))
    for start in range(0, reps, size):
        block = slice(start, start + size)
        drawn_x, drawn_y = counts_x[block].astype(table.dtype), counts_y[block].astype(table.dtype)
        total = (drawn_x[:, meetings.x] * drawn_y[:, meetings.y]) @ table
        probability[block] = total.astype(np.float64) * scale[0] if is_exact else total
    chances = Curve(points, percentile_bounds(probability), "bootstrap")
    return [chances.estimate(pair) for pair in range(x.shape[1])]


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
