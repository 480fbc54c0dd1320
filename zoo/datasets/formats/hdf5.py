"""Read HDF5 files: arrays at their top as D4RL's have them; and what all formats in HDF5 share."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from agents.common.data.arrays import KNOWN_ARRAYS, Array, Transitions, check_timeouts
from zoo.algorithms.packages import import_optional
from zoo.datasets.formats.base import (
    Arrays,
    Format,
    add_rewards,
    explaining_damage,
    require_flags,
    require_keys,
    transitions_of,
    transitions_of_rows,
    warn,
)
from zoo.terminal.errors import UsageError, as_usage_error

EXTENSIONS = (".hdf5", ".h5")
Stored: TypeAlias = dict[str, Any]
"""Arrays of an HDF5 file by their paths in it, unread."""


def import_extra(package: str, needed_by: str) -> Any:
    """Return a package of the extra ``data``.

    :param needed_by: what cannot do without it, for the message.
    """
    return import_optional(package, package, needed_by, "flow-rl-zoo[data]")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Stored]:
    """Open a file and yield its arrays; what is wrong with the file becomes a UsageError."""
    h5py = import_extra("h5py", f"reading {path}")
    stored: Stored = {}
    elsewhere: list[str] = []

    def visit(name: str, link: Any) -> None:  # exceptions do not pass through the library
        entry = file[name] if isinstance(link, h5py.HardLink) else None
        is_array = isinstance(entry, h5py.Dataset)
        if entry is None or (is_array and (entry.is_virtual or entry.external)):
            elsewhere.append(name)
        elif is_array:
            stored[name] = entry

    with explaining_damage(path, "HDF5"), h5py.File(path, "r") as file:
        file.visititems_links(visit)
        if elsewhere:  # it may lie in any other file
            raise UsageError(
                f"{path}: `{elsewhere[0]}` is a link or a virtual array; write its content to the file"
            )
        yield stored


def groups_of(stored: Stored, pattern: str) -> dict[int, Stored]:
    """Return the arrays of numbered groups, by number and name.

    :param pattern: of paths, which finds the two.
    """
    groups: dict[int, Stored] = {}
    for path, entry in stored.items():
        match = re.fullmatch(pattern, path)
        if match:
            groups.setdefault(int(match[1]), {})[match[2]] = entry
    return groups


def read_array(name: str, stored: Stored, key: str) -> Array:
    """Return an array of rows of numbers."""
    part = stored[key]
    if not part.shape or part.dtype.kind not in "fiub":
        raise UsageError(
            f"{name}: `{key}` must hold rows of numbers, got {part.dtype}; leave it out, or convert it"
        )
    array: Array = part[()]
    return array


class Hdf5(Format):
    """An HDF5 file with arrays at its top."""

    extensions = EXTENSIONS
    has_success = True

    def read(self, path: Path, reward_from: str | None = None) -> Transitions:
        """Return the transitions."""
        name = str(path)
        arrays: Arrays = {}
        with opened(path) as stored:
            for key in (*KNOWN_ARRAYS, "success"):
                if key in stored:
                    arrays[key] = read_array(name, stored, key)
        return _of_d4rl(name, arrays, reward_from)


def _of_d4rl(name: str, arrays: Arrays, reward_from: str | None) -> Transitions:
    """Return the transitions of D4RL's arrays."""
    require_keys(name, arrays, ("observations", "actions", "terminals"))
    add_rewards(name, arrays, reward_from)
    # Each row has the state after it, so no trajectory loses its end.
    following = arrays.get("next_observations")
    if following is not None and len(following) == len(arrays["observations"]):
        # With them, masks can be derived from `terminals`.
        arrays.setdefault("timeouts", np.zeros(len(arrays["actions"]), bool))
        return transitions_of(name, arrays)
    if "timeouts" not in arrays:
        raise UsageError(
            f"{name} must have `timeouts`, 1 where a trajectory was cut off, or `next_observations`: without them "
            "trajectories run into one another; add one of them"
        )
    flags = {}
    for key in ("terminals", "timeouts", "masks"):
        if key in arrays:
            flags[key] = require_flags(name, key, arrays[key], len(arrays["actions"]))
    masks = np.asarray(flags.get("masks", ~flags["terminals"]), np.float32)
    with as_usage_error():
        doubt = check_timeouts(flags["timeouts"], masks, "masks" not in flags)
    if doubt:
        warn(name, doubt)
    return transitions_of_rows(name, arrays, flags["terminals"] | flags["timeouts"], masks)
