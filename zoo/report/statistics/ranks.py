"""How often runs of one method score above runs of another, from the ranks of their scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from zoo.report.statistics.estimates import Array
from zoo.report.statistics.means import Scores, blocks_of

Counts = NDArray[np.int64]


def rank_codes(scores: Mapping[str, Scores]) -> tuple[list[Counts], tuple[int, int, int]]:
    """Return the scores of methods as whole numbers that say task, method and rank, for `tally`.

    :param scores: method -> task -> (runs,); all methods have the same tasks.
    :return: blocks of every method in alphabetical order, each (runs, tasks, 1, 1), and the numbers of tasks, methods
        and ranks.
    """
    methods, tasks = sorted(scores), sorted(next(iter(scores.values())))
    levels = {task: np.unique(np.concatenate([scores[method][task] for method in methods])) for task in tasks}
    shape = (len(tasks), len(methods), max(map(len, levels.values())))
    blocks = []
    for m, method in enumerate(methods):
        codes = {}
        for t, task in enumerate(tasks):
            codes[task] = (t * shape[1] + m) * shape[2] + np.searchsorted(levels[task], scores[method][task])
        blocks += blocks_of([codes])
    return blocks, shape


def tally(codes: Iterable[Counts], shape: tuple[int, int, int]) -> Counts:
    """Return how many runs of each task and method have each rank, shape (tasks, methods, ranks)."""
    found = np.concatenate([block.ravel() for block in codes])
    return np.bincount(found, minlength=math.prod(shape)).reshape(shape)


def chances(counts: Counts) -> Array:
    """Return P(X > Y), ties counted half, averaged over tasks, shape (methods, methods)."""
    shares = counts / counts.sum(axis=2, keepdims=True)
    below = shares.cumsum(axis=2) - shares / 2
    return np.asarray((shares @ below.swapaxes(1, 2)).mean(axis=0))


def rank_p_values(scores: Mapping[str, Scores], pairs: Sequence[tuple[str, str]]) -> Array:
    """Return the two-sided p value of each pair of methods that their runs score alike; NaN where a task has one run.

    It is the Wilcoxon-Mann-Whitney test with ties, summed over tasks that count equally: P(X > Y) minus one half, over
    its standard deviation where every division of a task's runs into two groups is equally likely. Unlike the bootstrap
    it takes no variance from the few seeds that there are. The normal distribution stands in for the exact one.
    """
    counts = tally(*rank_codes(scores))
    sizes, cubes = counts.sum(axis=2), (counts**3).sum(axis=2)
    mixed = counts**2 @ counts.swapaxes(1, 2)
    total = sizes[:, :, None] + sizes[:, None, :]
    ties = cubes[:, :, None] + cubes[:, None, :] + 3 * (mixed + mixed.swapaxes(1, 2)) - total
    variances = (total + 1 - ties / (total * (total - 1))) / (12 * sizes[:, :, None] * sizes[:, None, :])
    spread = np.sqrt(variances.sum(axis=0)) / len(counts)
    away = np.abs(chances(counts) - 0.5)
    found = 2 * special.ndtr(-np.divide(away, spread, out=np.zeros_like(away), where=spread > 0))
    is_alone = (sizes < 2).any(axis=0)
    found[is_alone | is_alone[:, None]] = np.nan
    names = sorted(scores)
    return np.array([found[names.index(x), names.index(y)] for x, y in pairs])
