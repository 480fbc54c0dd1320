"""All pairs of methods: how often one is better, by how much, and which pairs are clearly different."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy import special

from zoo.report.comparison import Comparison, PairTest, Phase, ranking
from zoo.report.estimates import SIGNIFICANT, Array, Improvement, holm
from zoo.report.statistics import Scores

FEWEST_METHODS = 3
"""Two methods are one pair, which the table of improvements has already."""


def check_pairs(
    improvements: Mapping[tuple[str, str], Improvement], scores: Mapping[str, Scores]
) -> dict[tuple[str, str], PairTest]:
    """Return the p values of every ordered pair, Holm-adjusted for the number of pairs.

    :param improvements: how X compares with Y, for all ordered pairs of the methods.
    :param scores: method -> task -> (runs,), the same tasks for all methods.
    """
    pairs = list(combinations(sorted(scores), 2))
    if not pairs:
        return {}
    by_rank = holm(rank_p_values(scores, pairs), len(pairs)).tolist()
    means = np.array([improvements[pair].p_value for pair in pairs], dtype=float)  # None is NaN
    by_mean = [None if np.isnan(p) else p for p in holm(means, len(pairs)).tolist()]
    found = dict(zip(pairs, map(PairTest, by_rank, by_mean), strict=True))
    return found | {(y, x): test for (x, y), test in found.items()}


def rank_p_values(scores: Mapping[str, Scores], pairs: Sequence[tuple[str, str]]) -> Array:
    """Return the two-sided p value of each pair of methods that their runs score alike on every task.

    It is the Wilcoxon-Mann-Whitney test with ties, summed over tasks that count equally: P(X > Y) minus one half, over
    its standard deviation where every division of a task's runs into two groups is equally likely. Unlike the bootstrap
    it takes no variance from the few seeds that there are. The normal distribution stands in for the exact one.
    """
    names = sorted(scores)
    tasks = sorted(scores[names[0]])
    chances, variances = np.zeros((2, len(names), len(names)))
    for task in tasks:
        runs = [scores[name][task] for name in names]
        sizes = np.array([len(found) for found in runs])
        levels, level = np.unique(np.concatenate(runs), return_inverse=True)
        tally = np.zeros((len(names), len(levels)))  # how many runs of each method have each score
        np.add.at(tally, (np.repeat(np.arange(len(names)), sizes), level.ravel()), 1)
        meetings, total = np.outer(sizes, sizes), np.add.outer(sizes, sizes)
        chances += tally @ (tally.cumsum(axis=1) - tally / 2).T / meetings
        cubes = (tally**3).sum(axis=1)
        mixed = tally**2 @ tally.T
        ties = np.add.outer(cubes, cubes) + 3 * (mixed + mixed.T) - total
        variances += (total + 1 - ties / (total * (total - 1))) / (12 * meetings)
    x, y = ([names.index(name) for name in side] for side in zip(*pairs, strict=True))
    away, spread = np.abs(chances - len(tasks) / 2)[x, y], np.sqrt(variances)[x, y]
    return np.asarray(2 * special.ndtr(-np.divide(away, spread, out=np.zeros_like(away), where=spread > 0)))


def compared_methods(comparison: Comparison, phase: Phase) -> list[str]:
    """Return the methods of a matrix of all pairs in the order of `ranking`; none where there are too few."""
    names = [name for name in ranking(comparison) if any(name in pair for pair in phase.improvements)]
    return names if len(names) >= FEWEST_METHODS else []


def is_clear(p_value: float | None) -> bool:
    """Return whether a pair is clearly different by an adjusted p value; never where that is not known."""
    return p_value is not None and p_value <= SIGNIFICANT
