"""Statistics that compare two small groups of runs by their ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from zoo.report.statistics.estimates import welch_half_width

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


def difference_of_means(ours: Sequence[float] | Array, theirs: Sequence[float] | Array) -> tuple[float, float]:
    """Return the difference of two means, and half the width of its 95% interval (Welch's t; NaN for single runs)."""
    groups = [np.asarray(ours, np.float64), np.asarray(theirs, np.float64)]
    sizes = np.array([len(group) for group in groups])
    difference = float(groups[0].mean() - groups[1].mean())
    if sizes.min() < 2:
        return difference, float("nan")
    variances = np.array([[group.var(ddof=1)] for group in groups])
    return difference, float(welch_half_width(variances, sizes)[0])


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
