"""Checks of user input. Each says what was expected, what was got and what to do.

They take the ``name`` of a setting, for the message, and the ``value`` that the user gave, and return the value. One
of the wrong type raises TypeError, one that is not allowed ValueError.
"""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, NoReturn, TypedDict, Unpack


class UntrustedError(ValueError):
    """A file holds code or names a module to import, and nothing says that its author is trusted."""


MAX_LISTED = 40
"""How many choices a message lists."""

OTHER_NAMES = {
    "actor_hidden_dims": "net_arch",
    "alpha": "bc_weight distill_weight inverse_temperature",
    "ent_coef": "none: only rlpd has an entropy bonus, whose weight is learnt",
    "inv_temp": "inverse_temperature",
    "layer_norm": "actor_layer_norm critic_layer_norm",
    "n": "offline_steps online_steps episodes",
    "n_timesteps": "offline_steps online_steps episodes",
    "num_qs": "ensemble_size",
    "num_samples": "best_of_n",
    "p_aug": "random_crop",
    "policy_delay": "none: actor and critics are updated together",
    "q_agg": "rho",
    "sde_sample_freq": "none: a flow explores by its initial noise",
    "target_update_interval": "none: target networks are updated in every step, with rate `tau`",
    "tensorboard_log": "log_folder",
    "total_timesteps": "offline_steps online_steps",
    "use_sde": "none: a flow explores by its initial noise",
    "value_hidden_dims": "net_arch",
}
"""Names in SB3, its zoo and the papers' code -> ours, or why there is none; for settings and flags alike."""


def suggestion(name: object, choices: Iterable[str], command: str = "") -> str:
    """Return the end of a message about an unknown name: up to three similar choices, best first, or else all.

    Of declared settings by name, those are named that the paper or the authors' code calls so. In a YAML file, a name
    may be a number or nothing at all.

    :param name: the unknown name.
    :param choices: the known ones.
    :param command: shows choices that are too many to list here.
    :return: the end of a sentence.
    """
    similar = []
    other_name = OTHER_NAMES.get(_plain(name), "")
    if isinstance(choices, Mapping):
        for choice, declared in choices.items():
            if name in getattr(declared, "reference", "").split(", "):
                similar.append(choice)
    # in order, so that equally close names come alike in every process; by lower case, as people type
    names_in_order = sorted(set(choices))
    if not similar:
        if other_name.startswith("none"):
            return f"there is {other_name}"
        similar = [choice for choice in names_in_order if _plain(choice) in other_name.split()]
    by_lower_case = {choice.lower(): choice for choice in names_in_order}
    if not similar:
        matches = difflib.get_close_matches(str(name).lower(), by_lower_case)
        similar = [by_lower_case[match] for match in matches]
    if similar:
        return f"closest: {', '.join(similar)}"
    if len(names_in_order) > MAX_LISTED:
        advice = f"; see {command}" if command else ""
        return f"none of the {len(names_in_order):,} known names is similar{advice}"
    if not names_in_order:
        return "there is none to choose from"
    return f"choose from: {', '.join(names_in_order)}"


def _plain(name: object) -> str:
    """Return a name as a setting has it, given that of its flag too."""
    return str(name).lstrip("-").replace("-", "_")


def path_of(kind: type) -> str:
    """Return the name by which a file names a class, ``"package.module:Class"``."""
    return f"{kind.__module__}:{kind.__qualname__}"


def unknown_name_message(kind: str, name: object, choices: Iterable[str], command: str = "") -> str:
    """Return the message for a name that is not one of the choices; ``kind`` is what it names, e.g. "algorithm"."""
    return f"unknown {kind} `{name}`; {suggestion(name, choices, command)}"


def count(number: int | str, noun: str) -> str:
    """Return a number of things in words, e.g. ``1 task``, ``2,000 tasks`` or ``3 trajectories``."""
    text = number if isinstance(number, str) else f"{number:,}"
    if text == "1":
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{text} {noun[:-1]}ies"
    return f"{text} {noun}s"


class Bounds(TypedDict, total=False):
    """What a number must keep to."""

    above: float
    at_least: float
    below: float
    at_most: float


COMPARISONS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "above": (">", operator.gt),
    "at_least": (">=", operator.ge),
    "below": ("<", operator.lt),
    "at_most": ("<=", operator.le),
}
"""Name of a bound -> its sign, and whether a number keeps to it."""


def _refuse(name: str, noun: str, value: object, has_type: bool, bounds: Bounds) -> NoReturn:
    """Raise ValueError for a value of the right type that is not allowed, TypeError for one of another type."""
    message = f"`{name}` must be {noun}{describe_bounds(**bounds)}, got {value!r}"
    if has_type:
        raise ValueError(message)
    raise TypeError(f"{message} of type {type(value).__name__}")


def _is_within(value: Any, bounds: Bounds) -> bool:
    return all(COMPARISONS[name][1](value, bound) for name, bound in bounds.items())


def number(name: str, value: object, **bounds: Unpack[Bounds]) -> float:
    """Return a setting as a finite float inside a range; booleans are not numbers here."""
    # Python counts True as a number
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and _is_within(value, bounds):  # type: ignore[arg-type]  # a number
        return float(value)  # type: ignore[arg-type]
    _refuse(name, "a finite number", value, is_number, bounds)


def checked_pair(name: str, value: object) -> tuple[float, float]:
    """Return two finite numbers, of which the second must be the higher one; else raise ValueError."""
    try:
        low, high = (number(name, part) for part in value)  # type: ignore[attr-defined]  # else it is a TypeError
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be two finite numbers, e.g. [-1, 1], got {value!r}"
        ) from error
    if low >= high:
        raise ValueError(
            f"`{name}` must be a number and a higher one, got {[low, high]}; give the lower one first"
        )
    return low, high


def integer(name: str, value: object, **bounds: Unpack[Bounds]) -> int:
    """Return a setting as an int inside a range; a whole float such as 1e5 is one, a boolean is not."""
    # YAML and JSON read 1e5 as a float
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    is_whole = is_number and (isinstance(value, Integral) or float(value).is_integer())  # type: ignore[arg-type]
    if is_whole and _is_within(value, bounds):
        return int(value)  # type: ignore[call-overload]
    _refuse(name, "an int", value, is_whole, bounds)


def boolean(name: str, value: object) -> bool:
    """Return a setting that must be True or False."""
    if not isinstance(value, bool):
        _refuse(name, "true or false", value, False, {})
    return value


def one_of(name: str, value: object, choices: Iterable[str]) -> str:
    """Return a setting that must be one of a few words."""
    valid = tuple(choices)
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"`{name}` must be one of {', '.join(valid)}, got {value!r}")
    return value


def describe_bounds(**bounds: Unpack[Bounds]) -> str:
    """Return a range in words with a leading space, e.g. ``" > 0 and <= 1"``; nothing without bounds."""
    parts = []
    for name, (sign, _) in COMPARISONS.items():
        bound: Any = bounds.get(name, math.inf)
        if math.isfinite(bound):
            # `g` would round a large int
            parts.append(f"{sign} {bound if isinstance(bound, int) else format(bound, 'g')}")
    if not parts:
        return ""
    return " " + " and ".join(parts)
