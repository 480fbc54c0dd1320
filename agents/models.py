"""Algorithms as Stable-Baselines3 models: found by id, and loaded from a file whoever wrote it."""

from __future__ import annotations

import copyreg
import inspect
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from agents import registry
from agents.common.files.safe import imported_class
from agents.common.method import Method
from agents.common.model_file import read_model_file
from agents.common.sb3.constructor import Arguments
from agents.common.sb3.model import FlowAlgorithm, GymEnv, ModelType
from agents.common.validation import path_of
from agents.registry import Entry


@cache  # one class for each method, since a loaded model must be an instance of it
def model_class(method: type[Method]) -> type[FlowAlgorithm]:
    """Return the class of models of a method, always the same one.

    :param method: the method.
    :return: a subclass of :class:`FlowAlgorithm` of the method's name, documented with its settings.
    :raises ValueError: if a setting has the name of another argument of models.
    """
    for name in method.declared().keys() & Arguments.declared().keys():
        raise ValueError(
            f"setting `{name}` of {method.__name__} has the name of an argument of every model; rename it, e.g. "
            f"`own_{name}`"
        )
    is_built_in = registry.name_of(method) in registry.BUILT_IN
    settings = f"{method.documentation()}\n{Arguments.documentation()}"
    attributes = {
        "method_class": method,
        "__doc__": f"{inspect.getdoc(method) or ''}\n\n{settings}",
        # where users import it from
        "__module__": "agents" if is_built_in else __name__,
    }
    return ModelType(method.__name__, (FlowAlgorithm,), attributes)  # type: ignore[return-value]  # it is one


def _reduced(kind: ModelType) -> Any:
    """Return how a class of models is pickled: one that was made here by its method, others by their name."""
    if kind.__module__ == __name__:
        return model_class, (kind.method_class,)
    return kind.__qualname__


copyreg.pickle(ModelType, _reduced)


def get(id: str) -> Entry:
    """Return an algorithm, importing it if needed.

    :param id: an id, an alias, or ``"package.module:Class"`` for a registered class of one's own.
    :return: its entry.
    :raises KeyError: if there is no such algorithm; the message names the closest.

    >>> get("qam").published_name
    'QAM'
    >>> get("qam").algorithm is agents.QAM
    True
    """
    entry = registry.find(id)
    return replace(entry, algorithm=model_class(entry.method))


def load(
    path: str | Path,
    env: GymEnv | None = None,
    device: str = "auto",
    *,
    trust: bool = False,
    **kwargs: Any,
) -> FlowAlgorithm:
    """Load a saved model of any algorithm; the file knows whose it is.

    :param path: what ``save`` wrote, or the folder of a run.
    :param env: environment to go on with.
    :param device: where to; as in SB3, one that is not there stands for the CPU.
    :param trust: whether the file may name a module to import.
    :param kwargs: see ``load`` of the algorithm.
    :return: the model.
    :raises FileNotFoundError: if there is no model.
    :raises ValueError: if the file does not say whose it is, its algorithm is not there, or it is damaged or must be
        trusted.

    >>> model = agents.BC("MlpPolicy", "Pendulum-v1", net_arch=[32], buffer_size=1_000)
    >>> model.save("model")
    >>> action, state = load("model").predict(np.zeros(3, np.float32))
    >>> action.shape
    (1,)
    """
    saved = read_model_file(path)
    file = saved.name
    name = saved.algorithm_id
    if name is None:
        raise ValueError(
            f"{file} does not say which algorithm it is of, as those of Stable-Baselines3 do not; "
            "load it with the class, e.g. `agents.QAM.load(path)`"
        )
    # nothing is imported that the file alone names
    entry = registry.find_named_by_file(name, file, trust=trust)
    algorithm, kind = model_class(entry.method), saved.described.get("class", "")
    saved_class: Any = imported_class(kind, (algorithm,))
    if saved_class is None and kind not in ("", path_of(algorithm)):
        warnings.warn(
            f"{file} is of the class {kind}, which is not imported; it becomes one of {name}",
            stacklevel=2,
        )
    return (saved_class or algorithm).load(saved, env, device, **kwargs)
