"""Resamples of runs: how often each run is drawn, in the random stream that rliable draws."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from agents.common.validation import integer
from zoo.processes.serving import available_cores

T = TypeVar("T")
BLOCK_ENTRIES = 300_000
"""Numbers of one block of resamples: about what a processor's cache holds."""


def stream_seed(*layouts: Sequence[int]) -> int:
    """Return the 32-bit seed of the resamples of one method or of a pair, from the numbers of runs of each task."""
    name = " against ".join(",".join(str(runs) for runs in layout) for layout in layouts)
    return zlib.crc32(f"runs of {name}".encode())


@lru_cache(maxsize=4)
def run_counts(seeds: tuple[int, ...], reps: int) -> NDArray[np.unsignedinteger]:
    """Return how often each run is drawn in each resample of one method.

    :param seeds: the number of runs of each task.
    :param reps: how many resamples, >= 1.
    :return: shape (reps, cells).
    """
    return _draw(seeds, 1, reps, np.random.RandomState(stream_seed(seeds)))[0]


@lru_cache(maxsize=2)
def pair_counts(seeds_x: tuple[int, ...], seeds_y: tuple[int, ...], reps: int) -> list[NDArray[np.unsignedinteger]]:
    """Return the same for the two methods of a pair, drawn independently: two arrays, each of shape (reps, cells)."""
    stream = np.random.RandomState(stream_seed(seeds_x, seeds_y))
    if seeds_x == seeds_y:
        return _draw(seeds_x, 2, reps, stream)
    return [_draw(seeds, 1, reps, stream)[0] for seeds in (seeds_x, seeds_y)]


def _draw(
    seeds: tuple[int, ...], methods: int, reps: int, stream: np.random.RandomState
) -> list[NDArray[np.unsignedinteger]]:
    """Draw the resamples of methods that share a layout.

    With as many runs for every task, the numbers come in the order in which rliable draws them: resample, method, run,
    task. ``RandomState.randint`` and rliable's repeated ``numpy.random.choice`` give the same stream.
    """
    integer("reps", reps, at_least=1)
    smallest = np.uint8 if max(seeds) < 256 else np.uint32
    counts = [np.empty((reps, sum(seeds)), dtype=smallest) for _ in range(methods)]
    offsets = np.cumsum((0, *seeds))[:-1]
    block = max(1, BLOCK_ENTRIES // sum(seeds))
    for start in range(0, reps, block):
        size = min(block, reps - start)
        if len(set(seeds)) == 1:
            drawn = stream.randint(0, seeds[0], (size, methods, seeds[0], len(seeds))) + offsets
        else:
            tasks = [
                stream.randint(0, runs, (size, methods, runs)) + first
                for runs, first in zip(seeds, offsets, strict=True)
            ]
            drawn = np.concatenate(tasks, axis=2)
        for method in range(methods):
            rows = drawn[:, method].reshape(size, -1) + sum(seeds) * np.arange(size)[:, None]
            tally = np.bincount(rows.ravel(), minlength=size * sum(seeds))
            counts[method][start : start + size] = tally.reshape(size, -1)
    return counts


def resamples(seeds: tuple[int, ...], reps: int, dtype: type[np.floating]) -> Iterator[NDArray[np.floating]]:
    """Yield the resamples of one method in blocks of rows, as floats for the matrix products."""
    counts = run_counts(seeds, reps)
    size = max(1, BLOCK_ENTRIES // counts.shape[1])
    for start in range(0, len(counts), size):
        yield counts[start : start + size].astype(dtype)


def in_parallel(function: Callable[[Any], T], keys: Iterable[Any]) -> dict[Any, T]:
    """Call a function that resamples with several keys in threads, and return key -> result.

    Numpy lets other threads run while it works. The first call draws the resamples that the others share.
    """
    keys = list(keys)
    if not keys:
        return {}
    first = function(keys[0])
    with ThreadPoolExecutor(available_cores()) as pool:
        return dict(zip(keys, [first, *pool.map(function, keys[1:])], strict=True))
