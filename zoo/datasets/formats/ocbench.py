"""Read OCBench's files: episodes with their last observations, one after the other, in one npz or several."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from agents.common.files import DamagedFile
from agents.common.files.bounded import Header, read_npz, read_npz_headers
from zoo.datasets.formats.episodes import (
    Arrays,
    Episode,
    Size,
    checked_episode,
    join,
    require_flags,
    require_keys,
    require_vectors,
)
from zoo.errors import UsageError

INTERVAL = "observation_interval"
ARRAYS = ("observations", INTERVAL, "actions", "rewards", "masks", "terminals")
"""What OCBench's own loader reads; its files may hold more."""


def is_ocbench_format(files: Sequence[Path]) -> bool:
    """Return whether the first of some npz files is one of OCBench's."""
    try:
        return bool(files) and INTERVAL in read_npz_headers(files[0])
    except (DamagedFile, OSError):
        return False  # the reader of other files says what is wrong


def read_ocbench(name: str, files: Sequence[Path]) -> Arrays:
    """Return the episodes of all files as one set in OGBench's compact layout.

    :param name: what to call the set in messages.
    """
    headers = [_headers(file) for file in files]
    steps = sum(header["actions"][0][0] for header in headers)
    rows = sum(header["observations"][0][0] for header in headers)
    observation, action = (headers[0][key][0][1] for key in ("observations", "actions"))
    return join(name, _episodes(files), Size(rows - steps, steps, observation, action))


def _headers(file: Path) -> dict[str, Header]:
    """Return shapes and dtypes of a file; refuse one whose shapes are not those of vectors."""
    headers = read_npz_headers(file)
    require_keys(str(file), headers, ARRAYS)
    shape, dtype = headers["observations"]
    require_vectors(str(file), np.broadcast_to(np.zeros((), dtype), shape))
    if len(headers["actions"][0]) != 2:
        raise UsageError(f"{file}: `actions` must have shape (rows, size), got {headers['actions'][0]}; reshape them")
    return headers


def _episodes(files: Sequence[Path]) -> Iterator[Episode]:
    for file in files:
        arrays = read_npz(file, ARRAYS)
        _require_every_observation(file, arrays[INTERVAL])
        begins = _boundaries(file, arrays)
        for number, (begin, end) in enumerate(itertools.pairwise(begins)):
            part = slice(begin, end)
            yield checked_episode(
                f"{file}, episode {number}",
                arrays["observations"][begin + number : end + number + 1],
                arrays["actions"][part],
                arrays["rewards"][part],
                terminated=None,
                masks=arrays["masks"][part],
            )


def _require_every_observation(file: Path, interval: np.ndarray) -> None:
    """Refuse a set that leaves observations out."""
    if interval.shape != () or interval.dtype.kind not in "iu" or interval != 1:
        raise UsageError(
            f"{file} has `{INTERVAL}` {interval.tolist()}, expected 1: it leaves observations out between others; "
            "give a set that has all of them"
        )


def _boundaries(file: Path, arrays: Arrays) -> np.ndarray:
    """Return the rows of actions at which episodes begin, and their number."""
    steps = len(arrays["actions"])
    terminals = require_flags(str(file), "terminals", arrays["terminals"], steps)
    if steps and not terminals[-1]:
        raise UsageError(f"{file}: `terminals` must be 1 at the last action; correct it")
    begins = np.append(0, np.flatnonzero(terminals) + 1)
    rows = len(arrays["observations"])
    if rows != steps + len(begins) - 1:
        raise UsageError(
            f"{file}: `observations` must have {steps + len(begins) - 1:,} rows, one for each of the {steps:,} actions "
            f"and one after each of the {len(begins) - 1:,} episodes, got {rows:,}; get or make the set again"
        )
    return begins
