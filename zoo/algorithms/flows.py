"""Flows that were trained elsewhere: ``--behaviour FILE.py:FUNCTION``."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import torch

from agents.common.nets.pretrained import PretrainedFlow
from zoo.algorithms.packages import import_user_object
from zoo.terminal.errors import UsageError


def load_flow(name: str) -> PretrainedFlow:
    """Return the flow that a function of the user's makes.

    :param name: ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``; the function takes no arguments.
    :raises UsageError: if there is no such file, module or function, it fails, or it returns anything else.
    """
    module, _, function = name.rpartition(":")
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
        flow = make()
    except Exception as error:
        raise UsageError(
            f"`--behaviour` must name a function without arguments, got {name}, which failed: {type(error).__name__}: "
            f"{error}"
        ) from error
    if not isinstance(flow, PretrainedFlow):
        raise UsageError(
            f"`--behaviour` {name} must return an `agents.PretrainedFlow`, got {type(flow).__name__}; wrap the module: "
            "`PretrainedFlow(module)`"
        )
    return flow


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
