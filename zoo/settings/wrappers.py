"""Names of the wrappers that a run puts around its environments, as in RL Baselines3 Zoo.

``["gymnasium.wrappers:FlattenObservation", {"my_package:FrameSkip": {"skip": 2}}]``; the first is the innermost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Wrappers: TypeAlias = Sequence[str | Mapping[str, Mapping[str, Any]]]


def checked_wrappers(name: str, value: object) -> list[str | dict[str, dict[str, Any]]] | None:
    """Return wrappers in the form that runs record: a name, or a mapping of one name to its keyword arguments.

    :param name: of the setting.
    :param value: a name or a list of these. Names are ``module:Class``, or ``module.Class`` as in RL Baselines3 Zoo.
    :raises TypeError: for anything else.
    """
    if value is None:
        return None
    items = value
    if isinstance(value, str):
        items = [value]
    if not isinstance(items, Sequence):
        raise TypeError(
            f"`{name}` must be a list of wrappers, got {value!r}; e.g. [gymnasium.wrappers:ClipAction]"
        )
    checked: list[str | dict[str, dict[str, Any]]] = []
    for item in items:
        path, kwargs = _path_and_kwargs(item)
        module, _, class_name = str(path).replace(":", ".").rpartition(".")
        if not isinstance(path, str) or not isinstance(kwargs or {}, Mapping) or not module:
            raise TypeError(
                f"`{name}` must hold `module:Class` or {{module:Class: {{argument: value}}}}, got {item!r}; e.g. "
                "gymnasium.wrappers:ClipAction"
            )
        # one spelling, since runs with equal records are the same run
        path = f"{module}:{class_name}"
        if kwargs:
            checked.append({path: dict(kwargs)})
        else:
            checked.append(path)
    return checked or None


def _path_and_kwargs(item: Any) -> tuple[Any, Any]:
    if isinstance(item, Mapping) and len(item) == 1:
        return next(iter(item.items()))
    return item, {}


def named_wrappers(wrappers: Wrappers) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return module, class and keyword arguments of each wrapper, the innermost first."""
    named: list[tuple[str, str, Mapping[str, Any]]] = []
    for item in checked_wrappers("env_wrapper", wrappers) or ():
        path, kwargs = _path_and_kwargs(item)
        module, _, class_name = path.partition(":")
        named.append((module, class_name, kwargs))
    return named
