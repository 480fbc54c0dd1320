"""Validation of user input. Messages contain the expected and the given value.

The validators take the ``name`` of a setting, for messages, and a ``value``, and return the validated value. A wrong
type raises TypeError, an invalid value ValueError; `checked_pair` and `one_of` raise ValueError for both.
"""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, NoReturn, TypedDict, Unpack

MAX_LISTED = 40
"""Largest number of choices that a message lists."""

OTHER_NAMES = {
    "actor_hidden_dims": "net_arch",
    "alpha": "bc_weight distill_weight inverse_temperature",
    "ent_coef": "none: algorithms with an entropy bonus learn its weight",
    "inv_temp": "inverse_temperature",
    "layer_norm": "actor_layer_norm critic_layer_norm",
    "n": "offline_steps online_steps episodes",
    "n_steps": "none: set `horizon_length=N action_chunking=false shorten_returns=true`",
    "n_timesteps": "offline_steps online_steps episodes",
    "num_qs": "ensemble_size",
    "num_samples": "best_of_n",
    "optimize_memory_usage": "none: online transitions keep their next observations",
    "p_aug": "random_crop",
    "policy_delay": "none: except in rebrac, actor and critics are updated together",
    "q_agg": "rho",
    "target_entropy": "none: only algorithms with an entropy bonus have it",
    "target_update_interval": "none: target networks are updated at every gradient step (rebrac: `policy_delay`)",
    "tensorboard_log": "log_folder",
    "total_timesteps": "offline_steps online_steps",
    "use_sde": "none: gSDE is not supported; flows explore by their initial noise",
    "value_hidden_dims": "net_arch",
}
"""Names in SB3, RL Zoo and the papers' code -> our settings and flags, or the reason why there is none."""


def suggestion(name: object, choices: Iterable[str], command: str = "") -> str:
    """Return the end of a message about an unknown name: similar choices, else all choices if there are few.

    A setting that is written like a flag, or whose ``reference`` contains the unknown name, e.g. its name in the paper,
    counts as similar.

    :param name: the unknown name; in YAML this may be a number or None.
    :param choices: valid names, or declarations of settings by name.
    :param command: command that lists the choices, for long lists.
    :return: the end of a sentence.
    """
    similar = []
    other_name = OTHER_NAMES.get(_plain(name), "")
    if isinstance(choices, Mapping):
        for choice, declared in choices.items():
            if choice == _plain(name) or name in getattr(declared, "reference", "").split(", "):
                similar.append(choice)
    # sorted, so that equally close names have the same order in all processes
    names_in_order = sorted(set(choices))
    if not similar:
        if other_name.startswith("none"):
            return f"there is {other_name}"
        similar = [choice for choice in names_in_order if _plain(choice) in other_name.split()]
    # matching ignores case
    by_lower_case = {choice.lower(): choice for choice in names_in_order}
    if not similar:
        matches = difflib.get_close_matches(str(name).lower(), by_lower_case)
        similar = [by_lower_case[match] for match in matches]
    if similar:
        return f"closest: {', '.join(similar)}"
    if len(names_in_order) > MAX_LISTED:
        advice = f"; see {command}" if command else ""
        return f"no similar name among {len(names_in_order):,}{advice}"
    if not names_in_order:
        return "there are no choices"
    return f"choose from: {', '.join(names_in_order)}"


def _plain(name: object) -> str:
    """Return the name of a setting, given its name or its flag."""
    return str(name).lstrip("-").replace("-", "_")


def path_of(kind: type) -> str:
    """Return the path of a class as files store it, ``"package.module:Class"``."""
    return f"{kind.__module__}:{kind.__qualname__}"


def unknown_name_message(kind: str, name: object, choices: Iterable[str], command: str = "") -> str:
    """Return the message for an unknown name; ``kind`` is a noun, e.g. "algorithm"."""
    return f"unknown {kind} `{name}`; {suggestion(name, choices, command)}"


def count(number: int, noun: str) -> str:
    """Return a number with a noun, e.g. ``1 task``, ``2,000 tasks`` or ``3 trajectories``."""
    text = f"{number:,}"
    if text == "1":
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{text} {noun[:-1]}ies"
    return f"{text} {noun}s"


class Bounds(TypedDict, total=False):
    """Bounds of a number."""

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
"""Name of a bound -> its sign and comparison."""


def _reject(name: str, noun: str, value: object, has_type: bool, bounds: Bounds) -> NoReturn:
    """Raise ValueError if the type of a value is right, else TypeError."""
    message = f"`{name}` must be {noun}{describe_bounds(**bounds)}, got {value!r}"
    if has_type:
        raise ValueError(message)
    raise TypeError(f"{message} of type {type(value).__name__}")


def _is_within(value: Any, bounds: Bounds) -> bool:
    return all(COMPARISONS[name][1](value, bound) for name, bound in bounds.items())


def number(name: str, value: object, **bounds: Unpack[Bounds]) -> float:
    """Return a finite float within bounds; booleans are rejected."""
    # True is a number in Python
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and _is_within(value, bounds):  # type: ignore[arg-type]  # a number
        return float(value)  # type: ignore[arg-type]
    _reject(name, "a finite number", value, is_number, bounds)


def checked_pair(name: str, value: object) -> tuple[float, float]:
    """Return two finite numbers in increasing order; raise ValueError for other values."""
    try:
        low, high = (number(name, part) for part in value)  # type: ignore[attr-defined]  # raises TypeError
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be two finite numbers, e.g. [-1, 1], got {value!r}"
        ) from error
    if low >= high:
        raise ValueError(f"`{name}` must be in increasing order, got {[low, high]}")
    return low, high


def integer(name: str, value: object, **bounds: Unpack[Bounds]) -> int:
    """Return an int within bounds; whole floats such as 1e5 are accepted, booleans rejected."""
    # JSON reads 1e5 as a float
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    is_whole = is_number and (isinstance(value, Integral) or float(value).is_integer())  # type: ignore[arg-type]
    if is_whole and _is_within(value, bounds):
        return int(value)  # type: ignore[call-overload]
    _reject(name, "an int", value, is_whole, bounds)


def boolean(name: str, value: object) -> bool:
    """Return True or False; raise TypeError for other values."""
    # NumPy's booleans have the same type name, but are no instances of `bool`
    if type(value).__name__ != "bool":
        _reject(name, "true or false", value, False, {})
    return bool(value)


def one_of(name: str, value: object, choices: Iterable[str]) -> str:
    """Return one of the choices; raise ValueError for other values."""
    valid = tuple(choices)
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"`{name}` must be one of {', '.join(valid)}, got {value!r}")
    return value


def describe_bounds(**bounds: Unpack[Bounds]) -> str:
    """Return bounds as text with a leading space, e.g. ``" > 0 and <= 1"``; empty without bounds."""
    parts = []
    for name, (sign, _) in COMPARISONS.items():
        bound: Any = bounds.get(name, math.inf)
        if math.isfinite(bound):
            # `g` would round a large int
            parts.append(f"{sign} {bound if isinstance(bound, int) else format(bound, 'g')}")
    if not parts:
        return ""
    return " " + " and ".join(parts)
