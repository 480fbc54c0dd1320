"""Flows of the user's own: ``--behaviour FILE.py:FUNCTION``."""

import hashlib
import importlib.util
import operator
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from agents.common.nets.pretrained import PretrainedFlow
from agents.registry import import_named
from zoo.terminal.errors import UsageError


def load_flow(name: str) -> Any:
    """Return what a function of the user's makes, which a model refuses if it is no `PretrainedFlow`.

    :param name: ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``; the function takes no arguments.
    :raises UsageError: if there is no such file, module or function, or it fails.
    """
    place, _, function = name.rpartition(":")
    try:
        module = _import_file(Path(place)) if place.endswith(".py") else import_named(place)
        return operator.attrgetter(function)(module)()
    except Exception as error:
        raise UsageError(
            "`--behaviour` must name a function without arguments, as FILE.py:FUNCTION or MODULE:FUNCTION, got "
            f"{name!r}: {type(error).__name__}: {error}"
        ) from error


def _import_file(file: Path) -> ModuleType:
    """Return the module of a file, whatever its name."""
    path = file.expanduser().resolve()
    # at the end, so that files beside it hide no installed module
    sys.path.append(str(path.parent))
    # `test.py` or `flow.v2.py` would find other modules, or none, by their own names
    name = f"flow_{hashlib.sha256(bytes(path)).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where the compiler looks for it
    spec.loader.exec_module(module)
    return module


def describe_flow(name: str, flow: PretrainedFlow) -> dict[str, Any]:
    """Return a run's record of its flow: the function's name, and a fingerprint of weights and conventions."""
    # the same weights are another flow with another time or action scale
    digest = hashlib.sha256(repr(flow.conventions()).encode())
    for key, value in flow.module.state_dict().items():
        digest.update(key.encode())
        digest.update(
            value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return {"function": name, "fingerprint": digest.hexdigest()}
