"""Aggregates with bootstrap intervals by rliable.

Runs are resampled with replacement inside each task (Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", arXiv 2108.13264). rliable draws from NumPy's global generator, so each call seeds it and then
gives it its state back. Functions here equal rliable's metrics where every task has as many runs, which tests check;
they add what those lack: further axes, tasks with unequal numbers of runs, speed.

rliable takes scores as matrices of runs and tasks. Tasks with unequal numbers of runs become several, one for each
number of runs, called blocks here, which `StratifiedIndependentBootstrap` resamples. A task counts as much as any
other: a run weighs one over its task's number of runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from arch.bootstrap import IIDBootstrap, IndependentSamplesBootstrap
from numpy.typing import NDArray
from rliable import library, metrics

from zoo.report.statistics.estimates import Array, Curve
from zoo.report.statistics.means import Scores, blocks_of

Function = Callable[..., Array]
"""Blocks, each (runs, tasks, ...), to one number for each entry of the further axes."""


class _WithoutRandomState(IIDBootstrap):
    """Drops the `random_state=None` that rliable 1.2 passes on, which arch 8 would take for scores."""

    def __init__(self, *scores: Any, random_state: None = None) -> None:
        super().__init__(*scores)


class _IndependentWithoutRandomState(IndependentSamplesBootstrap):
    """The same for blocks that are resampled independently."""

    def __init__(self, *scores: Any, random_state: None = None) -> None:
        super().__init__(*scores)


class _OneBlock(library.StratifiedBootstrap, _WithoutRandomState):  # type: ignore[misc]  # rliable has no types
    """rliable's resamples of one block; Python calls the second parent where rliable calls arch."""


class _SeveralBlocks(library.StratifiedIndependentBootstrap, _IndependentWithoutRandomState):  # type: ignore[misc]
    """rliable's resamples of several blocks."""


def interquartile_mean(*blocks: Array) -> Array:
    """Return the mean of the middle half of all runs, `rliable.metrics.aggregate_iqm`; without `scipy` it is faster."""
    cells = np.concatenate([block.reshape(-1, *block.shape[2:]) for block in blocks])
    if len(blocks) == 1:
        cut = len(cells) // 4
        last = len(cells) - cut
        return np.partition(cells, (cut, last - 1), axis=0)[cut:last].mean(axis=0)
    weights = np.concatenate([np.full(block[..., 0, 0].size, 1 / len(block)) for block in blocks])
    order = np.argsort(cells, axis=0)
    part = weights[order] / weights.sum()
    end = np.cumsum(part, axis=0)
    # a run on the edge of the middle half counts with the share of its weight that is inside
    middle = np.clip(end, 0.25, 0.75) - np.clip(end - part, 0.25, 0.75)
    return 2 * (middle * np.take_along_axis(cells, order, axis=0)).sum(axis=0)


def median(*blocks: Array) -> Array:
    """Return the median over tasks of the means of their runs."""
    means = np.concatenate([block.mean(axis=0, keepdims=True) for block in blocks], axis=1)
    return np.asarray(metrics.aggregate_median(means))


FUNCTIONS: Mapping[str, Function] = {"iqm": interquartile_mean, "median": median}


def aggregates(
    scores: Mapping[str, Scores], names: Sequence[str], reps: int
) -> dict[str, dict[str, Curve]]:
    """Return method -> name of an aggregate -> its value at every evaluation, with point-wise bounds.

    The bounds hold for one evaluation each. They say nothing about an average over a curve: for that, reduce each run
    to its average first.

    :param scores: method -> task -> (runs,), or (runs, evaluations).
    :param names: of `FUNCTIONS`.
    """

    def values(*blocks: Array) -> Array:
        return np.concatenate([FUNCTIONS[name](*blocks).ravel() for name in names])

    # methods with equal numbers of runs are drawn side by side, each independently: one loop serves all of them
    groups: dict[tuple[tuple[int, ...], ...], list[str]] = {}
    for method, runs in scores.items():
        groups.setdefault(tuple(map(np.shape, runs.values())), []).append(method)
    result: dict[str, dict[str, Curve]] = {method: {} for method in scores}
    for methods in groups.values() if names else ():
        curve = estimated(blocks_of([scores[method] for method in methods]), values, reps)
        points = curve.points.reshape(len(names), len(methods), -1)
        bounds = curve.bounds.reshape(2, *points.shape)
        for k, name in enumerate(names):
            for m, method in enumerate(methods):
                result[method][name] = Curve(points[k, m], bounds[:, k, m], curve.kind)
    return result


def performance_profile(scores: Scores, thresholds: Array, reps: int) -> Curve:
    """Return the fraction of runs whose score is above each threshold; below five seeds its bounds are too narrow.

    Put the thresholds, shape (K,), between the values that a score can take: with 50 episodes, (k + 0.5) / 50.
    """

    def above(*blocks: Array) -> Array:
        at_most = []
        for block in blocks:
            runs = np.sort(block, axis=None)
            at_most.append(np.searchsorted(runs, thresholds, side="right") / len(runs))
        return 1 - np.average(at_most, axis=0, weights=[block.shape[1] for block in blocks])

    return estimated(blocks_of([scores]), above, reps)


def estimated(
    blocks: list[NDArray[Any]], function: Function, reps: int, min_runs: int = 2
) -> Curve:
    """Return a function of blocks with its bounds; without them where a task has fewer runs than `min_runs`."""
    points = function(*blocks)
    if min(map(len, blocks)) < min_runs:
        return Curve(points, np.full((2, len(points)), np.nan), "none")
    with seeded():
        bootstrap = _OneBlock(blocks[0]) if len(blocks) == 1 else _SeveralBlocks(*blocks)
        bounds = bootstrap.conf_int(function, reps=reps, method="percentile")
    return Curve(points, bounds, "bootstrap")


@contextmanager
def seeded() -> Iterator[None]:
    """Seed NumPy's global generator, which rliable draws from, and give it its state back afterwards."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
