"""Read robomimic's demonstrations, which lie in HDF5 files."""

from __future__ import annotations

import itertools
import mmap
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from agents.common.files import open_file
from zoo.datasets.formats.episodes import Episode, require_flags
from zoo.datasets.formats.hdf5 import Stored, read_array
from zoo.envs.robomimic import OBSERVATIONS, TASKS
from zoo.errors import UsageError


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
    remedy = "dense rewards are not read, get the sparse file"
    is_achieved = require_flags(name, "rewards", read_array(name, group, "rewards"), steps, remedy)
    masks = 1.0 - (dones & is_achieved)
    seen, *after = (np.concatenate([read_array(name, group, key, steps) for key in keys], axis=1) for keys in sensors)
    if after or masks[-1] == 0:  # else the state after the last step is neither known nor unneeded
        seen = np.concatenate([seen, (after or [seen])[0][-1:]])
    known = len(seen) - 1
    for begin, end in itertools.pairwise(np.union1d([0, known], np.flatnonzero(dones[:known]) + 1)):
        part = slice(int(begin), int(end))
        yield Episode(name, seen[part.start : part.stop + 1], actions[part], is_achieved[part] - 1.0, masks[part])
