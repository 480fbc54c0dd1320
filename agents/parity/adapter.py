"""What stands between an implementation and its recorded numbers: an object or a module with five functions."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from agents.common.validation import unknown_name_message
from agents.parity.fixture import Array, Fixture, ParityError

Arrays = Mapping[str, Array]


class Adapter(Protocol):
    """The five functions; ``agent`` is whatever :meth:`create` returns.

    Two more are optional: ``intermediates(agent, batch, noise)`` returns what the losses are made of, by the names
    below ``out/``; ``state(agent)`` returns numbers beside the parameters, by names like ``adam/m_norm/critic``.
    """

    def create(self, fixture: Fixture) -> Any:
        """Return the agent with a fixture's settings and starting parameters.

        :param fixture: the recorded numbers.
        :return: the agent.
        :raises NotImplementedError: if this is not an implementation of the fixture's algorithm: it is then skipped.
        """

    def losses(self, agent: Any, batch: Arrays, noise: Arrays) -> Mapping[str, Any]:
        """Return every loss by its recorded name, and their ``total``.

        :param agent: the agent.
        :param batch: the batch.
        :param noise: every random draw.
        :return: name -> number.
        """

    def gradients(self, agent: Any, batch: Arrays, noise: Arrays) -> Mapping[str, Any]:
        """Return the gradient of the total by the parameters, before any clipping.

        :param agent: the agent.
        :param batch: the batch.
        :param noise: every random draw.
        :return: path -> array; a path that is left out has no gradient.
        """

    def update(self, agent: Any, batch: Arrays, noise: Arrays) -> tuple[Any, Any, Mapping[str, Any]]:
        """Take one update.

        :param agent: the agent; it may be changed.
        :param batch: the batch.
        :param noise: every random draw.
        :return: the agent after it, the total loss at its start, and the parameters after it by path.
        """

    def sample(self, agent: Any, observations: Array, noise: Arrays) -> Any:
        """Return sampled actions.

        :param agent: the agent.
        :param observations: one row each.
        :param noise: every random draw.
        :return: actions, one row each.
        """


REQUIRED = ("create", "losses", "gradients", "update", "sample")
OPTIONAL = {"intermediates": ("agent", "batch", "noise"), "state": ("agent",)}


def load_adapter(name: str) -> Any:
    """Import an adapter, from the current folder too.

    :param name: ``"my.module"`` if the functions are in the module itself, or ``"my.module:adapter"``.
    :return: the adapter; of a class, an object made without arguments.
    :raises ParityError: if there is no such module or adapter, or it lacks a function.
    """
    module_name, _, attribute = name.partition(":")
    found = _import(module_name)
    if attribute:
        if not hasattr(found, attribute):
            names = [known for known in vars(found) if not known.startswith("_")]
            raise ParityError(unknown_name_message(f"adapter in `{module_name}`", attribute, names))
        found = getattr(found, attribute)
    adapter = found() if inspect.isclass(found) else found
    require_functions(adapter, name)
    return adapter


def _import(name: str) -> Any:
    """Return a module."""
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    unknown = ParityError(f"there is no module `{name}` in {os.getcwd()} or on the Python path")
    if not all(part.isidentifier() for part in name.split(".")):
        raise unknown
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise unknown from error
        raise ParityError(f"`{name}` cannot be imported: {error}{line_of(error)}") from error
    except Exception as error:
        raise ParityError(f"`{name}` cannot be imported: {type(error).__name__}: {error}{line_of(error)}") from error


def line_of(error: Exception) -> str:
    """Return the innermost line of an adapter's file that an error has passed through, in brackets.

    :param error: what an adapter's code raised.
    :return: file and line, with a leading space; empty if there is none.
    """
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and Path(frame.filename).parent != Path(__file__).parent
    ]
    first = next((frame for frame in frames if "importlib" not in frame.filename), None)
    own = [frame for frame in frames if first is not None and frame.filename == first.filename]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""


def require_functions(adapter: Any, name: str) -> None:
    """Refuse an adapter that lacks a function, or has one with other arguments.

    :param adapter: the adapter.
    :param name: of the adapter, for the message.
    :raises ParityError: if a function is missing or cannot be called.
    """
    takes = {function: _arguments_of(getattr(Adapter, function)) for function in REQUIRED}
    for function, arguments in {**takes, **OPTIONAL}.items():
        found = getattr(adapter, function, None)
        if found is None and function in OPTIONAL:
            continue
        call = f"{function}({', '.join(arguments)})"
        if not callable(found):
            raise ParityError(f"adapter `{name}` has no function `{call}`; it needs {', '.join(REQUIRED)}")
        try:
            inspect.signature(found).bind(*arguments)
        except TypeError as error:
            raise ParityError(
                f"`{function}` of adapter `{name}` must be callable as `{call}`, and takes {inspect.signature(found)}"
            ) from error


def to_array(value: Any) -> Array:
    """Return numbers as a NumPy array; tensors of other libraries are taken too.

    :param value: number, array or tensor.
    :return: the array.
    :raises TypeError: if it is not numbers.
    """
    if hasattr(value, "detach"):  # PyTorch, perhaps with a graph and on a device
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"expected numbers, got {value!r} of type {type(value).__name__}")
    return array


def _arguments_of(function: Any) -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(function).parameters if name != "self")
