"""Read HDF5 files of unknown origin: numbers that lie in the file itself, no more than there is memory for."""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from agents.common.files import open_file, regular_file
from agents.common.files.bounded import read_text
from agents.common.validation import checked_pair
from zoo.datasets.formats.episodes import (
    Array,
    Arrays,
    Episode,
    checked_episode,
    faults_named,
    masks_of,
    require_flags,
    require_keys,
    tell_memory,
)
from zoo.envs.robomimic import OBSERVATIONS, TASKS
from zoo.errors import UsageError
from zoo.packages import import_optional

MINARI = "minari:"
_MINARI_FILE = Path("data", "main_data.hdf5")
_MINARI_ARRAYS = ("observations", "actions", "rewards", "terminations")
_MOST_METADATA_BYTES = 1 << 24

Stored: TypeAlias = dict[str, Any]
"""Arrays of an HDF5 file by their paths in it, unread."""


def import_extra(package: str, what: str) -> Any:
    """Return a package of the extra ``data``."""
    return import_optional(package, package, what, "flow-rl-zoo[data]")


def read_hdf5(path: Path, names: Collection[str]) -> Arrays | list[Episode]:
    """Return the arrays of some names at the top of an HDF5 file, as D4RL's have them, or robomimic's episodes."""
    with _opened(path) as stored:
        if demonstrations := _groups(stored, r"data/demo_([0-9]{1,9})/(.+)"):
            return [each for k in sorted(demonstrations) for each in _demonstration(path, k, demonstrations[k])]
        return {name: _read(str(path), stored, name) for name in stored if name in names}


# -- Minari -----------------------------------------------------------------------------------------------------------


def minari_folder(name: str) -> Path:
    """Return where Minari keeps a set, whether it is there or not."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser() / name


def find_d4rl(name: str, dataset_dir: str | Path | None) -> str:
    """Return the data of a task of D4RL, as `zoo.datasets.formats.read.read_source` takes them."""
    return f"{MINARI}{name}" if dataset_dir is None else str(Path(dataset_dir).expanduser() / name)


def find_minari(source: str | Path) -> Path | None:
    """Return the folder of a Minari set, or None if a source is none; it is downloaded where it is missing."""
    if not str(source).startswith(MINARI):
        path = Path(source).expanduser()
        return path if (path / "data" / "metadata.json").is_file() else None
    name = str(source).removeprefix(MINARI)
    folder = minari_folder(name)
    if ".." in Path(name).parts or not name or Path(name).is_absolute():
        raise UsageError(f"`{MINARI}` must be followed by the id of a Minari dataset, got {name!r}")
    if not (folder / "data").is_dir():
        minari = import_extra("minari", f"downloading {source}")
        try:
            minari.download_dataset(name)
        except Exception as error:  # whatever its hosts raise
            raise UsageError(
                f"there is no Minari dataset {name} at {folder}, and its download failed "
                f"({' '.join(str(error).split()) or type(error).__name__}); check the id with `minari list remote`, or "
                f"run `minari download {name}` where there is internet, and copy it there or set MINARI_DATASETS_PATH"
            ) from error
    return folder


def minari_metadata(folder: Path) -> dict[str, Any]:
    """Return what a Minari set says about itself; its spaces and its environment are JSON in it, and stay texts."""
    path = folder / "data" / "metadata.json"
    try:
        found = json.loads(read_text(path, _MOST_METADATA_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}; get the Minari dataset again") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} must hold an object, got {type(found).__name__}; get the Minari dataset again")
    return found


def minari_environment(folder: Path) -> str | None:
    """Return the id of the environment that a Minari set was recorded in, if it says one; nothing is made of it."""
    try:
        name = json.loads(minari_metadata(folder)["env_spec"])["id"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return name if isinstance(name, str) and name.isprintable() and len(name) < 200 else None


def minari_references(folder: Path) -> tuple[float, float] | None:
    """Return the returns of a random and of an expert policy, which Minari normalises by; None if there are no two."""
    metadata = minari_metadata(folder)
    try:
        return checked_pair("reference", [metadata.get(name) for name in ("ref_min_score", "ref_max_score")])
    except ValueError:
        return None


def read_minari(folder: Path) -> list[Episode]:
    """Return the episodes of a Minari set.

    Its environment is never made, and none of its own classes: what is read are arrays of an HDF5 file.
    """
    if (kind := minari_metadata(folder).get("data_format", "hdf5")) != "hdf5":
        raise UsageError(f"{folder} has the format {str(kind)[:20]!r}, expected hdf5; write it again as hdf5")
    path, episodes = folder / _MINARI_FILE, []
    with _opened(path) as stored:
        groups = _groups(stored, r"episode_([0-9]{1,9})/(.+)")
        for k in sorted(groups):
            name, group = f"{path}, episode {k}", groups[k]
            seen = [key for key in sorted(group) if key.partition("/")[0] == "observations"]  # of a Dict, its parts
            require_keys(name, [*group, *["observations"] * bool(seen)], _MINARI_ARRAYS)
            parts = [_read(name, group, key) for key in seen]
            if parts[1:] and any(part.ndim != 2 for part in parts):
                raise UsageError(f"{name}: `observations` must be vectors, got a Dict of others; flatten them")
            actions, rewards, terminated = (_read(name, group, key) for key in _MINARI_ARRAYS[1:])
            masks = masks_of(name, terminated, len(actions))
            episodes.append(checked_episode(name, np.concatenate(parts, axis=-1), actions, rewards, masks))
    return episodes


# -- robomimic --------------------------------------------------------------------------------------------------------


def robomimic_environment(path: Path) -> tuple[str | None, str | None]:
    """Return the name of the task that a file of robomimic is of, and the version of robosuite, where it says them.

    They are sought as text: reading the attribute that has them, HDF5's library never ends in some damaged files.
    """
    found: list[str | None] = []
    if not path.stat().st_size:  # which cannot be mapped
        return None, None
    with open_file(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for name in (b"env_name", b"env_version"):
            match = re.search(rb'"%s": ?"([\w.]{1,40})"' % name, content)
            found.append(None if match is None else match[1].decode("ascii"))
    return next((task.name for task in TASKS.values() if task.scene == found[0]), None), found[1]


def _demonstration(path: Path, k: int, group: Stored) -> Iterator[Episode]:
    """Yield the episodes of a demonstration of robomimic.

    As in Q-chunking (arXiv 2507.07969, ``envs/robomimic_utils.py`` and ``main.py``), the reward is 0 where the file's
    is 1, and -1 where it is 0; nothing comes after a step that is ``done``, so that what a demonstration shows after it
    is an episode of its own.
    """
    name = f"{path}, demo_{k}"
    has_next = any(key.startswith("next_obs/") for key in group)
    sensors = [[f"{key}/{sensor}" for sensor in OBSERVATIONS] for key in ("obs", *["next_obs"] * has_next)]
    missing = [key for key in itertools.chain(["actions", "rewards", "dones"], *sensors) if key not in group]
    if missing:
        raise UsageError(f"{name} has no {', '.join(missing)}, as files of images or raw ones; get low_dim_v15.hdf5")
    actions = _read(name, group, "actions")
    steps = len(actions)
    dones = require_flags(name, "dones", _read(name, group, "dones"), steps)
    remedy = "dense rewards are not read, get the sparse file"
    rewards = require_flags(name, "rewards", _read(name, group, "rewards"), steps, remedy) - 1.0
    seen, *after = (np.concatenate([_read(name, group, key, steps) for key in keys], axis=1) for keys in sensors)
    if after or dones[-1]:  # else the state after the last step is neither known nor unneeded
        seen = np.concatenate([seen, (after or [seen])[0][-1:]])
    known = len(seen) - 1
    for begin, end in itertools.pairwise(np.union1d([0, known], np.flatnonzero(dones[:known]) + 1)):
        part = slice(int(begin), int(end))
        masks = 1.0 - dones[part]
        yield checked_episode(name, seen[part.start : part.stop + 1], actions[part], rewards[part], masks)


# -- HDF5 -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Stored]:
    """Open a file and yield its arrays; links are not followed. Whatever is wrong with it becomes a UsageError."""
    h5py, found = import_extra("h5py", f"reading {path}"), Stored()
    with faults_named(path, "HDF5"), h5py.File(regular_file(path), "r") as file:
        file.visititems(lambda name, part: found.update({name: part} if isinstance(part, h5py.Dataset) else {}))
        yield found


def _groups(stored: Stored, pattern: str) -> dict[int, Stored]:
    """Return the arrays of numbered groups, by number and name.

    :param pattern: of paths, which finds the two.
    """
    found: dict[int, Stored] = {}
    for path, part in stored.items():
        if match := re.fullmatch(pattern, path):
            found.setdefault(int(match[1]), {})[match[2]] = part
    return found


def _read(name: str, stored: Stored, key: str, rows: int | None = None) -> Array:
    """Return an array; refuse one whose numbers lie elsewhere, or that there is no memory for.

    :param rows: that it must have, each of some numbers.
    """
    part = stored[key]
    if part.is_virtual or part.external:
        raise UsageError(f"{name}: `{key}` must lie in the file; write it again")
    if not part.shape or part.dtype.kind not in "fiub":
        raise UsageError(f"{name}: `{key}` must hold rows of numbers, got {part.dtype}; leave it out, or convert it")
    if rows is not None and (len(part.shape), part.shape[0]) != (2, rows):
        raise UsageError(f"{name}: `{key}` must have {rows} rows like the actions, got {part.shape}; get it again")
    tell_memory(f"{name}, {key},", int(np.prod(part.shape, dtype=object)) * part.dtype.itemsize)
    array: Array = part[()]
    return array
