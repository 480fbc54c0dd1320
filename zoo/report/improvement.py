"""How often a run of one method is better than a run of another, and by how much."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.report.estimates import Array, Curve, Estimate, Improvement, percentile_bounds, welch_half_width
from zoo.report.resampling import BLOCK_ENTRIES, in_parallel, pair_counts
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
    difference has Welch-Satterthwaite's t-interval.

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
        half = welch_half_width(np.concatenate(spread), np.array((*seeds_x, *seeds_y)))
        result.update(zip(group, _improvements(x, y, seeds_x, seeds_y, half, reps), strict=True))
    return result


def _improvements(
    x: Array, y: Array, seeds_x: tuple[int, ...], seeds_y: tuple[int, ...], half: Array, reps: int
) -> list[Improvement]:
    """Return the comparison of pairs that share a layout: scores of X and of Y, each (cells, pairs).

    :param half: half the widths of the intervals of their differences, shape (pairs,).
    """
    chances = _Chances.of(x, y, seeds_x, seeds_y)
    (points,) = chances(np.ones((1, len(x))), np.ones((1, len(y))))
    differences = run_weights(seeds_x) @ x - run_weights(seeds_y) @ y
    if min(*seeds_x, *seeds_y) < 2:
        return [Improvement(Estimate(float(p)), Estimate(float(d))) for p, d in zip(points, differences, strict=True)]
    counts_x, counts_y = pair_counts(seeds_x, seeds_y, reps)
    size = max(1, BLOCK_ENTRIES // max(counts_x.shape[1], counts_y.shape[1]))
    blocks = in_parallel(
        lambda start: chances(counts_x[start : start + size], counts_y[start : start + size]), range(0, reps, size)
    )
    probabilities = Curve(points, percentile_bounds(np.concatenate(list(blocks.values()))), "bootstrap")
    effects = Curve(differences, np.stack([differences - half, differences + half]), "t")
    return [Improvement(probabilities.estimate(pair), effects.estimate(pair)) for pair in range(x.shape[1])]


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
