"""Algorithms as Stable-Baselines3 models, by id or from a saved file."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from agents import registry
from agents.common.files.safe import imported_class
from agents.common.method import Method
from agents.common.model_file import read_model_file
from agents.common.sb3.constructor import Arguments
from agents.common.sb3.model import FlowAlgorithm, GymEnv
from agents.common.validation import path_of
from agents.registry import Entry


@cache  # one class per method, so that `isinstance` works for loaded models
def model_class(method: type[Method]) -> type[FlowAlgorithm]:
    """Return the model class of a method.

    :param method: the method.
    :return: a subclass of :class:`FlowAlgorithm` with the method's name, documented with its settings.
    :raises ValueError: if a setting has the same name as a constructor argument.
    """
    for name in method.declared().keys() & Arguments.declared():
        raise ValueError(
            f"setting `{name}` of {method.__name__} clashes with a constructor argument; rename it, "
            f"e.g. `own_{name}`"
        )
    is_built_in = registry.name_of(method) in registry.BUILT_IN
    settings = f"{method.documentation()}\n{Arguments.documentation()}"
    attributes = {
        "method_class": method,
        "__doc__": f"{inspect.getdoc(method) or ''}\n\n{settings}",
        # the module from which users import the class
        "__module__": "agents" if is_built_in else __name__,
    }
    return type(method.__name__, (FlowAlgorithm,), attributes)


def get(id: str) -> Entry:
    """Return an algorithm, importing it if needed.

    :param id: an id, an alias, or ``"package.module:Class"`` for a custom registered class.
    :return: the entry of the algorithm.
    :raises KeyError: if there is no such algorithm; the message names the closest.
    :raises ImportError: if the package that provides the algorithm cannot be imported.

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
    device: torch.device | str = "auto",
    *,
    trust: bool = False,
    **kwargs: Any,
) -> FlowAlgorithm:
    """Load a saved model of any algorithm.

    :param path: a saved model, or the folder of a run.
    :param env: environment for further training.
    :param device: device of the model; as in SB3, the CPU is used if this device is not available.
    :param trust: whether to import the module named in the file.
    :param kwargs: see ``load`` of the algorithm.
    :return: the model.
    :raises FileNotFoundError: if there is no model at this path.
    :raises ValueError: if the file is damaged, or its algorithm is unknown or not trusted.

    >>> model = agents.BC("MlpPolicy", "Pendulum-v1", net_arch=[32], buffer_size=1_000)
    >>> model.save("model")
    >>> action, state = load("model").predict(np.zeros(3, np.float32))
    >>> action.shape
    (1,)
    """
    saved = read_model_file(path)
    # a module is not imported merely because the file contains its name
    algorithm_id = saved.described["algorithm_id"]
    entry = registry.find_named_by_file(algorithm_id, saved.name, trust=trust)
    algorithm, kind = model_class(entry.method), saved.described.get("class", "")
    saved_class: Any = imported_class(kind, (algorithm,))
    if saved_class is None and kind not in ("", path_of(algorithm)):
        warnings.warn(
            f"{saved.name} was saved by the class {kind}, which is not imported; loading it as {entry.id}",
            stacklevel=2,
        )
    return (saved_class or algorithm).load(saved, env, device, **kwargs)
