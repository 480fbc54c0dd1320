"""HDF5 files of unknown origin: numbers that lie in the file itself."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from agents.common.files import regular_file
from zoo.datasets.formats.episodes import Array, faults_named
from zoo.errors import UsageError
from zoo.packages import import_optional

Stored: TypeAlias = dict[str, Any]
"""Arrays of an HDF5 file by their paths in it, unread."""


def import_extra(package: str, what: str) -> Any:
    """Return a package of the extra ``data``."""
    return import_optional(package, package, what, "flow-rl-zoo[data]")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Stored]:
    """Open a file and yield its arrays; links are not followed. Whatever is wrong with it becomes a UsageError."""
    h5py, found = import_extra("h5py", f"reading {path}"), Stored()
    with faults_named(path, "HDF5"), h5py.File(regular_file(path), "r") as file:
        file.visititems(lambda name, part: found.update({name: part} if isinstance(part, h5py.Dataset) else {}))
        yield found


def groups_of(stored: Stored, pattern: str) -> dict[int, Stored]:
    """Return the arrays of numbered groups, by number and name.

    :param pattern: of paths, which finds the two.
    """
    found: dict[int, Stored] = {}
    for path, part in stored.items():
        if match := re.fullmatch(pattern, path):
            found.setdefault(int(match[1]), {})[match[2]] = part
    return found


def read_array(name: str, stored: Stored, key: str, rows: int | None = None) -> Array:
    """Return an array; refuse one whose numbers lie elsewhere.

    :param rows: that it must have, each of some numbers.
    """
    part = stored[key]
    if part.is_virtual or part.external:
        raise UsageError(f"{name}: `{key}` must lie in the file; write it again")
    if not part.shape or part.dtype.kind not in "fiub":
        raise UsageError(f"{name}: `{key}` must hold rows of numbers, got {part.dtype}; leave it out, or convert it")
    if rows is not None and (len(part.shape), part.shape[0]) != (2, rows):
        raise UsageError(f"{name}: `{key}` must have {rows} rows like the actions, got {part.shape}; get it again")
    array: Array = part[()]
    return array
