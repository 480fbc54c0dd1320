"""How a run was made: the fields of its protocol, its settings, and where two runs differ in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zoo.settings.layers import flatten
from zoo.terminal.texts import printable

PROTOCOL = (
    "profile", "offline_steps", "online_steps", "eval_episodes", "sparse", "dataset_size", "dataset_fingerprint",
    "net_arch", "pretraining_steps", "pretrained_actor", "success_return", "action_range",
)  # fmt: skip
"""What must agree before two runs of an algorithm may share a row.

Runs that began with a saved behaviour flow are set apart from others and by its number of updates, but not by the
file, since each seed may have its own.
"""

# Settings that change no score, and those that `PROTOCOL` names already.
_NOT_SETTINGS = {"seed", "seeds", "device", "verbose", "tensorboard_log", "precision", "compile"}
_NOT_SETTINGS |= {"net_arch", "sparse", "pretraining_steps"}


def describe_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of an algorithm that may change a score, flat and as texts; `PROTOCOL` has the others."""
    own = {name: value for name, value in settings.items() if name not in _NOT_SETTINGS}
    return {name: printable(show(value)) for name, value in sorted(flatten(own)) if value != {}}


def protocol_differences(phase: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return where two protocols differ, e.g. ``["offline_steps 10,000 against 1,000,000"]``.

    A field of `PROTOCOL` that one of them does not state is not compared, nor are online steps for offline scores.
    """
    result = []
    for field in PROTOCOL:
        a, b = ours.get(field), theirs.get(field)
        if a is None or b is None or a == b or (phase == "offline" and field == "online_steps"):
            continue
        if field == "dataset_size" and isinstance(a, int) and abs(a - b) <= 0.01 * b:
            continue  # the last state of each trajectory is counted or not
        result.append(f"{field} {show(a)} against {show(b)}")
    return result


def setting_differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Return where two sets of `describe_settings` differ, e.g. ``["gamma 0.5 against 0.99"]``.

    Settings that one of them does not state, as older runs do not state newer settings, are counted at the end.
    """
    both = [name for name in sorted(ours) if name in theirs]
    result = [f"{name} {ours[name]} against {theirs[name]}" for name in both if not _equal(ours[name], theirs[name])]
    result += [f"{name} {ours[name]} against none" for name in sorted(ours.keys() - theirs.keys())]
    missing = len(theirs.keys() - ours.keys())
    return result + ([f"{count(missing, 'setting')} not recorded"] if missing else [])


def describe_layers(value: Any) -> str | None:
    """Return layer widths in short, e.g. ``512x4``; None where nothing is stated.

    :param value: a list of widths, a mapping of such lists, or None.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {describe_layers(widths)}" for name, widths in sorted(value.items()))
    if isinstance(value, list | tuple) and value:
        same = len(set(map(str, value))) == 1
        return f"{value[0]}x{len(value)}" if same else "-".join(map(str, value))
    return str(value)


def show(value: Any) -> str:
    """Return a value of a protocol or setting as text, with thousands separated."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def count(number: int | str, noun: str) -> str:
    """Return a number of things in words, e.g. ``1 task`` or ``2 tasks``."""
    return f"{number} {noun}{'s' * (str(number) != '1')}"


def shortened(phrases: Iterable[str], most: int = 6) -> list[str]:
    """Return the first phrases, and how many more there are."""
    phrases = list(phrases)
    more = len(phrases) - most
    return [*phrases[:most], f"and {more} more"] if more > 1 else phrases


def _equal(a: str, b: str) -> bool:
    """Return whether two settings are the same: 1 and 1.0 are."""
    try:
        return a == b or float(a.replace(",", "")) == float(b.replace(",", ""))
    except ValueError:
        return False
