"""Flows that were trained elsewhere: ``--behaviour FILE.py:FUNCTION``."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import torch

from agents.common.nets.pretrained import PretrainedFlow
from zoo.algorithms.packages import import_user_object
from zoo.terminal.errors import UsageError


def load_flow(name: str) -> Any:
    """Return what a function of the user's makes, which a model refuses if it is no `PretrainedFlow`.

    :param name: ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``; the function takes no arguments.
    :raises UsageError: if there is no such file, module or function, or it fails.
    """
    module, _, function = name.rpartition(":")
    if not module:
        raise UsageError(
            "`--behaviour` must name a function, as FILE.py:FUNCTION or MODULE:FUNCTION, got "
            f"{name!r}; add `:` and the function"
        )
    path = None
    if module.endswith(".py"):
        path = Path(module).expanduser().resolve()
        if not path.is_file():
            raise UsageError(
                f"`--behaviour` must name a file and a function, FILE.py:FUNCTION, got {name!r}: no file"
            )
        # At the end, so that a file of the user's hides no installed module.
        sys.path.append(str(path.parent))
        module = path.stem
    noun = "a function, as FILE.py:FUNCTION or MODULE:FUNCTION,"
    make = import_user_object("--behaviour", noun, f"{module}:{function}")
    source = getattr(sys.modules[module], "__file__", None)  # a built-in module has none
    # another folder of Python's path may have a module of that name
    if path is not None and (source is None or Path(source).resolve() != path):
        raise UsageError(
            f"`--behaviour` {name} must be the only module `{module}` on Python's path, got {source}; rename the file"
        )
    try:
        return make()
    except Exception as error:
        raise UsageError(
            f"`--behaviour` must name a function without arguments, got {name}, which failed: {type(error).__name__}: "
            f"{error}"
        ) from error


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
