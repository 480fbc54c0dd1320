"""Values in files of ``torch.save``, read with ``weights_only``: nothing is imported, only what is listed is called.

A file names classes of policies, buffers, layers and optimisers by their path. Such a class is found only if its module
is imported already, and a file cannot call it.
"""

from __future__ import annotations

import io
import pickle
import random
import sys
from collections import deque
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common import noise, utils
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from torch import nn

from agents.common.files import is_transient
from agents.common.validation import path_of

NUMBERS_AND_TEXTS = "biufcUS"  # kinds of NumPy's dtypes whose bytes are the values
_NAMED = (BasePolicy, BaseBuffer, nn.Module, torch.optim.Optimizer, np.generic)


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


def _class(path: str) -> type:
    named_class = imported_class(path, _NAMED)
    # others of PyTorch's modules, e.g. scripted ones, run code when they are made
    if path.startswith("torch.") and not path.startswith(("torch.nn.modules.", "torch.optim.")):
        named_class = None
    if named_class is None:
        raise pickle.UnpicklingError(
            f"it needs the class `{path}`, which is not among those that may be used here"
        )
    return named_class


def _array(content: bytes, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    # an array of bytes cannot be written to, one of a bytearray can
    return np.frombuffer(bytearray(content), dtype).reshape(shape)


def _scalar(content: bytes, dtype: str) -> Any:
    return np.frombuffer(content, dtype)[0]


def _generator(state: dict[str, Any]) -> np.random.Generator:
    kinds = {kind.__name__: kind for kind in np.random.BitGenerator.__subclasses__()}
    bits: Any = kinds[state["bit_generator"]]()
    bits.state = state
    return np.random.Generator(bits)


def _random_state(state: dict[str, Any]) -> np.random.RandomState:
    generator = np.random.RandomState()
    generator.set_state(state)
    return generator


SAFE: tuple[Any, ...] = (
    _class, _array, _scalar, _generator, _random_state, bytes, np.dtype, deque, frozenset, random.Random, type(Path()),
    TrainFreq, TrainFrequencyUnit,
    RunningMeanStd, spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Dict,
    noise.NormalActionNoise, noise.OrnsteinUhlenbeckActionNoise, noise.VectorizedActionNoise, utils.FloatSchedule,
    utils.ConstantSchedule, utils.LinearSchedule,
)  # fmt: skip
"""What any file may call besides what PyTorch allows; all of it only computes."""


class Pickler(pickle.Pickler):
    """Writes what the reader of ``weights_only`` knows in place of NumPy's and Python's own functions."""

    def reducer_override(self, obj: Any) -> Any:
        """Return a function and the arguments with which it makes the value again."""
        if isinstance(obj, type) and issubclass(obj, _NAMED):
            return _class, (path_of(obj),)
        if type(obj) is np.ndarray and obj.dtype.kind in NUMBERS_AND_TEXTS:
            return _array, (obj.tobytes(), obj.dtype.str, obj.shape)
        if isinstance(obj, np.generic) and obj.dtype.kind in NUMBERS_AND_TEXTS:
            return _scalar, (obj.tobytes(), obj.dtype.str)
        if isinstance(obj, np.dtype):
            return np.dtype, (obj.str,)
        if isinstance(obj, np.random.Generator):
            return _generator, (obj.bit_generator.state,)
        if isinstance(obj, np.random.RandomState):
            return _random_state, (obj.get_state(legacy=False),)
        if type(obj) is deque:
            return deque, (list(obj), obj.maxlen)
        return NotImplemented


def save(value: Any, file: IO[bytes], pickler: type[Pickler] = Pickler) -> None:
    """Write a value.

    :param value: plain values, tensors, NumPy's values and objects of the classes in `SAFE`, nested in each other.
    :param file: open for writing.
    :param pickler: says how objects are written.
    """
    # all that `torch.save` asks of a pickle module
    torch.save(value, file, pickle_module=SimpleNamespace(__name__="pickle", Pickler=pickler))


def load(
    file: str | Path | bytes | IO[bytes],
    classes: Collection[Any] = (),
    device: torch.device | str | None = None,
) -> Any:
    """Read a value that :func:`save` or :func:`dumps` wrote.

    :param file: a path, the content of a file, or a file that is open for reading.
    :param classes: further classes whose objects it may hold.
    :param device: where its tensors go; None: where they were.
    :return: the value.
    :raises ValueError: if it is damaged, or needs what it may not use.
    """
    if isinstance(file, bytes):
        file = io.BytesIO(file)
    try:
        with torch.serialization.safe_globals([*SAFE, *classes]):
            return torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # a damaged file raises nearly anything
        if is_transient(error) or (isinstance(error, OSError) and error.errno is not None):
            raise
        # what follows is advice to trust the file
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].partition(" Please use")[0]
        problem = " ".join(reason.split()) or type(error).__name__
        raise ValueError(f"it holds no values, or needs more than it may use: {problem}") from error


def dumps(value: Any, classes: Collection[Any] = ()) -> bytes:
    """Return what :func:`save` writes, after reading it.

    :param value: the value.
    :param classes: further classes whose objects it may hold.
    :return: the content of the file.
    :raises TypeError: if it cannot be written, or could not be read.
    """
    file = io.BytesIO()
    try:
        save(value, file)
        load(file.getvalue(), classes)
    except (pickle.PicklingError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"a {path_of(type(value))}, which is neither a plain value nor an array ({error})"
        ) from error
    return file.getvalue()
