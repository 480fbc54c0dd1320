"""Read HDF5 files of unknown origin: arrays at their top as D4RL's have them, or robomimic's demonstrations."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from agents.common.data.arrays import KNOWN_ARRAYS, Transitions, check_timeouts
from agents.common.validation import unknown_name_message
from zoo.algorithms.packages import import_optional
from zoo.datasets.formats.base import (
    OF_CONVERT,
    Array,
    Arrays,
    Episode,
    Format,
    ReadOptions,
    add_rewards,
    episodes_of_rows,
    explaining_damage,
    joined,
    reject_options,
    require_flags,
    require_keys,
    transitions_of,
    warn,
    warn_without_success,
)
from zoo.datasets.names import extension
from zoo.envs.tasks import OBSERVATIONS, SCENES
from zoo.terminal.errors import UsageError, as_usage_error

Stored: TypeAlias = dict[str, Any]
"""Arrays of an HDF5 file by their paths in it, unread."""


def import_extra(package: str, what: str) -> Any:
    """Return a package of the extra ``data``."""
    return import_optional(package, package, what, "flow-rl-zoo[data]")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Stored]:
    """Open a file and yield its arrays; links are not followed. Whatever is wrong with it becomes a UsageError."""
    h5py, found = import_extra("h5py", f"reading {path}"), Stored()
    with explaining_damage(path, "HDF5"), h5py.File(path, "r") as file:
        file.visititems(lambda name, part: found.update({name: part} if isinstance(part, h5py.Dataset) else {}))
        yield found


def require_no_links(path: Path) -> None:
    """Refuse a file that points to others or to its own entries, for libraries that follow where it points."""
    h5py = import_extra("h5py", f"reading {path}")

    def outside(name: str, link: Any) -> str | None:
        """Return the name of an entry that does not lie in the file, which ends the visit."""
        if not isinstance(link, h5py.HardLink):
            return name
        entry = file[name]
        return name if isinstance(entry, h5py.Dataset) and (entry.is_virtual or entry.external) else None

    with explaining_damage(path, "HDF5"), h5py.File(path, "r") as file:
        name = file.visititems_links(outside)
    if name is not None:
        raise UsageError(f"{path}: `{name}` must lie in the file, got a link; write it again")


def groups_of(stored: Stored, pattern: str) -> dict[int, Stored]:
    """Return the arrays of numbered groups, by number and name.

    :param pattern: of paths, which finds the two.
    """
    found: dict[int, Stored] = {}
    for path, part in stored.items():
        if match := re.fullmatch(pattern, path):
            found.setdefault(int(match[1]), {})[match[2]] = part
    return found


def read_array(name: str, stored: Stored, key: str) -> Array:
    """Return an array; refuse one whose numbers lie elsewhere."""
    part = stored[key]
    if part.is_virtual or part.external:
        raise UsageError(f"{name}: `{key}` must lie in the file; write it again")
    if not part.shape or part.dtype.kind not in "fiub":
        raise UsageError(f"{name}: `{key}` must hold rows of numbers, got {part.dtype}; leave it out, or convert it")
    array: Array = part[()]
    return array


def robomimic_environment(path: Path) -> tuple[str | None, str | None]:
    """Return the name of the task that a file of robomimic is of, and the version of robosuite, where it says them.

    They are sought as text: reading the attribute that has them, HDF5's library never ends in some damaged files.
    """
    found: list[str | None] = []
    if not path.stat().st_size:  # which cannot be mapped
        return None, None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for name in (b"env_name", b"env_version"):
            match = re.search(rb'"%s": ?"([\w.]{1,40})"' % name, content)
            found.append(None if match is None else match[1].decode("ascii"))
    return next((name for name, scene in SCENES.items() if scene == found[0]), None), found[1]


def warn_of_earlier_simulator(path: Path) -> None:
    """Warn of demonstrations that were recorded with another robosuite than is used here."""
    version = robomimic_environment(path)[1]
    if version is not None and not version.startswith("1.5"):
        warnings.warn(
            f"{path} was recorded with robosuite {version}, whose controllers and sensors differ from those of "
            "1.5, which is used here; get low_dim_v15.hdf5 instead",
            stacklevel=4,
        )


def demonstration(path: Path, k: int, group: Stored) -> Iterator[Episode]:
    """Yield the episodes of a demonstration.

    As in Q-chunking (arXiv 2507.07969, ``envs/robomimic_utils.py`` and ``main.py``), the reward is 0 where the file's
    is 1, and -1 where it is 0; a step that is ``done`` ends an episode, so that what a demonstration shows after it is
    an episode of its own. Nothing comes after one that succeeds. Unlike there, a demonstration that ends without
    success was cut off: else failing would save the rewards of -1 that follow.
    """
    name = f"{path}, demo_{k}"
    has_next = any(key.startswith("next_obs/") for key in group)
    sensors = [[f"{key}/{sensor}" for sensor in OBSERVATIONS] for key in ("obs", *["next_obs"] * has_next)]
    missing = [key for key in itertools.chain(["actions", "rewards", "dones"], *sensors) if key not in group]
    if missing:
        raise UsageError(f"{name} has no {', '.join(missing)}, as files of images or raw ones; get low_dim_v15.hdf5")
    actions = read_array(name, group, "actions")
    steps = len(actions)
    dones = require_flags(name, "dones", read_array(name, group, "dones"), steps)
    is_achieved = require_flags(name, "rewards", read_array(name, group, "rewards"), steps)
    masks = 1.0 - (dones & is_achieved)
    seen, *after = (np.concatenate([read_array(name, group, key) for key in keys], axis=1) for keys in sensors)
    if after or masks[-1] == 0:  # else the state after the last step is neither known nor unneeded
        seen = np.concatenate([seen, (after or [seen])[0][-1:]])
    known = len(seen) - 1
    for begin, end in itertools.pairwise(np.union1d([0, known], np.flatnonzero(dones[:known]) + 1)):
        part = slice(int(begin), int(end))
        yield Episode(name, seen[part.start : part.stop + 1], actions[part], is_achieved[part] - 1.0, masks[part])


class Hdf5(Format):
    """An HDF5 file of one of the two."""

    supported = ("columns", "step_reward", "done", "reward_from")

    def matches(self, path: Path) -> bool:
        """Return whether it has the ending of an HDF5 file."""
        return extension(path) in (".hdf5", ".h5") and not path.is_dir()

    def read(self, path: Path, options: ReadOptions) -> Transitions:
        """Return the transitions."""
        with opened(path) as stored:
            if groups := groups_of(stored, r"data/demo_([0-9]{1,9})/(.+)"):
                reject_options(path, options)
                warn_of_earlier_simulator(path)
                episodes = [each for k in sorted(groups) for each in demonstration(path, k, groups[k])]
                warn_without_success(str(path), np.array([(each.rewards == 0).any() for each in episodes]))
                return joined(str(path), episodes)
            names = {*KNOWN_ARRAYS, *options.columns.values(), options.reward_from}
            arrays = {name: read_array(str(path), stored, name) for name in stored if name in names}
        return _of_d4rl(str(path), arrays, options)

    def environment(self, path: Path) -> str | None:
        """Return the name of the task that demonstrations are of."""
        return robomimic_environment(path)[0] if path.is_file() else None


def _of_d4rl(name: str, arrays: Arrays, options: ReadOptions) -> Transitions:
    """Return the transitions of D4RL's arrays."""
    named = {}
    for key, column in options.columns.items():
        if column not in arrays:
            raise UsageError(unknown_name_message("array", column, arrays))
        named[{"terminated": "terminals"}.get(key, key)] = arrays[column]
    unnamed = arrays.keys() - options.columns.values()
    arrays = {key: arrays[key] for key in unnamed & {*KNOWN_ARRAYS, options.reward_from}} | named
    require_keys(name, arrays, ("observations", "actions", "terminals"))
    add_rewards(name, arrays, options)
    if options.done is not None:
        if "timeouts" in arrays:
            raise UsageError(f"{name} has `timeouts`, which say where trajectories were cut off; leave out `--done`")
        ended, none = arrays["terminals"], np.zeros(len(arrays["terminals"]), bool)
        arrays["terminals"], arrays["timeouts"] = (ended, none) if options.done == "terminated" else (none, ended)
    if "next_observations" in arrays and len(arrays["next_observations"]) == len(arrays["observations"]):
        arrays.setdefault("timeouts", np.zeros(len(arrays["actions"]), bool))
        return transitions_of(name, arrays)
    if "timeouts" not in arrays:
        raise UsageError(
            f"{name} must have `timeouts`, 1 where a trajectory was cut off, or `next_observations`: without them "
            "trajectories run into one another; add one of them, or `--done` if `terminals` marks every end"
            f"{OF_CONVERT}"
        )
    flags = {
        key: require_flags(name, key, arrays[key], len(arrays["actions"]))
        for key in ("terminals", "timeouts", "masks")
        if key in arrays
    }
    masks = np.asarray(flags.get("masks", ~flags["terminals"]), np.float32)
    with as_usage_error():
        if doubt := check_timeouts(flags["timeouts"], masks, "masks" not in flags):
            warn(name, doubt)
    return joined(name, episodes_of_rows(name, arrays, flags["terminals"] | flags["timeouts"], masks))
