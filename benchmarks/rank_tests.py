"""Statistics that compare two small groups of runs by their ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
SIMULATED_GROUPS = 4_000


def rank_test(ours: Sequence[float] | Array, theirs: Sequence[float] | Array) -> float:
    """Return the two-sided p value of the Mann-Whitney test, exact with ties too.

    Every division of the pooled runs into two groups of these sizes is counted. SciPy does so only where no two scores
    are equal, and otherwise approximates: for two groups of ten that do not overlap its p value is 17 times too large.

    :param ours: scores of one group, one a run.
    :param theirs: scores of the other group.
    """
    size = len(ours)
    ranks = np.rint(2 * stats.rankdata([*ours, *theirs])).astype(int)  # doubled, so that those of ties are whole
    counts, found = _count_rank_sums(ranks, size), ranks[:size].sum()
    tail = min(counts[: found + 1].sum(), counts[found:].sum())
    return float(min(1.0, 2 * tail / counts.sum()))


def smallest_p(ours: Sequence[float] | Array, theirs: Sequence[float] | Array) -> float:
    """Return the smallest p value that any division of the pooled runs into groups of these sizes has."""
    pooled, size = np.sort([*ours, *theirs]), len(ours)
    ends = (pooled[:size], pooled[size:]), (pooled[-size:], pooled[:-size])
    return min(rank_test(*groups) for groups in ends)


def seeds_for_equivalence(spread: float, margin: float) -> int:
    """Return the seeds a side with which two equal means are shown within a margin 8 times of 10 (normal scores).

    :param spread: standard deviation of the seeds.
    """
    quantiles = stats.norm.ppf(0.95) + stats.norm.ppf(0.9)
    return max(2, int(np.ceil(2 * (quantiles * spread / margin) ** 2)))


def difference_of_means(
    ours: Sequence[float] | Array, theirs: Sequence[float] | Array, level: float = 0.95
) -> tuple[float, float]:
    """Return the difference of two means, and half the width of its interval (Welch's t; NaN for single runs)."""
    difference, sizes = float(np.mean(ours) - np.mean(theirs)), np.array([len(ours), len(theirs)])
    if sizes.min() < 2:
        return difference, float("nan")
    parts = np.array([np.var(ours, ddof=1), np.var(theirs, ddof=1)]) / sizes
    if not parts.any():
        return difference, 0.0
    freedom = parts.sum() ** 2 / (parts**2 / (sizes - 1)).sum()
    return difference, float(stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(parts.sum()))


def detectable_shift(size: int, level: float, power: float = 0.8) -> float:
    """Return the shift that the test finds with a given probability, in standard deviations of normal scores.

    :param size: runs in each of the two groups.
    :param level: largest p value that counts.
    :return: the shift; infinite if no scores of such groups reach the level.
    """
    counts = _count_rank_sums(np.arange(1, 2 * size + 1), size)
    upper = np.cumsum(counts[::-1])[::-1] / counts.sum()
    significant = (2 * upper <= level) & (counts > 0)
    if not significant.any():
        return float("inf")
    wins_needed = int(np.argmax(significant)) - size * (size + 1) // 2
    ours, theirs = np.random.default_rng(0).standard_normal((2, SIMULATED_GROUPS, size))
    margins = ours[:, :, None] - theirs[:, None, :]
    low, high = 0.0, 20.0
    while high - low > 0.01:
        middle = (low + high) / 2
        found = ((margins + middle > 0).sum(axis=(1, 2)) >= wins_needed).mean()
        low, high = (low, middle) if found >= power else (middle, high)
    return high


def _count_rank_sums(ranks: NDArray[np.int64], size: int) -> Array:
    """Return how many subsets of some ranks have each sum.

    :param ranks: whole numbers above 0.
    :param size: ranks in a subset.
    :return: at index s the number of subsets whose sum is s.
    """
    counts = np.zeros((size + 1, ranks.sum() + 1))
    counts[0, 0] = 1
    for rank in ranks:
        counts[1:, rank:] += counts[:-1, :-rank].copy()
    return np.asarray(counts[size])
