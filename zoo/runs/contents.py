"""What the files of a run hold: the one place that knows the type of each entry.

A run folder may be damaged or from a stranger. Whoever reads an entry that is named here relies on its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.runs.history import OFFLINE, ONLINE
from zoo.settings.record import LONGEST_TEXT, MOST_COUNT, is_count, shown


def find_bad_status(status: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an entry of ``status.json``, or None."""
    for name, value in status.items():
        check, expected = _ENTRIES.get(name, (None, ""))
        if check and value is not None and not check(value):
            return f"has `{name}` = {shown(value)}, expected {expected}"
    return None


def find_bad_evaluations(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Return what is wrong with the arrays of ``evaluations.npz``, or None."""
    first = "successes" if "successes" in arrays else "results"
    shape = arrays[first].shape
    if len(shape) != 2 or 0 in shape:
        return f"{first} have shape {shape} instead of (evaluations, episodes)"
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            return f"{name} are not numbers but {array.dtype}"
        if array.shape != (shape[:1] if name in ("timesteps", "phase") else shape):
            return f"{name} have shape {array.shape} beside {first} {shape}"
    steps, phase = arrays["timesteps"], arrays["phase"]
    if steps.dtype.kind == "b" or not _are_whole(steps):
        return f"timesteps are not whole numbers from 0 to {MOST_COUNT:,}"
    if first == "successes" and not np.isin(arrays["successes"], (0, 1)).all():
        return "successes are not all 0 or 1"
    if first == "results" and not np.isfinite(arrays["results"]).all():
        return "results are not all finite, and there are no successes to score the run by"
    if not np.isin(phase, (OFFLINE, ONLINE)).all() or (np.diff(phase.astype(int)) < 0).any():
        return "phase is not 0 and then 1"
    if (np.diff(steps.astype(int)) < 0).any():
        return "timesteps decrease"
    return None


def find_bad_progress(columns: Mapping[str, np.ndarray]) -> str | None:
    """Return what is wrong with the columns of ``progress.csv`` that `zoo.runs.folder.PROGRESS` names, or None.

    Every row has a step and the seconds so far; its number of updates and its speed may be missing, which is NaN.
    """
    known = {name: column[~np.isnan(column)] for name, column in columns.items()}
    if not all(((column >= 0) & (column <= MOST_COUNT)).all() for column in known.values()):
        return f"has numbers that are not from 0 to {MOST_COUNT:,}"
    for name in ("steps", "updates"):
        if not _are_whole(known[name]) or (np.diff(known[name]) < 0).any():
            return f"has {name} that decrease or are not whole numbers"
    return "lacks steps in some rows" if len(known["steps"]) < len(columns["steps"]) else None


def _are_whole(numbers: np.ndarray) -> bool:
    return bool(((numbers >= 0) & (numbers <= MOST_COUNT) & (np.floor(numbers) == numbers)).all())


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


_ENTRIES = {
    **dict.fromkeys(("seed", "offline_step", "online_step", "pretraining_step"), (is_count, "a whole number >= 0")),
    **dict.fromkeys(("updated", "reason"), (_is_text, f"a text of at most {LONGEST_TEXT:,} characters")),
}
