"""Read HDF5 files of unknown origin: numbers that lie in the file itself, no more than there is memory for."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.bounded import read_text
from zoo.datasets.episodes import (
    Arrays,
    Episode,
    Size,
    checked_episode,
    require_keys,
    tell_memory,
)
from zoo.errors import UsageError
from zoo.packages import import_optional

MINARI = "minari:"
_MINARI_FILE = Path("data", "main_data.hdf5")
_MINARI_ARRAYS = ("observations", "actions", "rewards", "terminations")
_MOST_METADATA_BYTES = 1 << 24
_FAULTS = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError)
_FILTERS = {1, 2, 3, 4, 5, 6, 32000}  # those that h5py itself has; others are loaded as libraries


def import_extra(package: str, what: str) -> Any:
    """Return a package of the extra ``data``."""
    return import_optional(package, package, what, "flow-rl-zoo[data]")


# -- D4RL -------------------------------------------------------------------------------------------------------------


def read_hdf5(path: Path) -> Arrays:
    """Return the arrays at the top of an HDF5 file, as D4RL's files have them."""
    with _opened(path) as file:
        names = [name for name in file if name not in ("infos", "metadata")]
        found = {name: _dataset(path, file, name) for name in names if _is_dataset(path, file, name)}
        require_keys(str(path), found, ("observations", "actions"))
        tell_memory(str(path), sum(_bytes(found[name]) for name in found))
        return {name: found[name][()] for name in found}


# -- Minari -----------------------------------------------------------------------------------------------------------


def find_minari(name: str) -> Path:
    """Return the folder of a Minari set, given its id; it is downloaded where it is missing."""
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()
    folder = root / name
    if ".." in Path(name).parts or not name or Path(name).is_absolute():
        raise UsageError(f"`{MINARI}` must be followed by the id of a Minari dataset, got {name!r}")
    if not (folder / "data").is_dir():
        minari = import_extra("minari", f"downloading {MINARI}{name}")
        try:
            minari.download_dataset(name)
        except Exception as error:  # whatever its hosts raise
            raise UsageError(
                f"there is no Minari dataset {name} in {root}, and its download failed "
                f"({' '.join(str(error).split()) or type(error).__name__}); check the id with `minari list remote`, or "
                f"download it elsewhere and set MINARI_DATASETS_PATH"
            ) from error
    return folder


def is_minari(folder: Path) -> bool:
    """Return whether a folder holds a Minari set."""
    return (folder / "data" / "metadata.json").is_file()


def read_minari_metadata(folder: Path) -> dict[str, Any]:
    """Return what a Minari set says about itself; its spaces and its environment are JSON in it, and stay texts."""
    path = folder / "data" / "metadata.json"
    try:
        found = json.loads(read_text(path, _MOST_METADATA_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}; get the Minari dataset again") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} must hold an object, got {type(found).__name__}; get the Minari dataset again")
    return found


def minari_environment(metadata: Mapping[str, Any]) -> str | None:
    """Return the id of the environment that a Minari set was recorded in, if it says one; nothing is made of it."""
    spec = _parsed(metadata.get("env_spec"))
    name = spec.get("id")
    return name if isinstance(name, str) and name.isprintable() and len(name) < 200 else None


def open_minari(folder: Path) -> tuple[Size, Iterator[Episode]]:
    """Return the size of a Minari set and its episodes, which are read one at a time.

    Its environment is never made, and none of its own classes: what is read are arrays of an HDF5 file.
    """
    metadata = read_minari_metadata(folder)
    if metadata.get("data_format", "hdf5") != "hdf5":
        raise UsageError(
            f"{folder} has the format {str(metadata['data_format'])[:20]!r}, expected hdf5; write it again with "
            'Minari, `data_format="hdf5"`'
        )
    for role in ("observation", "action"):
        _require_box(folder, role, _parsed(metadata.get(f"{role}_space")))
    path = folder / _MINARI_FILE
    episodes = _minari_episodes(path)
    size = next(episodes)
    assert isinstance(size, Size)
    return size, episodes  # type: ignore[return-value]


def _minari_episodes(path: Path) -> Iterator[Size | Episode]:
    """Yield the size of a set, then its episodes."""
    with _opened(path) as file:
        numbers = sorted(int(name[8:]) for name in file if name.startswith("episode_") and name[8:].isdigit())
        groups = [_linked(path, file, f"episode_{number}") for number in numbers]
        if not groups:
            raise UsageError(f"{path} must hold episodes, got none; record or download the Minari dataset again")
        parts = [_members(path, group) for group in groups]
        steps = sum(part["actions"].shape[0] for part in parts)
        yield Size(len(parts), steps, *(parts[0][key].shape[-1] for key in ("observations", "actions")))
        for number, part in zip(numbers, parts, strict=True):
            name = f"{path}, episode {number}"
            tell_memory(name, sum(map(_bytes, part.values())))
            *arrays, terminated = (part[key][()] for key in _MINARI_ARRAYS)
            yield checked_episode(name, *arrays, terminated=terminated, masks=None)


def _members(path: Path, group: Any) -> dict[str, Any]:
    """Return the arrays of an episode, unread."""
    name = f"{path}, {group.name}"
    if not hasattr(group, "keys"):
        raise UsageError(f"{name} must be a group of arrays; get the Minari dataset again")
    require_keys(name, group, _MINARI_ARRAYS)
    return {key: _dataset(path, group, key) for key in _MINARI_ARRAYS}


def _require_box(folder: Path, role: str, space: Mapping[str, Any]) -> None:
    """Refuse a space of a Minari set that is not a vector of real numbers, by what it is."""
    kind, shape = space.get("type"), space.get("shape")
    if kind is None or (kind == "Box" and isinstance(shape, list) and len(shape) == 1):
        return
    got = f"a Box of shape {tuple(shape)}" if kind == "Box" and isinstance(shape, list) else f"{str(kind)[:40]}"
    parts = space.get("subspaces")
    inside = f" of {', '.join(map(str, parts))[:80]}" if isinstance(parts, dict) else ""
    raise UsageError(
        f"{folder} has the {role} space {got}{inside}, expected a one-dimensional Box; choose a dataset with vectors, "
        "or write one with the wrapper `gymnasium.wrappers.FlattenObservation` around its environment"
    )


def _parsed(text: Any) -> dict[str, Any]:
    """Return an object that is text in JSON; empty where it is none."""
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


# -- HDF5 -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file to read; whatever is wrong with it becomes a UsageError."""
    if not path.is_file():
        raise UsageError(f"expected an HDF5 file at {path}, got {'a folder' if path.is_dir() else 'nothing'}")
    h5py = import_extra("h5py", f"reading {path}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except _FAULTS as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{path} cannot be read as HDF5: {text}; get or make the file again") from error


def _is_dataset(path: Path, group: Any, name: str) -> bool:
    return hasattr(_linked(path, group, name), "dtype")


def _dataset(path: Path, group: Any, name: str) -> Any:
    """Return an array of a group, unread; refuse one whose numbers lie elsewhere, or that needs a library to unpack."""
    part = _linked(path, group, name)
    if not hasattr(part, "dtype") or not hasattr(part, "chunks"):
        got = "a group, as Dict and Tuple spaces have"
        raise UsageError(f"{path}: `{name}` must be an array of numbers, got {got}; write a flat one")
    settings = part.id.get_create_plist()
    filters = {settings.get_filter(number)[0] for number in range(settings.get_nfilters())}
    if part.is_virtual or part.external or filters - _FILTERS:
        raise UsageError(f"{path}: `{name}` must lie in the file, packed by gzip or lzf or not at all; write it again")
    if not part.shape or part.dtype.kind not in "fiub":
        got = f"dtype {part.dtype}" if part.shape else "a single value"
        raise UsageError(f"{path}: `{name}` must hold rows of numbers, got {got}; leave it out, or convert it")
    return part


def _linked(path: Path, group: Any, name: str) -> Any:
    """Return a part of a file; follow no link to another place."""
    if type(group.get(name, getlink=True)).__name__ != "HardLink":
        raise UsageError(f"{path}: `{name}` must lie in the file, got a link to another place; write it again")
    return group[name]


def _bytes(part: Any) -> int:
    return int(np.prod(part.shape, dtype=object)) * part.dtype.itemsize
