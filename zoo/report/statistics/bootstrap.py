"""Aggregates with bootstrap intervals, those of rliable.

Runs are resampled with replacement inside each task (Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", arXiv 2108.13264). A resample is not a copy of the scores but how often it draws each run: all
methods with equally many runs share these numbers, and a statistic of thousands of resamples is a matrix product of
whole numbers. They follow rliable's random stream, so that its functions give the same intervals, which tests check.
Beyond rliable's these functions take further axes and tasks with unequal numbers of runs, and sum in an order that does
not depend on the processor.

Tasks with unequal numbers of runs are several matrices of runs and tasks, one for each number of runs, called blocks
here. A task counts as much as any other: a run weighs one over its task's number of runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby, product
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.report.statistics.estimates import MIN_SEEDS, QUANTILES, Array, Curve
from zoo.report.statistics.means import Scores, blocks_of

Draws = NDArray[np.unsignedinteger[Any]]
"""How often resamples draw each run of a block, shape (reps, runs, tasks), after any further axes of the block."""
Function = Callable[[Sequence[Array], Sequence[Draws]], Array]
"""The blocks of a method, each (runs, tasks), and their resamples, to one number for each resample."""


@lru_cache(maxsize=8)  # phases, methods and domains share their resamples
def resamples(shapes: tuple[tuple[int, ...], ...], reps: int) -> list[Draws]:
    """Return the resamples of blocks.

    :param shapes: of the blocks, (runs, tasks, ...); entries of further axes are resampled independently.
    """
    # a resample is a row of counters, one for each run of each block
    first_counter = []
    stride = []
    starts = [0]
    for runs, *cells in shapes:
        size = math.prod(cells)
        first_counter.append(starts[-1] + np.tile(np.arange(size), runs))
        stride.append(np.full(runs * size, size))
        starts.append(starts[-1] + runs * size)
    first = np.concatenate(first_counter)
    step = np.concatenate(stride)
    # the generator and the order in which rliable draws: block by block inside a resample
    random = np.random.RandomState(0)
    equal_blocks = [
        (runs, sum(map(math.prod, blocks))) for runs, blocks in groupby(shapes, itemgetter(0))
    ]
    most_runs = max(runs for runs, *_ in shapes)
    counts = np.empty((reps, len(first)), np.min_scalar_type(most_runs))
    for row in counts:
        drawn = [random.randint(runs, size=size) for runs, size in equal_blocks]
        row[:] = np.bincount(first + step * np.concatenate(drawn), minlength=len(row))
    blocks = []
    for shape, start, end in zip(shapes, starts, starts[1:], strict=False):
        block = counts[:, start:end].reshape(reps, *shape)
        # runs and tasks of a resample beside each other: statistics are products over them
        further_axes = range(3, block.ndim)
        blocks.append(np.ascontiguousarray(block.transpose(*further_axes, 0, 1, 2)))
    return blocks


def interquartile_mean(blocks: Sequence[Array], draws: Sequence[Draws]) -> Array:
    """Return the mean of the middle half of all runs, `rliable.metrics.aggregate_iqm`."""
    levels = np.unique(np.concatenate([block.ravel() for block in blocks]))
    weight = np.zeros((len(draws[0]), len(levels)))
    for block, drawn in zip(blocks, draws, strict=True):
        has_level = (block.reshape(-1, 1) == levels).astype(np.float32)
        # exact: whole numbers far below the 24 bits of a float32
        counts = (drawn.reshape(len(drawn), -1).astype(np.float32) @ has_level).astype(np.float64)
        if len(blocks) > 1:
            counts /= len(block)
        weight += counts
    total = weight[0].sum()
    cut = total / 4
    if len(blocks) == 1:
        cut = total // 4  # of runs that weigh the same, rliable cuts off whole ones
    end = np.cumsum(weight, axis=1)
    # a run on the edge of the middle half counts with the share of its weight that is inside
    middle = np.clip(end, cut, total - cut) - np.clip(end - weight, cut, total - cut)
    return (middle * levels).sum(axis=1) / (total - 2 * cut)


def median(blocks: Sequence[Array], draws: Sequence[Draws]) -> Array:
    """Return the median over tasks of the means of their runs, `rliable.metrics.aggregate_median`."""
    means = []
    for block, drawn in zip(blocks, draws, strict=True):
        means.append(np.einsum("rnt,nt->rt", drawn, block) / len(block))
    return np.asarray(np.median(np.concatenate(means, axis=1), axis=1))


FUNCTIONS: Mapping[str, Function] = {"iqm": interquartile_mean, "median": median}


def aggregates(
    scores: Mapping[str, Scores], names: Sequence[str], reps: int
) -> dict[str, dict[str, Curve]]:
    """Return method -> name of an aggregate -> its value at every evaluation, with point-wise bounds.

    There are none below `MIN_SEEDS` runs of a task. The bounds hold for one evaluation each. They say nothing about an
    average over a curve: for that, reduce each run to its average first.

    :param scores: method -> task -> (runs,), or (runs, evaluations).
    :param names: of `FUNCTIONS`.
    """
    # methods with equal numbers of runs are drawn side by side, each independently
    groups: dict[tuple[tuple[int, ...], ...], list[str]] = {}
    for method, runs in scores.items():
        groups.setdefault(tuple(map(np.shape, runs.values())), []).append(method)
    result: dict[str, dict[str, Curve]] = {method: {} for method in scores}
    if names:
        for methods in groups.values():
            curves = _side_by_side([scores[method] for method in methods], names, reps)
            result |= dict(zip(methods, curves, strict=True))
    return result


def _side_by_side(
    scores: Sequence[Scores], names: Sequence[str], reps: int
) -> list[dict[str, Curve]]:
    """Return the aggregates of methods with equal numbers of runs."""
    blocks = blocks_of(scores)
    evaluations = blocks[0].shape[3]
    columns = [*product(range(len(scores)), names, range(evaluations))]

    def values(*draws: Draws) -> Array:
        results = []
        for method, name, evaluation in columns:
            runs = [block[:, :, method, evaluation] for block in blocks]
            drawn = [block[method, evaluation] for block in draws]
            results.append(FUNCTIONS[name](runs, drawn))
        return np.stack(results, axis=1)

    # with fewer seeds these intervals would be too narrow
    curve = estimated([block.shape for block in blocks], values, reps, MIN_SEEDS)
    curves: list[dict[str, Curve]] = [{} for _ in scores]
    for column, (method, name, _) in enumerate(columns[::evaluations]):
        part = slice(column * evaluations, (column + 1) * evaluations)
        curves[method][name] = Curve(curve.points[part], curve.bounds[:, part], curve.kind)
    return curves


def performance_profile(scores: Scores, thresholds: Array, reps: int) -> Curve:
    """Return the fraction of runs whose score is above each threshold; below five seeds its bounds are too narrow.

    Put the thresholds, shape (K,), between the values that a score can take: with 50 episodes, (k + 0.5) / 50.
    """
    blocks = [block[:, :, 0, 0] for block in blocks_of([scores])]

    def above(*draws: Draws) -> Array:
        at_most = []
        for block, drawn in zip(blocks, draws, strict=True):
            is_at_most = (block.reshape(-1, 1) <= thresholds).astype(np.float32)
            counts = drawn.reshape(len(drawn), -1).astype(np.float32) @ is_at_most
            at_most.append(counts.astype(np.float64) / block.size)
        return 1 - np.average(at_most, axis=0, weights=[block.shape[1] for block in blocks])

    return estimated([block.shape for block in blocks], above, reps)


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
    """Seed NumPy's global generator, which rliable draws from, and give it its state back afterwards."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
