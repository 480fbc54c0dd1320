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
    seconds = add_up(rows["seconds"])
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
        rows = folder.read_progress()
    except UnreadableRun:
        return None
    known = np.flatnonzero(rows["speed"] > 0)
    return (int(rows["steps"][known[-1]]), float(rows["speed"][known[-1]])) if len(known) else None


def add_up(seconds: np.ndarray) -> np.ndarray:
    """Return the seconds since the beginning of the run, from those since the beginning of each part.

    A part begins where the seconds fall. Where a process takes longer to its first row than the one before it took in
    all, they do not fall, and the time of that row counts from the row before.
    """
    past = np.diff(seconds, prepend=0.0)
    return np.cumsum(np.where(past < 0, seconds, past))


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
