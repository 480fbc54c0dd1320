"""Read HDF5 files: arrays at their top as D4RL's have them, or robomimic's demonstrations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agents.common.data.arrays import KNOWN_ARRAYS, Transitions, doubt_of_limits
from agents.common.validation import unknown_name_message
from zoo.datasets.formats.base import Format, Reading, refuse_reading
from zoo.datasets.formats.episodes import (
    Arrays,
    joined,
    require_flags,
    require_keys,
    tell,
    tell_of_successes,
    transitions_of,
)
from zoo.datasets.formats.hdf5 import groups_of, opened, read_array
from zoo.datasets.formats.robomimic import demonstration, robomimic_environment, warn_of_earlier_simulator
from zoo.datasets.formats.rows import add_rewards, episodes_of_rows
from zoo.errors import UsageError, as_usage_error

SUFFIXES = (".hdf5", ".h5")


class Hdf5(Format):
    """An HDF5 file of one of the two."""

    leaves_open = True

    def matches(self, path: Path) -> bool:
        """Return whether it has the ending of an HDF5 file."""
        return path.suffix in SUFFIXES

    def read(self, path: Path, reading: Reading) -> Transitions:
        """Return the transitions."""
        with opened(path) as stored:
            if groups := groups_of(stored, r"data/demo_([0-9]{1,9})/(.+)"):
                refuse_reading(path, reading)
                warn_of_earlier_simulator(path)
                episodes = [each for k in sorted(groups) for each in demonstration(path, k, groups[k])]
                tell_of_successes(str(path), np.array([(each.rewards == 0).any() for each in episodes]))
                return joined(str(path), episodes)
            names = {*KNOWN_ARRAYS, *reading.columns.values()}
            arrays = {name: read_array(str(path), stored, name) for name in stored if name in names}
        return _of_d4rl(str(path), arrays, reading)

    def environment(self, path: Path) -> str | None:
        """Return the name of the task that demonstrations are of."""
        return robomimic_environment(path)[0] if path.is_file() else None


def _of_d4rl(name: str, arrays: Arrays, reading: Reading) -> Transitions:
    """Return the transitions of D4RL's arrays."""
    for key, column in reading.columns.items():
        if column not in arrays:
            raise UsageError(unknown_name_message("array", column, arrays))
        arrays[{"terminated": "terminals"}.get(key, key)] = arrays.pop(column)
    arrays = {key: array for key, array in arrays.items() if key in KNOWN_ARRAYS}
    require_keys(name, arrays, ("observations", "actions", "terminals"))
    add_rewards(name, arrays, reading)
    if reading.done is not None:
        if "timeouts" in arrays:
            raise UsageError(f"{name} has `timeouts`, which say where trajectories were cut off; leave out `--done`")
        ended, none = arrays["terminals"], np.zeros(len(arrays["terminals"]), bool)
        arrays["terminals"], arrays["timeouts"] = (ended, none) if reading.done == "terminated" else (none, ended)
    if "next_observations" in arrays and len(arrays["next_observations"]) == len(arrays["observations"]):
        arrays.setdefault("timeouts", np.zeros(len(arrays["actions"]), bool))
        return transitions_of(name, arrays)
    if "timeouts" not in arrays:
        raise UsageError(
            f"{name} must have `timeouts`, 1 where a trajectory was cut off, or `next_observations`: without them "
            "trajectories run into one another; add one of them, or `--done` if `terminals` marks every end"
        )
    flags = {
        key: require_flags(name, key, arrays[key], len(arrays["actions"]))
        for key in ("terminals", "timeouts", "masks")
        if key in arrays
    }
    masks = np.asarray(flags.get("masks", ~flags["terminals"]), np.float32)
    with as_usage_error():
        if doubt := doubt_of_limits(flags["timeouts"], masks, "masks" not in flags):
            tell(name, doubt)
    return joined(name, episodes_of_rows(name, arrays, flags["terminals"] | flags["timeouts"], masks))
