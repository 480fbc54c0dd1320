"""Bootstrap intervals by rliable (Agarwal et al. 2021, arXiv 2108.13264).

Runs are resampled with replacement inside each task. rliable takes a matrix of runs and tasks. Where tasks have unequal
numbers of runs, it gets a matrix for each number of runs, a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from rliable import library, metrics

from zoo.report.statistics.estimates import MIN_SEEDS, Array, Curve, Estimate
from zoo.report.statistics.means import Scores


def interquartile_mean(scores: Scores, reps: int) -> Estimate:
    """Return the mean of the middle half of all runs, with its interval."""

    def of_blocks(*blocks: Array) -> Array:
        return np.array([metrics.aggregate_iqm(_pooled(blocks))])

    return _estimated([scores], of_blocks, reps).estimate()


def performance_profile(scores: Scores, thresholds: Array, reps: int) -> Curve:
    """Return the fraction of runs whose score is above each threshold, with point-wise intervals.

    Put the thresholds, shape (K,), between the values that a score can take: with 50 episodes, (k + 0.5) / 50.
    """

    def of_blocks(*blocks: Array) -> Array:
        # `rliable.library.score_distributions`, which looks at all runs again for each threshold
        runs = np.sort(_pooled(blocks))
        return 1 - np.searchsorted(runs, thresholds, "right") / len(runs)

    return _estimated([scores], of_blocks, reps)


def probability_of_improvement(x: Scores, y: Scores, reps: int) -> Estimate:
    """Return P(X > Y), ties counted half, averaged over tasks that count equally.

    It is `rliable.metrics.probability_of_improvement`, which calls SciPy's test of ranks for each task and resample.
    """

    def of_blocks(*blocks: Array) -> Array:
        half = len(blocks) // 2  # the blocks of X, then those of Y, on the same tasks
        total = 0.0
        for of_x, of_y in zip(blocks[:half], blocks[half:], strict=True):
            above = of_x[:, None] > of_y
            equal = of_x[:, None] == of_y
            wins = np.count_nonzero(above) + np.count_nonzero(equal) / 2
            total += wins / (len(of_x) * len(of_y))
        return np.array([total / len(x)])

    return _estimated([x, y], of_blocks, reps).estimate()


def _pooled(blocks: tuple[Array, ...]) -> Array:
    """Return all runs of all tasks, shape (runs of all tasks,)."""
    return np.concatenate([block.ravel() for block in blocks])


def _estimated(methods: list[Scores], function: Callable[..., Array], reps: int) -> Curve:
    """Return a function of blocks with its intervals; without them where a task has fewer runs than `MIN_SEEDS`.

    Without repetitions there are none either.

    :param methods: the scores of one method, or of two that are resampled independently.
    :param function: their blocks to numbers, shape (K,).
    """
    tasks_of: dict[tuple[int, ...], list[str]] = {}
    for task in methods[0]:
        tasks_of.setdefault(tuple(len(scores[task]) for scores in methods), []).append(task)
    blocks = []
    for scores in methods:
        for tasks in tasks_of.values():
            blocks.append(np.stack([scores[task] for task in tasks], axis=1))
    if not reps or min(map(len, blocks)) < MIN_SEEDS:
        points = function(*blocks)
        return Curve(points, np.full((2, len(points)), np.nan))
    with seeded():
        points_of, bounds_of = library.get_interval_estimates({"": blocks}, function, reps=reps)
    return Curve(points_of[""], bounds_of[""])


@contextmanager
def seeded() -> Iterator[None]:
    """Seed NumPy's global generator, which libraries draw from, and give it its state back afterwards."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
