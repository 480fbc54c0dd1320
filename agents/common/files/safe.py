"""Values in files: plain values and descriptions of objects as JSON, tensors with PyTorch's ``weights_only``.

Reading imports nothing, and calls only the functions in `_FORMS`. Classes, e.g. of policies and optimisers, are stored
by their path, and found only if their module is already imported.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping
from enum import IntEnum, StrEnum
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
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from torch import nn

from agents.common.validation import path_of

_NAMED = (BasePolicy, BaseBuffer, nn.Module, torch.optim.Optimizer, np.generic)
"""A file may name these classes and their subclasses."""
_OBJECTS = (RunningMeanStd, ActionNoise)
"""Classes whose objects are stored as a dict of their attributes."""


def imported_class(path: str, bases: Collection[type]) -> type | None:
    """Return the class with a given path, if it is a subclass of a base and its module is already imported.

    :param path: ``"package.module:Class"``.
    :param bases: allowed base classes.
    :return: the class; None if the imported modules have no such class.
    """
    module, _, name = path.partition(":")
    member: Any = sys.modules.get(module)
    for part in name.split("."):
        # not with `getattr`, which can execute code of a module or class
        member = getattr(member, "__dict__", {}).get(part)
    if isinstance(member, type) and issubclass(member, tuple(bases)):
        return member
    return None


# -- plain values and descriptions of objects as JSON -----------------------------------------------------------------


def to_json(value: Any) -> Any:
    """Convert a value to JSON form, with objects as ``{":form:": parts}``; :func:`from_json` is the inverse.

    :param value: plain values, arrays, spaces, classes and objects of `_FORMS`, nested in lists, tuples and dicts.
    :return: input for `json.dumps`.
    :raises TypeError: for anything else.
    """
    # members that equal their values, and SB3's unit, whose value SB3 converts again
    if isinstance(value, StrEnum | IntEnum | TrainFrequencyUnit):
        return value.value
    if isinstance(value, np.generic):
        return value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list):
        return [to_json(part) for part in value]
    if isinstance(value, dict):  # includes the OrderedDict of SB3's observations
        # a key that looks like a form is stored in a pair
        if all(isinstance(key, str) and not key.startswith(":") for key in value):
            return {key: to_json(part) for key, part in value.items()}
        return {":pairs:": [[to_json(key), to_json(part)] for key, part in value.items()]}
    for form, (kind, write, _) in _FORMS.items():
        if isinstance(value, kind):
            return {f":{form}:": to_json(write(value))}
    raise TypeError(f"{path_of(type(value))} is neither a plain value nor an array")


def to_json_by_name(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Convert named values to JSON form, in the order of their names; :func:`from_json` is the inverse.

    :param values: anything, by name.
    :return: the converted values by name, for `json.dumps`; for the remaining names, the reason why the value cannot be
        converted.
    """
    converted = {}
    problems = {}
    for name in sorted(values):
        try:
            converted[name] = to_json(values[name])
        except TypeError as error:
            problems[name] = str(error)
    return converted, problems


def from_json(value: Any) -> Any:
    """Invert :func:`to_json`.

    :param value: output of `json.loads`.
    :return: the value.
    :raises ValueError: if the value contains an unknown form, or a class that is not imported.
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
        return dict(parts)  # in JSON, pairs are lists
    if name[1:-1] not in _FORMS:
        raise ValueError(f"unknown form {name}")
    return _FORMS[name[1:-1]][2](parts)


def _array(parts: list[Any]) -> NDArray[Any]:
    values, dtype, shape = parts
    return np.array(values, np.dtype(dtype)).reshape(shape)


def _class(path: str, bases: Collection[type] = _NAMED) -> type[Any]:
    named_class = imported_class(path, bases)
    if named_class is None:
        raise ValueError(
            f"class `{path}` is not imported; if it is your own, import its module first"
        )
    return named_class


def _object(parts: list[Any]) -> Any:
    """Create an object from its attributes without calling its class."""
    path, attributes = parts
    kind = _class(path, _OBJECTS)
    restored = object.__new__(kind)
    vars(restored).update(attributes)
    return restored


def _bound(bound: NDArray[Any]) -> Any:
    """Return a bound of a Box, as a single number if all its entries are equal."""
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
        lambda space: [space.n, space.start, space.dtype.str],
        lambda parts: spaces.Discrete(parts[0], start=parts[1], dtype=np.dtype(parts[2]).type),
    ),
    "multi_discrete": (
        spaces.MultiDiscrete,
        lambda space: [space.nvec, space.start],
        lambda parts: spaces.MultiDiscrete(parts[0], parts[0].dtype.type, start=parts[1]),
    ),
    "multi_binary": (
        spaces.MultiBinary,
        lambda space: space.n,
        spaces.MultiBinary,
    ),
    "dict": (spaces.Dict, lambda space: [*space.spaces.items()], lambda parts: spaces.Dict(parts)),
    "object": (_OBJECTS, lambda value: [path_of(type(value)), vars(value)], _object),
}  # fmt: skip
"""Form -> type of its objects, function from an object to its parts, and the inverse function."""


# -- tensors ----------------------------------------------------------------------------------------------------------


def load(file: str | Path | bytes) -> Any:
    """Read nested tensors and plain values written by ``torch.save``; all tensors are on the CPU.

    :param file: path or content of a file.
    :return: the value.
    :raises ValueError: if the file contains other objects; a damaged file raises PyTorch's error.
    """
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        # on the CPU, since this machine may lack the GPU that a tensor was saved from
        return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # without PyTorch's message, which advises to trust the file
        raise ValueError("it contains unsupported objects, besides tensors and numbers") from error
