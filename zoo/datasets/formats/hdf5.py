"""Read HDF5 files of unknown origin: numbers that lie in the file itself, no more than there is memory for."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.files import open_file, regular_file
from agents.common.files.bounded import read_text
from agents.common.validation import number
from zoo.datasets.formats.episodes import (
    Array,
    Arrays,
    Episode,
    Size,
    checked_episode,
    require_flags,
    require_keys,
    tell_memory,
)
from zoo.envs.robomimic import OBSERVATIONS
from zoo.errors import UsageError
from zoo.packages import import_optional

MINARI = "minari:"
_MINARI_FILE = Path("data", "main_data.hdf5")
_MINARI_ARRAYS = ("observations", "actions", "rewards", "terminations")
_MOST_METADATA_BYTES = 1 << 24
_OF_ENVIRONMENT = ("env_name", "env_version")
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


def minari_folder(name: str) -> Path:
    """Return where Minari keeps a set, whether it is there or not."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser() / name


def find_d4rl(name: str, dataset_dir: str | Path | None) -> str:
    """Return the data of a task of D4RL, as `zoo.datasets.formats.read.read_source` takes them."""
    return f"{MINARI}{name}" if dataset_dir is None else str(Path(dataset_dir).expanduser() / name)


def find_minari(name: str) -> Path:
    """Return the folder of a Minari set, given its id; it is downloaded where it is missing."""
    folder = minari_folder(name)
    if ".." in Path(name).parts or not name or Path(name).is_absolute():
        raise UsageError(f"`{MINARI}` must be followed by the id of a Minari dataset, got {name!r}")
    if not (folder / "data").is_dir():
        minari = import_extra("minari", f"downloading {MINARI}{name}")
        try:
            minari.download_dataset(name)
        except Exception as error:  # whatever its hosts raise
            raise UsageError(
                f"there is no Minari dataset {name} at {folder}, and its download failed "
                f"({' '.join(str(error).split()) or type(error).__name__}); check the id with `minari list remote`, or "
                f"run `minari download {name}` where there is internet, and copy it there or set MINARI_DATASETS_PATH"
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


def minari_references(metadata: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the returns of a random and of an expert policy, which Minari normalises by; None if there are no two."""
    try:
        low, high = (number(name, metadata.get(name)) for name in ("ref_min_score", "ref_max_score"))
    except (TypeError, ValueError):
        return None
    return (low, high) if low < high else None


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
    return _size_first(_minari_episodes(path))


def _minari_episodes(path: Path) -> Iterator[Size | Episode]:
    """Yield the size of a set, then its episodes."""
    with _opened(path) as file:
        numbers = sorted(int(name[8:]) for name in file if name.startswith("episode_") and name[8:].isdigit())
        groups = [_linked(path, file, f"episode_{number}") for number in numbers]
        if not groups:
            raise UsageError(f"{path} must hold episodes, got none; record or download the Minari dataset again")
        parts = [_members(path, group) for group in groups]
        steps = sum(part["actions"].shape[0] for part in parts)
        width = sum(each.shape[-1] for each in parts[0]["observations"])
        yield Size(len(parts), steps, width, parts[0]["actions"].shape[-1])
        for episode, part in zip(numbers, parts, strict=True):
            name = f"{path}, episode {episode}"
            observed = part.pop("observations")
            tell_memory(name, sum(map(_bytes, (*observed, *part.values()))))
            observations = np.concatenate([each[()] for each in observed], axis=-1)
            actions, rewards, terminated = (part[key][()] for key in _MINARI_ARRAYS[1:])
            yield checked_episode(name, observations, actions, rewards, terminated=terminated, masks=None)


def _members(path: Path, group: Any) -> dict[str, Any]:
    """Return the arrays of an episode, unread; the observations are a list, of the parts of a Dict in their order."""
    name = f"{path}, {group.name}"
    if not _is_group(group):
        raise UsageError(f"{name} must be a group of arrays; get the Minari dataset again")
    require_keys(name, group, _MINARI_ARRAYS)
    observed = _linked(path, group, "observations")
    inside, keys = (observed, sorted(observed)) if _is_group(observed) else (group, ["observations"])
    parts = [_dataset(path, inside, key) for key in keys]
    return {key: _dataset(path, group, key) for key in _MINARI_ARRAYS[1:]} | {"observations": parts}


def _require_box(folder: Path, role: str, space: Mapping[str, Any]) -> None:
    """Refuse a space of a Minari set that is no vector of real numbers, by what it is; observations may be several."""
    kind, shape, parts = space.get("type"), space.get("shape"), space.get("subspaces")
    are_vectors = role == "observation" and isinstance(parts, dict) and all(map(_is_vector, parts.values()))
    if kind is None or _is_vector(space) or (kind == "Dict" and are_vectors):
        return
    got = f"a Box of shape {tuple(shape)}" if kind == "Box" and isinstance(shape, list) else f"{str(kind)[:40]}"
    inside = f" of {', '.join(map(str, parts))[:80]}" if isinstance(parts, dict) else ""
    raise UsageError(
        f"{folder} has the {role} space {got}{inside}, expected a one-dimensional Box; choose a dataset with vectors, "
        "or write one with the wrapper `gymnasium.wrappers.FlattenObservation` around its environment"
    )


def _is_vector(space: Any) -> bool:
    return isinstance(space, dict) and space.get("type") == "Box" and len(space.get("shape") or ()) == 1


def _parsed(text: Any) -> dict[str, Any]:
    """Return an object that is text in JSON; empty where it is none."""
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


# -- robomimic --------------------------------------------------------------------------------------------------------


def is_robomimic(path: Path) -> bool:
    """Return whether an HDF5 file holds demonstrations in robomimic's layout."""
    with _opened(path) as file:
        data = file["data"] if "data" in file and _is_inside(file, "data") else None
        return data is not None and _is_group(data) and any(map(_is_demonstration, data))


def robomimic_environment(path: Path) -> dict[str, str]:
    """Return ``env_name`` and ``env_version`` of robosuite that a file of robomimic says it was recorded with, if any.

    They are sought as text: reading the attribute that has them, HDF5's library never ends in some damaged files.
    """
    with open_file(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = {name: re.search(rb'"%s": ?"([\w.]{1,40})"' % name.encode(), content) for name in _OF_ENVIRONMENT}
        return {name: match[1].decode("ascii") for name, match in found.items() if match}


def open_robomimic(path: Path) -> tuple[Size, Iterator[Episode]]:
    """Return the size of robomimic's demonstrations and their episodes, which are read one at a time.

    As in Q-chunking (arXiv 2507.07969, ``envs/robomimic_utils.py`` and ``main.py``), the reward is 0 where the file's
    is 1, and -1 where it is 0; nothing comes after a step that is ``done``, so that what a demonstration shows after it
    is an episode of its own.
    """
    return _size_first(_demonstrations(path))


def _demonstrations(path: Path) -> Iterator[Size | Episode]:
    """Yield the size of a set, then its episodes, in the order of the demonstrations' numbers."""
    with _opened(path) as file:
        data = _linked(path, file, "data")
        others = [name for name in data if not _is_demonstration(name)]
        if others:
            raise UsageError(f"{path} must hold demo_0, demo_1, ... in `data`, got {others[0][:40]!r} too; remove it")
        parts = [_demonstration(path, data, name) for name in sorted(data, key=lambda name: int(name[5:]))]
        steps, ends = sum(len(part["dones"]) for part in parts), sum(len(_ends(part)) for part in parts)
        widths = (sum(sensor.shape[1] for sensor in parts[0]["obs"]), parts[0]["actions"].shape[-1])
        yield Size(ends, steps, *widths)
        for part in parts:
            yield from _episodes_of(part)


def _demonstration(path: Path, data: Any, name: str) -> dict[str, Any]:
    """Return the arrays of a demonstration, of which only ``dones`` is read."""
    group, name = _linked(path, data, name), f"{path}, {name}"
    if not _is_group(group) or "obs" not in group:
        raise UsageError(f"{name} has no observations, as in robomimic's raw files; get low_dim_v15.hdf5 instead")
    require_keys(name, group, ("actions", "rewards", "dones"))
    part: dict[str, Any] = {key: _dataset(path, group, key) for key in ("actions", "rewards", "dones")}
    part["obs"] = _sensors(path, name, group, "obs")
    part["next_obs"] = _sensors(path, name, group, "next_obs") if "next_obs" in group else []
    steps = part["actions"].shape[0]
    arrays = [*part["obs"], *part["next_obs"], part["rewards"], part["dones"]]
    wrong = [array for array in arrays if array.shape[0] != steps]
    if wrong or not steps:
        key, got = (wrong[0].name.partition("/data/")[2], wrong[0].shape[0]) if wrong else ("actions", 0)
        wanted = f"{steps} rows like the actions" if steps else "at least one row"
        raise UsageError(f"{name}: `{key}` must have {wanted}, got {got}; get the file again")
    tell_memory(name, sum(map(_bytes, [part["actions"], *arrays])))
    return part | {"name": name, "dones": require_flags(name, "dones", part["dones"][()], steps)}


def _sensors(path: Path, name: str, group: Any, key: str) -> list[Any]:
    """Return the parts of observations, unread."""
    found = _linked(path, group, key)
    there = list(found) if _is_group(found) else []
    if not set(OBSERVATIONS) & set(there) and any(sensor.endswith(("_image", "_depth")) for sensor in there):
        raise UsageError(f"{name} has images only ({', '.join(there[:3])}); get low_dim_v15.hdf5 instead")
    require_keys(f"{name}, {key}", there, OBSERVATIONS)
    parts = [_dataset(path, found, sensor) for sensor in OBSERVATIONS]
    for sensor, part in zip(OBSERVATIONS, parts, strict=True):
        if len(part.shape) != 2:
            raise UsageError(f"{name}: `{key}/{sensor}` must have shape (steps, size), got {part.shape}; reshape it")
    return parts


def _ends(part: dict[str, Any]) -> Array:
    """Return how many steps there are up to the end of each of a demonstration's episodes."""
    dones = part["dones"]
    known = len(dones) - (not part["next_obs"] and not dones[-1])  # steps after which the state is known, or unneeded
    return np.union1d(np.flatnonzero(dones) + 1, [known] if known else []).astype(int)


def _episodes_of(part: dict[str, Any]) -> Iterator[Episode]:
    """Yield the episodes of a demonstration."""
    observations = np.concatenate([sensor[()] for sensor in part["obs"]], axis=1)
    last = np.concatenate([sensor[-1:] for sensor in part["next_obs"] or part["obs"]], axis=1)
    observations = np.concatenate([observations, last])
    actions, remedy = part["actions"][()], "dense rewards are not read, get the sparse file"
    rewards = require_flags(part["name"], "rewards", part["rewards"][()], len(actions), remedy) - 1.0
    begin = 0
    for end in _ends(part):
        steps = slice(begin, end)
        yield checked_episode(
            part["name"],
            observations[begin : end + 1],
            actions[steps],
            rewards[steps],
            terminated=None,
            masks=1.0 - part["dones"][steps],
        )
        begin = end


def _is_demonstration(name: str) -> bool:
    return re.fullmatch(r"demo_[0-9]{1,9}", name) is not None


# -- HDF5 -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file to read; whatever is wrong with it becomes a UsageError."""
    h5py = import_extra("h5py", f"reading {path}")
    try:
        with h5py.File(regular_file(path), "r") as file:
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
    if not _is_inside(group, name):
        raise UsageError(f"{path}: `{name}` must lie in the file, got a link to another place; write it again")
    return group[name]


def _is_inside(group: Any, name: str) -> bool:
    """Return whether a group has a part that is not a link to another place."""
    return type(group.get(name, getlink=True)).__name__ == "HardLink"


def _is_group(part: Any) -> bool:
    return hasattr(part, "keys")


def _size_first(found: Iterator[Size | Episode]) -> tuple[Size, Iterator[Episode]]:
    """Return the size of a set, which comes first, and its episodes, which are read one at a time."""
    size = next(found)
    assert isinstance(size, Size)
    return size, found  # type: ignore[return-value]


def _bytes(part: Any) -> int:
    return int(np.prod(part.shape, dtype=object)) * part.dtype.itemsize
