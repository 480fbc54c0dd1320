"""Values in files: plain ones and descriptions of objects as JSON, tensors by PyTorch's ``weights_only``.

Reading imports nothing and calls only what is listed here. A file names classes of policies, layers and optimisers by
their path; such a class is found only if its module is imported already.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections import deque
from collections.abc import Callable, Collection
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from torch import nn

from agents.common.validation import path_of

_NAMED = (BasePolicy, BaseBuffer, nn.Module, torch.optim.Optimizer, np.generic)
"""Classes that a file may name, with those that derive from them."""
_OBJECTS = (RunningMeanStd, ActionNoise)
"""Classes of objects that are no more than their attributes."""


def imported_class(path: str, bases: Collection[type]) -> type | None:
    """Return a class that a text names, if its module is imported already and it derives from one of some classes.

    :param path: ``"package.module:Class"``.
    :param bases: the classes.
    :return: the class; None if there is no such class in the modules of this process.
    """
    module, _, name = path.partition(":")
    member: Any = sys.modules.get(module)
    for part in name.split("."):
        # not by `getattr`: a module or class may run code to find an attribute
        member = getattr(member, "__dict__", {}).get(part)
    if isinstance(member, type) and issubclass(member, tuple(bases)):
        return member
    return None


# -- plain values and descriptions of objects as JSON -----------------------------------------------------------------


def to_json(value: Any) -> Any:
    """Return a value as JSON holds it, objects as ``{":form:": parts}``; :func:`from_json` gives it back.

    :param value: plain values, arrays, spaces, classes and objects of `_FORMS`, nested in lists, tuples and dicts.
    :return: what `json.dumps` takes.
    :raises TypeError: for anything else.
    """
    if isinstance(value, Enum):
        return to_json(value.value)
    if isinstance(value, np.generic):
        return value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list):
        return [to_json(part) for part in value]
    if isinstance(value, dict):  # also of a class that keeps order, as SB3 has observations
        if all(isinstance(key, str) for key in value):
            return {key: to_json(part) for key, part in value.items()}
        return {":pairs:": [[to_json(key), to_json(part)] for key, part in value.items()]}
    for form, (kind, write, _) in _FORMS.items():
        if isinstance(value, kind):
            return {f":{form}:": to_json(write(value))}
    raise TypeError(f"it is a {path_of(type(value))}, which is neither a plain value nor an array")


def from_json(value: Any) -> Any:
    """Return the value that :func:`to_json` wrote.

    :param value: what `json.loads` returned.
    :return: the value.
    :raises ValueError: if it names a class that is not imported, or is no such value.
    """
    if isinstance(value, list):
        return [from_json(part) for part in value]
    if not isinstance(value, dict):
        return value
    (name, *more_names) = value or [""]
    if more_names or not (name.startswith(":") and name.endswith(":")):
        return {key: from_json(part) for key, part in value.items()}
    parts = from_json(value[name])
    if name == ":pairs:":
        return {key: part for key, part in parts}  # lists of two
    if name[1:-1] not in _FORMS:
        raise ValueError(f"it holds a {name}, which this version does not know")
    return _FORMS[name[1:-1]][2](parts)


def _array(parts: list[Any]) -> NDArray[Any]:
    values, dtype, shape = parts
    return np.array(values, np.dtype(dtype)).reshape(shape)


def _class(path: str, bases: Collection[type] = _NAMED) -> type[Any]:
    named_class = imported_class(path, bases)
    if named_class is None:
        raise ValueError(
            f"it needs the class `{path}`, which is not imported; if it is your own, import its module first"
        )
    return named_class


def _object(parts: list[Any]) -> Any:
    """Return an object with its attributes, for which nothing of its class is called."""
    path, attributes = parts
    kind = _class(path, _OBJECTS)
    restored = object.__new__(kind)
    vars(restored).update(attributes)
    return restored


def _bound(bound: NDArray[Any]) -> Any:
    """Return a bound of a Box, one number where all are equal, as in images."""
    return bound.flat[0] if bound.size and (bound == bound.flat[0]).all() else bound.tolist()


def _box(parts: list[Any]) -> spaces.Box:
    low, high, shape, dtype = parts
    kind: Any = np.dtype(dtype)
    low, high = (np.broadcast_to(np.array(bound, kind), shape).copy() for bound in (low, high))
    return spaces.Box(low, high, dtype=kind.type)


_FORMS: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "tuple": (tuple, list, tuple),
    "deque": (deque, lambda values: [list(values), values.maxlen], lambda parts: deque(*parts)),
    "array": (np.ndarray, lambda array: [array.tolist(), array.dtype.str, array.shape], _array),
    "class": (type, path_of, _class),
    "box": (
        spaces.Box,
        lambda space: [_bound(space.low), _bound(space.high), space.shape, space.dtype.str],
        _box,
    ),
    "discrete": (
        spaces.Discrete,
        lambda space: [space.n, space.start],
        lambda parts: spaces.Discrete(parts[0], start=parts[1]),
    ),
    "multi_discrete": (
        spaces.MultiDiscrete,
        lambda space: [space.nvec, space.start],
        lambda parts: spaces.MultiDiscrete(parts[0], start=parts[1]),
    ),
    "multi_binary": (
        spaces.MultiBinary,
        lambda space: space.n,
        spaces.MultiBinary,
    ),
    "dict": (spaces.Dict, lambda space: [*space.spaces.items()], lambda parts: spaces.Dict(parts)),
    "object": (_OBJECTS, lambda value: [path_of(type(value)), vars(value)], _object),
}  # fmt: skip
"""Form -> the type of its objects, their parts, and what makes an object of its parts."""


# -- tensors ----------------------------------------------------------------------------------------------------------


def load(file: str | Path | bytes, device: torch.device | str | None = None) -> Any:
    """Read tensors and plain values, nested in each other, that ``torch.save`` wrote.

    :param file: a path, or the content of a file.
    :param device: where its tensors go; None: where they were.
    :return: the value.
    :raises ValueError: if it needs anything else; for damage, whatever PyTorch raises.
    """
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        return torch.load(source, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        # what follows is advice to trust the file
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].partition(" Please use")[0]
        problem = " ".join(reason.split())
        raise ValueError(f"it needs more than it may use: {problem}") from error
