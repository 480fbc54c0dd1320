"""Read npz files: one with the arrays of a dataset, or a folder with a file for each episode."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from agents.common.data.arrays import KNOWN_ARRAYS, Transitions
from agents.common.files.npz import read_npz, read_npz_headers
from zoo.datasets.files import check_checksum
from zoo.datasets.formats.base import (
    Arrays,
    Format,
    ReadOptions,
    add_rewards,
    episode_of,
    joined,
    masks_of,
    require_keys,
    transitions_of,
)

_EPISODE_ARRAYS = ("observations", "actions", "rewards", "terminated", "masks")


class Npz(Format):
    """Arrays in any layout that `docs/datasets.md` describes."""

    extensions = (".npz",)
    supported = ("reward_from",)

    def read(self, path: Path, options: ReadOptions) -> Transitions:
        """Return the transitions."""
        check_checksum(path)
        return transitions_of(str(path), _read(path, KNOWN_ARRAYS, options))


class Episodes(Format):
    """A folder of npz files, one for each episode."""

    supported = ("reward_from",)

    def matches(self, path: Path) -> bool:
        """Return whether it is a folder with such files."""
        return path.is_dir() and bool(npz_files(path))

    def read(self, path: Path, options: ReadOptions) -> Transitions:
        """Return the transitions."""
        episodes = {}
        for file in npz_files(path):
            arrays = _read(file, _EPISODE_ARRAYS, options)
            if "masks" not in arrays:
                advice = (
                    "add it, 1 if the task ended the episode and 0 if it was cut off, or `masks`"
                )
                require_keys(str(file), arrays, ["terminated"], advice)
                arrays["masks"] = masks_of(str(file), arrays["terminated"], len(arrays["actions"]))
            parts = (arrays[name] for name in ("observations", "actions", "rewards", "masks"))
            episodes[str(file)] = episode_of(str(file), *parts)
        return joined(str(path), episodes)


def npz_files(path: Path) -> list[Path]:
    """Return the npz files of a folder, without hidden ones and those for validation; or the path of one such file."""
    candidates = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [file for file in candidates if file.suffix.lower() == ".npz" and file.is_file()]
    # macOS leaves hidden files such as `._000.npz` beside those that it copies to other disks.
    return [file for file in files if not (file.name.startswith(".") or file.stem.endswith("-val"))]


def _read(path: Path, names: Iterable[str], options: ReadOptions) -> Arrays:
    source = options.reward_from or "rewards"
    require_keys(str(path), read_npz_headers(path), ("observations", "actions", source))
    arrays = read_npz(path, {*names, source})
    for key in ("observations", "actions"):
        arrays[key] = np.atleast_1d(arrays[key])  # a number is refused later, by its shape
    add_rewards(str(path), arrays, options)
    return arrays
