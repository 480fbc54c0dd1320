"""Aggregates with bootstrap intervals, by rliable.

Runs are resampled with replacement inside each task (Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", arXiv 2108.13264). rliable computes estimates. For its intervals it would call a function once
for each resample. Here a resample is how often it draws each run, so a statistic of all resamples is a matrix product,
and methods with equally many runs share resamples. The intervals are those of
`rliable.library.get_interval_estimates`, which tests check.

rliable takes scores as matrices of runs and tasks. Functions here also take further axes, and tasks with unequal
numbers of runs. Then there are several matrices, one for each number of runs, called blocks. A task counts as
much as any other: a run weighs one over its task's number of runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rliable import metrics

from zoo.report.statistics.estimates import MIN_SEEDS, QUANTILES, Array, Curve
from zoo.report.statistics.means import Scores, blocks_of

Draws = NDArray[np.unsignedinteger[Any]]
"""How often resamples draw each run of a block, shape (reps, runs, tasks), after any further axes of the block."""


@lru_cache(maxsize=8)  # phases, methods and domains share their resamples
def resamples(shapes: tuple[tuple[int, ...], ...], reps: int) -> list[Draws]:
    """Return rliable's resamples of blocks, drawn in its order.

    :param shapes: of the blocks, (runs, tasks, ...); entries of further axes are resampled independently.
    """
    counts = []
    places = []
    for runs, tasks, *further in shapes:
        # runs and tasks of a resample beside each other: statistics are products over them
        counts.append(np.empty((*further, reps, runs, tasks), np.min_scalar_type(runs)))
        first = runs * tasks * np.arange(math.prod(further))
        places.append(np.add.outer(np.arange(tasks), first).reshape(tasks, *further))
    with seeded():
        for rep, (k, shape) in product(range(reps), enumerate(shapes)):
            # the draws of `rliable.library.StratifiedIndependentBootstrap`, whose indices take four times as long
            drawn = np.random.randint(shape[0], size=shape) * shape[1] + places[k]
            block = counts[k][..., rep, :, :]
            block[...] = np.bincount(drawn.ravel(), minlength=block.size).reshape(block.shape)
    return counts


def _count_at_most(block: Array, drawn: Draws, values: Array) -> Array:
    """Return how many drawn runs score at most each of K values, shape (reps, K)."""
    is_at_most = (block.reshape(-1, 1) <= values).astype(np.float32)
    # exact: whole numbers far below the 24 bits of a float32
    return (drawn.reshape(len(drawn), -1).astype(np.float32) @ is_at_most).astype(np.float64)


def interquartile_mean(blocks: Sequence[Array], draws: Sequence[Draws]) -> Array:
    """Return the mean of the middle half of all runs of each resample, `rliable.metrics.aggregate_iqm`."""
    levels = np.unique(np.concatenate([block.ravel() for block in blocks]))
    end = np.zeros((len(draws[0]), len(levels)))
    for block, drawn in zip(blocks, draws, strict=True):
        end += _count_at_most(block, drawn, levels) / len(block)
    total = sum(block.shape[1] for block in blocks)
    cut = total / 4
    if len(blocks) == 1:
        # of runs that weigh the same, rliable cuts off whole ones
        cut = blocks[0].size // 4 / len(blocks[0])
    # a run on the edge of the middle half counts with the share of its weight that is inside
    middle = np.diff(np.clip(end, cut, total - cut), prepend=cut)
    return (middle * levels).sum(axis=1) / (total - 2 * cut)


def median(blocks: Sequence[Array], draws: Sequence[Draws]) -> Array:
    """Return the median over tasks of the means of their runs of each resample, `rliable.metrics.aggregate_median`."""
    means = []
    for block, drawn in zip(blocks, draws, strict=True):
        means.append(np.einsum("rnt,nt->rt", drawn, block) / len(block))
    return np.asarray(np.median(np.concatenate(means, axis=1), axis=1))


FUNCTIONS: Mapping[str, tuple[Callable[[Sequence[Array], Sequence[Draws]], Array], Any]] = {
    "iqm": (interquartile_mean, metrics.aggregate_iqm),
    "median": (median, metrics.aggregate_median),
}
"""Aggregate -> function of the blocks of a method, each (runs, tasks), and of their resamples, which returns a number
for each resample; and rliable's function of one block."""


def aggregates(
    scores: Mapping[str, Scores], names: Sequence[str], reps: int
) -> dict[str, dict[str, Curve]]:
    """Return method -> name of an aggregate -> its value at every evaluation, with point-wise bounds.

    There are none below `MIN_SEEDS` runs of a task. The bounds hold for one evaluation each. They say nothing about an
    average over a curve: for that, reduce each run to its average first.

    :param scores: method -> task -> (runs,), or (runs, evaluations).
    :param names: of `FUNCTIONS`.
    """
    result: dict[str, dict[str, Curve]] = {method: {} for method in scores}
    for name, methods in product(names, drawn_together(scores)):
        curves = _side_by_side([scores[method] for method in methods], name, reps)
        for method, curve in zip(methods, curves, strict=True):
            result[method][name] = curve
    return result


def drawn_together(scores: Mapping[str, Scores]) -> list[list[str]]:
    """Return the methods with equal numbers of runs, which are resampled side by side, each independently."""
    groups: dict[tuple[tuple[int, ...], ...], list[str]] = {}
    for method, runs in scores.items():
        groups.setdefault(tuple(map(np.shape, runs.values())), []).append(method)
    return list(groups.values())


def _side_by_side(scores: Sequence[Scores], name: str, reps: int) -> list[Curve]:
    """Return one aggregate of methods with equal numbers of runs."""
    blocks = blocks_of(scores)
    columns = np.arange(blocks[0].shape[2])
    of_resamples, of_block = FUNCTIONS[name]

    def values(*draws: Draws) -> Array:
        results = []
        for k in columns:
            runs = [block[:, :, k] for block in blocks]
            results.append(of_resamples(runs, [drawn[k] for drawn in draws]))
        return np.stack(results, axis=1)

    # with fewer seeds these intervals would be too narrow
    curve = estimated([block.shape for block in blocks], values, reps, MIN_SEEDS)
    if len(blocks) == 1:  # rliable has no tasks with unequal numbers of runs
        points = [of_block(blocks[0][:, :, k]) for k in columns]
        curve = replace(curve, points=np.array(points))
    parts = []
    for ends in np.split(columns, len(scores)):
        parts.append(Curve(curve.points[ends], curve.bounds[:, ends], curve.kind))
    return parts


def performance_profile(scores: Scores, thresholds: Array, reps: int) -> Curve:
    """Return the fraction of runs whose score is above each threshold; below five seeds its bounds are too narrow.

    Put the thresholds, shape (K,), between the values that a score can take: with 50 episodes, (k + 0.5) / 50.
    """
    blocks = [block[:, :, 0] for block in blocks_of([scores])]
    tasks = [block.shape[1] for block in blocks]

    def above(*draws: Draws) -> Array:
        at_most = []
        for block, drawn in zip(blocks, draws, strict=True):
            at_most.append(_count_at_most(block, drawn, thresholds) / block.size)
        return 1 - np.average(at_most, axis=0, weights=tasks)

    curve = estimated([block.shape for block in blocks], above, reps)
    # as `rliable.library.score_distributions`, whose module would load an econometrics package
    fractions = [(block.reshape(-1, 1) > thresholds).mean(axis=0) for block in blocks]
    return replace(curve, points=np.average(fractions, axis=0, weights=tasks))


def estimated(
    shapes: Sequence[tuple[int, ...]],
    function: Callable[..., Array],
    reps: int,
    min_runs: int = 2,
) -> Curve:
    """Return a function with its bounds; without them where a task has fewer runs than `min_runs`.

    :param shapes: of blocks, as in `resamples`.
    :param function: their `Draws` to numbers, shape (reps, K).
    """
    each_once = [np.ones((*shape[2:], 1, *shape[:2]), np.uint8) for shape in shapes]
    points = function(*each_once)[0]
    if min(runs for runs, *_ in shapes) < min_runs:
        return Curve(points, np.full((2, len(points)), np.nan), "none")
    values = function(*resamples(tuple(shapes), reps))
    return Curve(points, np.quantile(values, QUANTILES, axis=0), "bootstrap")


@contextmanager
def seeded() -> Iterator[None]:
    """Seed NumPy's global generator, which libraries draw from, and give it its state back afterwards."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
