"""How often a run of one method is better than a run of another, by how much, and how much runs vary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.report.statistics.aggregates import FRACTION, Episodes, Scores, flatten, run_weights, seed_variances
from zoo.report.statistics.estimates import (
    SIGNIFICANT,
    Array,
    Curve,
    Estimate,
    Improvement,
    Record,
    holm,
    percentile_bounds,
    t_estimate,
    welch_half_width,
    welch_p_values,
)
from zoo.report.statistics.resampling import BLOCK_ENTRIES, in_parallel, pair_counts


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
    :param episodes: method -> the episodes behind its success rates, see `seed_variances`.
    """
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[tuple[str, str]]] = {}  # seeds of X and Y -> pairs
    flat = {method: flatten(runs, limits) for method, runs in scores.items()}
    spreads = spreads_of(scores, limits, episodes)
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
        runs_x, runs_y = (np.stack([flat[name][0][:, 0] for name in side], axis=1) for side in zip(*group, strict=True))
        variances, seeds = pair_spreads(spreads, group)
        differences = run_weights(seeds_x) @ runs_x - run_weights(seeds_y) @ runs_y
        found = [
            Improvement(chance, effect, None if np.isnan(p) else float(p), record)
            for chance, effect, p, record in zip(
                _chances(runs_x, runs_y, seeds_x, seeds_y, reps),
                _effects(differences, welch_half_width(variances, seeds), limits),
                welch_p_values(differences, variances, seeds),
                _records(runs_x, runs_y, variances, seeds),
                strict=True,
            )
        ]
        result.update(zip(group, found, strict=True))
    return result


def _effects(differences: Array, half: Array, limits: tuple[float, float]) -> list[Estimate]:
    """Return differences of means of scores within limits."""
    largest = limits[1] - limits[0]
    found = zip(differences.tolist(), half.tolist(), strict=True)
    return [t_estimate(point, width, (-largest, largest)) for point, width in found]


def _records(x: Array, y: Array, variances: Array, seeds: NDArray[np.int64]) -> list[Record]:
    """Return on how many tasks each X is better and worse than its Y, see `Improvement`.

    :param variances: as `pair_spreads` has them, and so are `seeds`.
    """
    tasks, pairs = len(seeds) // 2, seeds.shape[1]
    differences = _task_means(x, seeds[:tasks, 0]) - _task_means(y, seeds[tasks:, 0])  # weighted as the variances are
    p_values = welch_p_values(differences.ravel(), variances.reshape(2, -1), seeds.reshape(2, -1))
    is_decided = holm(p_values.reshape(tasks, pairs), tasks) <= SIGNIFICANT
    won, lost = ((is_decided & (sign * differences > 0)).sum(axis=0) for sign in (1, -1))
    return [Record(int(w), int(k), tasks - int(w + k)) for w, k in zip(won, lost, strict=True)]


def _task_means(cells: Array, seeds: NDArray[np.int64]) -> Array:
    """Return the means of runs of each task, divided by the number of tasks: (cells, pairs) -> (tasks, pairs)."""
    weights = run_weights(tuple(seeds.tolist()))[:, None]
    return np.asarray(np.add.reduceat(weights * cells, np.cumsum([0, *seeds[:-1]])))


def _chances(x: Array, y: Array, seeds_x: tuple[int, ...], seeds_y: tuple[int, ...], reps: int) -> list[Estimate]:
    """Return P(X > Y) of pairs that share a layout: scores of X and of Y, each (cells, pairs)."""
    chances = _Chances.of(x, y, seeds_x, seeds_y)
    (points,) = chances(np.ones((1, len(x))), np.ones((1, len(y))))
    if min(*seeds_x, *seeds_y) < 2:
        return [Estimate(float(point)) for point in points]
    counts_x, counts_y = pair_counts(seeds_x, seeds_y, reps)
    size = max(1, BLOCK_ENTRIES // max(counts_x.shape[1], counts_y.shape[1]))
    blocks = in_parallel(
        lambda start: chances(counts_x[start : start + size], counts_y[start : start + size]), range(0, reps, size)
    )
    probabilities = Curve(points, percentile_bounds(np.concatenate(list(blocks.values()))), "bootstrap")
    return [probabilities.estimate(pair) for pair in range(x.shape[1])]


@dataclass(frozen=True)
class _Chances:
    """P(X > Y) of pairs, as a function of how often each run is drawn.

    :param tables: for each task, what every meeting of a run of X with a run of Y scores, shape (meetings, pairs).
    :param ends_x: where in the cells of X each task but the last ends.
    :param scale: what the sum over all meetings is multiplied by.
    """

    tables: Sequence[NDArray[np.floating]]
    ends_x: NDArray[np.int64]
    ends_y: NDArray[np.int64]
    scale: float

    @classmethod
    def of(cls, x: Array, y: Array, seeds_x: tuple[int, ...], seeds_y: tuple[int, ...]) -> _Chances:
        """Compare all runs of X and of Y, each (cells, pairs), task by task."""
        ends_x, ends_y = (np.cumsum(seeds)[:-1] for seeds in (seeds_x, seeds_y))
        # 0, 1 or 2, twice what a meeting is worth: whole numbers keep the sum exact, and 32 bits hold them.
        wins = [
            1 + np.sign(a[:, None] - b).reshape(-1, x.shape[1])
            for a, b in zip(np.split(x, ends_x), np.split(y, ends_y), strict=True)
        ]
        weights = [1 / (2 * len(wins) * len(table)) for table in wins]
        if len(set(weights)) == 1 and 2 * sum(map(len, wins)) < 2**24:
            return cls([table.astype(np.float32) for table in wins], ends_x, ends_y, weights[0])
        return cls([weight * table for weight, table in zip(weights, wins, strict=True)], ends_x, ends_y, 1.0)

    def __call__(self, counts_x: NDArray[np.generic], counts_y: NDArray[np.generic]) -> Array:
        """Return the probabilities in resamples: (R, cells) of X and of Y -> (R, pairs)."""
        total = np.zeros((len(counts_x), self.tables[0].shape[1]), self.tables[0].dtype)
        drawn_x, drawn_y = (counts.astype(total.dtype) for counts in (counts_x, counts_y))
        parts = zip(np.split(drawn_x, self.ends_x, axis=1), np.split(drawn_y, self.ends_y, axis=1), strict=True)
        for (a, b), table in zip(parts, self.tables, strict=True):
            total += (a[:, :, None] * b[:, None]).reshape(len(a), -1) @ table
        return self.scale * total.astype(np.float64)


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
            seed_variances(runs, limits, None if episodes is None else episodes[method])[:, 0],
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
