"""How long the training of a run has taken, from its own log.

The log counts seconds from the beginning of each phase, and again from where a process continues a run. The time
between is that of training: updates, steps in the environment, and what happens meanwhile (evaluation where training
waits for it, checkpoints). Not in it are loading, work that was lost in an interruption, and what follows the last row.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import shorten

import numpy as np

from zoo.runs.folder import RunFolder, UnreadableRun
from zoo.terminal.texts import printable

_LONGEST_NAME, _UNKNOWN = 80, "not recorded"
_RECENT = 10_000  # characters of a log, about a dozen rows


@dataclass(frozen=True)
class Times:
    """When a run was where.

    :param steps: of rows of the log, from the beginning of pretraining, shape (rows,).
    :param seconds: of training until then, shape (rows,).
    :param updates_per_second: between the first and the last row, or None where that is too short to say.
    :param replicas: how many seeds the process trained at once; all of them share the time.
    :param machine: what trained it.
    """

    steps: np.ndarray
    seconds: np.ndarray
    updates_per_second: float | None
    replicas: int
    machine: str

    @property
    def hours(self) -> float:
        """The time of the whole run."""
        return float(self.seconds[-1]) / 3600

    @property
    def hours_per_seed(self) -> float:
        """The run's share of the time of its process."""
        return self.hours / self.replicas


def read_times(folder: RunFolder) -> Times:
    """Return how long a run has taken.

    :raises UnreadableRun: if its log or configuration is missing or damaged, or it has logged no time.
    """
    rows = folder.read_progress()
    if not len(rows["steps"]):
        raise UnreadableRun(folder.progress, "has no row with the time")
    seconds = add_up(rows["steps"], rows["seconds"], rows["speed"])
    config = folder.read_config()
    return Times(
        rows["steps"],
        seconds,
        _updates_per_second(rows["updates"], seconds),
        len(config.get("seeds") or [None]),
        _describe_machine(folder),
    )


def read_speed(folder: RunFolder) -> tuple[int, float] | None:
    """Return the last step with a speed that a run has logged, and the speed in steps per second.

    :return: the step counts from the beginning of pretraining; None if no speed is known, or the log is damaged.
    """
    try:
        for last in ({"last": _RECENT}, {}):  # most of a long log says nothing about now
            rows = folder.read_progress(**last)
            known = np.flatnonzero(rows["speed"] > 0)
            if len(known):
                return int(rows["steps"][known[-1]]), float(rows["speed"][known[-1]])
    except UnreadableRun:
        pass
    return None


def add_up(steps: np.ndarray, seconds: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """Return the seconds since the beginning of the run, from those since the beginning of each part.

    A part begins where the seconds fall, and where the steps since the beginning of a part, which are its seconds times
    its speed, do not reach back to where the part before began: a process may take longer to its first row than the one
    before it took in all. Seconds are cut to whole ones and so is SB3's speed online, so a beginning is known between
    two bounds.

    :param speed: steps per second since the beginning of the part, NaN where it is not known.
    """
    before = last = 0.0
    low, high = -np.inf, np.inf  # the step at which the part began
    result = np.empty(len(steps))
    for k in range(len(steps)):
        first, latest = -np.inf, float(steps[k])
        if not np.isnan(speed[k]):
            uncertain = 1.0 if speed[k] == int(speed[k]) else 0.0
            first = steps[k] - (speed[k] + uncertain) * (seconds[k] + 1) - 1
            latest = steps[k] - speed[k] * seconds[k] + 1
        if seconds[k] < last or first > high or latest < low:
            before, low, high = before + last, -np.inf, np.inf
        low, high, last = max(low, first), min(high, latest), seconds[k]
        result[k] = before + last
    return result


def _updates_per_second(updates: np.ndarray, seconds: np.ndarray) -> float | None:
    known = np.flatnonzero(~np.isnan(updates))
    if not len(known):
        return None
    first, last = known[[0, -1]]
    took = seconds[last] - seconds[first]
    return float((updates[last] - updates[first]) / took) if took > 0 else None


def _describe_machine(folder: RunFolder) -> str:
    """Return the device that a run was started on; a CPU by the name of the processor."""
    try:
        versions = folder.read_versions()
    except UnreadableRun:
        return _UNKNOWN  # the times are as good as with it, and no other machine has this name
    device, processor = (versions.get(name) for name in ("device", "processor"))
    if device == "cpu":
        device = f"cpu, {processor if isinstance(processor, str) else 'processor not recorded'}"
    if not isinstance(device, str):
        return _UNKNOWN
    return shorten(printable(device), _LONGEST_NAME, placeholder=" ...")
