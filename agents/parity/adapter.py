"""What stands between an implementation and its recorded numbers: an object or a module with five functions."""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

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


def load_adapter(name: str) -> Any:
    """Import an adapter.

    :param name: ``"my.module"`` if the functions are in the module itself, or ``"my.module:adapter"``.
    :return: the adapter; of a class, an object made without arguments.
    :raises ParityError: if it cannot be imported, or lacks a function.
    """
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
        found = getattr(found, attribute) if attribute else found
        adapter = found() if inspect.isclass(found) else found
    except Exception as error:
        raise ParityError(f"`{name}` cannot be imported: {describe(error)}") from error
    missing = [function for function in REQUIRED if not callable(getattr(adapter, function, None))]
    if missing:
        raise ParityError(f"adapter `{name}` has no function `{missing[0]}`; it needs {', '.join(REQUIRED)}")
    return adapter


def describe(error: Exception) -> str:
    """Return what an adapter's code raised, and the innermost line of its files that the error has passed through.

    :param error: what was raised.
    :return: type, text, and file and line if they are known.
    """
    others = ("<", "importlib", "site-packages", str(Path(__file__).parent))
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f" ({frame.filename}:{frame.lineno})" for frame in frames if not any(a in frame.filename for a in others)]
    return f"{type(error).__name__}: {error}{lines[-1] if lines else ''}"
