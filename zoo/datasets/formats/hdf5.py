"""Open HDF5 files and read their arrays, for all formats based on HDF5."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from agents.common.data.arrays import Array
from zoo.algorithms.packages import import_optional
from zoo.datasets.formats.base import (
    explaining_damage,
)
from zoo.terminal.errors import UsageError

EXTENSIONS = (".hdf5", ".h5")
Stored: TypeAlias = dict[str, Any]
"""Path in an HDF5 file -> its array, not yet read into memory."""


def import_extra(package: str, needed_by: str) -> Any:
    """Import and return a package that ``pip install flow-rl-zoo[data]`` installs.

    :param needed_by: feature that needs the package, for the message.
    """
    return import_optional(package, package, needed_by, "flow-rl-zoo[data]")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Stored]:
    """Open a file and yield its arrays; errors in the file are raised as UsageError."""
    h5py = import_extra("h5py", f"reading {path}")
    stored: Stored = {}
    elsewhere: list[str] = []

    def visit(name: str, link: Any) -> None:  # must not raise: HDF5 does not pass exceptions on
        entry = file[name] if isinstance(link, h5py.HardLink) else None
        is_array = isinstance(entry, h5py.Dataset)
        if entry is None or (is_array and (entry.is_virtual or entry.external)):
            elsewhere.append(name)
        elif is_array:
            stored[name] = entry

    with explaining_damage(path, "HDF5"), h5py.File(path, "r") as file:
        file.visititems_links(visit)
        if elsewhere:  # a link may lead to any other file on the machine
            raise UsageError(
                f"{path}: `{elsewhere[0]}` is a link or a virtual array; write its content to the file"
            )
        yield stored


def names_in(path: Path, group: str) -> list[str]:
    """Return the names of a group's entries, without opening its arrays; empty if the file has no such group."""
    h5py = import_extra("h5py", f"reading {path}")
    with explaining_damage(path, "HDF5"), h5py.File(path, "r") as file:
        # a link may lead to any other file on the machine
        is_link = not isinstance(file.get(group, getlink=True), h5py.HardLink)
        if is_link or not isinstance(file[group], h5py.Group):
            return []
        return list(file[group])


def groups_of(stored: Stored, pattern: str) -> dict[int, Stored]:
    """Return the arrays of numbered HDF5 groups: number of the group -> name of the array -> array.

    :param pattern: regular expression of paths, whose two capture groups match the number and the name.
    """
    groups: dict[int, Stored] = {}
    for path, entry in stored.items():
        match = re.fullmatch(pattern, path)
        if match:
            groups.setdefault(int(match[1]), {})[match[2]] = entry
    return groups


def read_array(name: str, stored: Stored, key: str) -> Array:
    """Return an array; raises UsageError unless its rows are numeric."""
    part = stored[key]
    if not part.shape or part.dtype.kind not in "fiub":
        raise UsageError(
            f"{name}: `{key}` must hold rows of numbers, got {part.dtype}; leave it out, or convert it"
        )
    array: Array = part[()]
    return array
