"""Read demonstrations in robomimic's layout, and locate the files of its tasks."""

import mmap
import re
from pathlib import Path

import numpy as np

from agents.common.data.arrays import Array, Transitions
from zoo.datasets.files import Folder
from zoo.datasets.formats.base import (
    Arrays,
    Format,
    Metadata,
    episode_of,
    joined,
    require_flags,
    require_keys,
    warn,
)
from zoo.datasets.formats.hdf5 import Stored, groups_of, names_in, opened, read_array
from zoo.envs.tasks import OBSERVATIONS, SCENES, Task

DEMONSTRATION = r"demo_([0-9]{1,9})"
FILE = "low_dim_v15.hdf5"
"""robomimic's file name for vector observations recorded with robosuite 1.5."""
HOST = "https://huggingface.co/datasets/robomimic/robomimic_datasets/resolve/main/v1.5"
"""URL from which robomimic 0.5 downloads its files (``robomimic/__init__.py``)."""


def demonstrations_file(task: Task, dataset_dir: Folder = None) -> Path:
    """Return the path of a task's file; the default folder is ``~/.robomimic``, as in the Q-chunking code."""
    root = Path(dataset_dir or "~/.robomimic").expanduser()
    return root / task.domain.replace("-", "/") / FILE


class Robomimic(Format):
    """An HDF5 file of numbered demonstrations."""

    rewards_follow_success = True

    def matches(self, path: Path) -> bool:
        """Return whether the file has a numbered demonstration."""
        return any(re.fullmatch(DEMONSTRATION, name) for name in names_in(path, "data"))

    def read(self, path: Path, reward_from: str | None = None) -> Transitions:
        """Return the transitions."""
        version = _recorded_text(path, b"env_version") or "1.5"
        if not version.startswith("1.5"):
            warn(
                str(path),
                f"it was recorded with robosuite {version}, but tasks run here with version 1.5, which has other "
                f"controllers and sensors; get {FILE} instead",
            )
        episodes = {}
        with opened(path) as stored:
            for number, group in sorted(groups_of(stored, rf"data/{DEMONSTRATION}/(.+)").items()):
                name = f"{path}, demo_{number}"
                episodes[name] = demonstration(name, group)
        return joined(str(path), episodes)

    def metadata(self, path: Path) -> Metadata:
        """Return the metadata: the environment of the demonstrated task."""
        scene = _recorded_text(path, b"env_name")
        tasks = {simulated: task for task, (simulated, _) in SCENES.items()}
        return Metadata(tasks.get(scene or ""))


def demonstration(name: str, group: Stored) -> Arrays:
    """Return the arrays of a demonstration.

    As in Q-chunking (arXiv 2507.07969, ``envs/robomimic_utils.py`` and ``main.py``), rewards of 1 become 0, and rewards
    of 0 become -1. A ``done`` step ends a trajectory, and the steps after it form another one. A trajectory that ends
    with success terminates. Unlike in Q-chunking, a demonstration that ends without success counts as truncated,
    because a terminal failure would avoid later rewards of -1.
    """
    sensors = [f"obs/{sensor}" for sensor in OBSERVATIONS]
    next_sensors = []
    if any(key.startswith("next_obs/") for key in group):
        next_sensors = [f"next_{sensor}" for sensor in sensors]
    required = ("actions", "rewards", "dones", *sensors, *next_sensors)
    advice = (
        "raw files and image files lack some of them; download low_dim_v15.hdf5, or write the arrays of another "
        "robot as npz files (docs/data.md)"
    )
    require_keys(name, group, required, advice)
    actions = read_array(name, group, "actions")
    steps = len(actions)
    if not steps:  # `joined` drops empty episodes
        return episode_of(name, np.zeros((1, 1)), actions, np.zeros(0), np.zeros(0))
    dones = require_flags(name, "dones", read_array(name, group, "dones"), steps)
    is_achieved = require_flags(name, "rewards", read_array(name, group, "rewards"), steps)
    masks = 1.0 - (dones & is_achieved)
    observations = _join_sensors(name, group, sensors)
    # the TD target of a success does not bootstrap, so any next observation will do
    last = observations[-1:]
    if next_sensors:
        last = _join_sensors(name, group, next_sensors)[-1:]
    elif masks[-1]:  # the state after the last step is unknown, so this step is left out
        last = last[:0]
    observations = np.concatenate([observations, last])
    steps = len(observations) - 1
    rewards = is_achieved - 1.0
    return episode_of(
        name, observations, actions[:steps], rewards[:steps], masks[:steps], dones[:steps]
    )


def _join_sensors(name: str, group: Stored, sensors: list[str]) -> Array:
    """Return the concatenated readings of sensors, shape (T, O)."""
    return np.concatenate([read_array(name, group, sensor) for sensor in sensors], axis=1)


def _recorded_text(path: Path, key: bytes) -> str | None:
    """Return the ``env_name`` or ``env_version`` in a robomimic file, or None.

    The file is searched as text, because the HDF5 library hangs when it reads attributes of some damaged files.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        match = re.search(rb'"%s": ?"([\w.]{1,40})"' % key, content)
        return match and match[1].decode("ascii")
