"""What the files of a run hold: the one place that knows the type of each entry.

A run folder may be damaged or from a stranger. Whoever reads an entry that is named here relies on its type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from zoo.runs.history import OFFLINE, ONLINE
from zoo.settings.layers import flatten

Check: TypeAlias = Callable[[Any], bool]

_MOST = 1 << 53  # which float64 still counts one by one
_LONGEST_TEXT = 10_000


def find_bad_status(status: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an entry of ``status.json``, or None."""
    return _find_bad(status, _STATUS)


def find_bad_config(config: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an entry of ``config.yml``, or None."""
    if problem := _find_bad(config, _CONFIG):
        return problem
    for name, _ in flatten(config.get("settings") or {}):
        if not _is_line(name) or "_." in f"{name}.":
            return f"has {_shown(name)} among its `settings`, expected names"
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
        return f"timesteps are not whole numbers from 0 to {_MOST:,}"
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
    if not all(((column >= 0) & (column <= _MOST)).all() for column in known.values()):
        return f"has numbers that are not from 0 to {_MOST:,}"
    for name in ("steps", "updates"):
        if not _are_whole(known[name]) or (np.diff(known[name]) < 0).any():
            return f"has {name} that decrease or are not whole numbers"
    return "lacks steps in some rows" if len(known["steps"]) < len(columns["steps"]) else None


def _are_whole(numbers: np.ndarray) -> bool:
    return bool(((numbers >= 0) & (numbers <= _MOST) & (np.floor(numbers) == numbers)).all())


def _find_bad(content: Mapping[str, Any], entries: Mapping[str, tuple[Check, str]]) -> str | None:
    """Return which entry is not what it must be; each may be missing or null.

    :param entries: by their names, those inside a mapping with its name and a dot before.
    """
    for name, (is_good, expected) in entries.items():
        outer, _, own = name.rpartition(".")
        value = ((content.get(outer) or {}) if outer else content).get(own)
        if value is not None and not is_good(value):
            return f"has `{name}` = {_shown(value)}, expected {expected}"
    return None


def _shown(value: Any) -> str:
    """Return a value as a short text without control bytes."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _is_count(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= _MOST and int(value) == value


def _are_two_numbers(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and value[0] != value[1]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT


def _is_line(value: Any) -> bool:
    return _is_text(value) and value.isprintable()


def _are_lines(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_line, value))


def _are_names(value: Any) -> bool:
    return _are_lines(value) and all(name == Path(name).name and name != ".." for name in value)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_count, value))


def _are_layers(value: Any) -> bool:
    return all(map(_are_counts, value.values() if isinstance(value, dict) else [value]))


_COUNT = (_is_count, "a whole number >= 0")
_TEXT = (_is_text, f"a text of at most {_LONGEST_TEXT:,} characters")
_LINE = (_is_line, "a text without line breaks or control bytes")
_MAPPING = (lambda value: isinstance(value, dict), "a mapping")

_STATUS: dict[str, tuple[Check, str]] = {
    **dict.fromkeys(("seed", "offline_step", "online_step", "pretraining_step"), _COUNT),
    **dict.fromkeys(("updated", "reason"), _TEXT),
}
_PAIRS = ("reference_scores", "dataset.reference_scores", "action_range")
_CONFIG: dict[str, tuple[Check, str]] = {
    **dict.fromkeys(("algo", "env", "label", "profile"), _LINE),
    **dict.fromkeys(("seed", "offline_steps", "online_steps", "pretraining_steps", "eval_episodes", "n_envs"), _COUNT),
    **dict.fromkeys(("sparse", "eval_at_start"), (lambda value: isinstance(value, bool), "true or false")),
    "seeds": (_are_counts, "a list of whole numbers >= 0"),
    "folders": (_are_names, "a list of names of folders"),
    "departures": (_are_lines, "a list of texts"),
    **dict.fromkeys(("settings", "dataset", "pretrained_actor", "agent"), _MAPPING),
    "success_return": (_is_number, "a finite number"),
    **dict.fromkeys(_PAIRS, (_are_two_numbers, "two different finite numbers")),
    "settings.net_arch": (_are_layers, "a list of widths, or a mapping of such lists"),
    **dict.fromkeys(("dataset.size", "pretrained_actor.updates"), _COUNT),
    "dataset.fingerprint": _TEXT,
    **dict.fromkeys(("agent.class", "agent.code", "agent.package", "agent.layers"), _LINE),
}
