"""How fast a run goes on, from its own log."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping

from zoo.runs.folder import RunFolder

STEP = "time/total_timesteps"
SPEEDS = ("time/updates_per_s", "time/fps")
"""Columns of ``progress.csv``: steps per second since the process began the phase, offline and online."""
_MOST_BYTES = 1 << 16  # of the header, and of the rows that are looked at


def read_speed(folder: RunFolder) -> tuple[int, float] | None:
    """Return the last step with a speed in ``progress.csv``, and the speed in steps per second.

    :return: the step counts from the beginning of pretraining; None if no speed has been logged or the file is damaged.
    """
    try:
        with folder.progress.open("rb") as file:
            header = file.readline(_MOST_BYTES)
            end = file.seek(0, os.SEEK_END)
            start = file.seek(max(len(header), end - _MOST_BYTES))
            lines = file.read().decode(errors="replace").split("\n")[:-1]  # the last one may not be whole yet
    except OSError:
        return None
    rows = lines if start == len(header) else lines[1:]  # the first one is cut
    for row in csv.DictReader(reversed(rows), header.decode(errors="replace").rstrip("\r\n").split(",")):
        found = _speed_of(row)
        if found is not None:
            return found
    return None


def _speed_of(row: Mapping[str, str | None]) -> tuple[int, float] | None:
    try:
        step = float(row.get(STEP) or "nan")
        speeds = [float(row.get(name) or 0) for name in SPEEDS]
    except ValueError:
        return None
    speed = max(speeds)
    is_sound = math.isfinite(step) and step >= 0 and math.isfinite(speed) and speed > 0
    return (int(step), speed) if is_sound else None
