"""Read npz files: one with a set's arrays, or a folder with a file for each episode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from agents.common.data.arrays import KNOWN_ARRAYS, Transitions
from agents.common.files.npz import read_npz, read_npz_headers
from zoo.datasets.check import check_checksum, error_messages
from zoo.datasets.formats.base import Format, Reading
from zoo.datasets.formats.episodes import (
    Arrays,
    Episode,
    joined,
    masks_of,
    require_keys,
    transitions_of,
)
from zoo.errors import UsageError

_EPISODE_ARRAYS = ("observations", "actions", "rewards", "terminated", "masks")


class Npz(Format):
    """Arrays in any layout that `docs/datasets.md` describes."""

    def matches(self, path: Path) -> bool:
        """Return whether it is an npz file."""
        return path.suffix == ".npz" and not path.is_dir()

    def read(self, path: Path, reading: Reading) -> Transitions:
        """Return the transitions."""
        require_recorded([path])
        return transitions_of(str(path), _read(path, KNOWN_ARRAYS))


class Episodes(Format):
    """A folder of npz files, one for each episode."""

    def matches(self, path: Path) -> bool:
        """Return whether it is a folder with such files."""
        return path.is_dir() and bool(npz_files(path))

    def read(self, path: Path, reading: Reading) -> Transitions:
        """Return the transitions."""
        return joined(str(path), self._episodes(npz_files(path)))

    def _episodes(self, files: Sequence[Path]) -> Iterator[Episode]:
        for path in files:
            arrays = _read(path, _EPISODE_ARRAYS)
            if "masks" not in arrays:
                if "terminated" not in arrays:
                    raise UsageError(
                        f"{path} must have `terminated`, 1 if the task ended the episode and 0 if it was cut off, or "
                        "`masks`; add it"
                    )
                arrays["masks"] = masks_of(str(path), arrays["terminated"], len(arrays["actions"]))
            yield Episode(str(path), *(arrays[name] for name in ("observations", "actions", "rewards", "masks")))


def npz_files(path: Path) -> list[Path]:
    """Return the npz files of a folder, except those for validation; or a file, if it is one."""
    if not path.is_dir():
        return [path] * (path.suffix == ".npz")
    return sorted(file for file in path.glob("*.npz") if not file.stem.endswith("-val"))


def require_recorded(files: Sequence[Path]) -> None:
    """Refuse files that differ from the checksums beside them."""
    for file in files:
        if damaged := error_messages(check_checksum(file)[1]):
            what = "; ".join(damaged)
            raise UsageError(f"{file} cannot be used: {what}; make it again, or remove {file.name}.sha256")


def _read(path: Path, names: Sequence[str]) -> Arrays:
    require_keys(str(path), read_npz_headers(path), ("observations", "actions", "rewards"))
    return read_npz(path, names)
