"""Read OCBench's files: episodes with their last observations, one after the other, in one npz or several."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from agents.common.data.arrays import Transitions
from agents.common.files import DamagedFile
from agents.common.files.npz import read_npz, read_npz_headers
from zoo.datasets.formats.base import Format, Reading
from zoo.datasets.formats.episodes import (
    Arrays,
    Episode,
    joined,
    require_flags,
    require_keys,
    tell_of_successes,
)
from zoo.datasets.formats.npz import npz_files, require_recorded
from zoo.errors import UsageError

INTERVAL = "observation_interval"
ARRAYS = ("observations", INTERVAL, "actions", "rewards", "masks", "terminals")
"""What OCBench's own loader reads; its files may hold more."""


class Ocbench(Format):
    """A file of OCBench, or a folder of such files."""

    def matches(self, path: Path) -> bool:
        """Return whether the first of the npz files is one of OCBench's."""
        files = npz_files(path)
        try:
            return bool(files) and INTERVAL in read_npz_headers(files[0])
        except (DamagedFile, OSError):
            return False  # the reader of other files says what is wrong

    def read(self, path: Path, reading: Reading) -> Transitions:
        """Return the transitions."""
        files = npz_files(path)
        require_recorded(files)
        found = joined(str(path), _episodes(files))
        tell_of_successes(str(path), found.arrays["masks"] == 0)
        return found


def _episodes(files: Sequence[Path]) -> Iterator[Episode]:
    """Yield the episodes of all files."""
    for file in files:
        arrays = read_npz(file, ARRAYS)
        require_keys(str(file), arrays, ARRAYS)
        _require_every_observation(file, arrays[INTERVAL])
        for number, (begin, end) in enumerate(itertools.pairwise(_boundaries(file, arrays))):
            yield Episode(
                f"{file}, episode {number}",
                arrays["observations"][begin + number : end + number + 1],
                *(arrays[key][begin:end] for key in ("actions", "rewards", "masks")),
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
