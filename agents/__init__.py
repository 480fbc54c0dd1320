"""Flow-policy algorithms with the Stable-Baselines3 interface.

``import agents; model = agents.QAM("MlpPolicy", env)``. Each name is imported on first use, which keeps
``import agents`` fast; type checkers read ``__init__.pyi``. Custom algorithms use ``agents.Method`` and
``agents.setting``.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

# openai-agents also installs a package `agents`; unlike ours, it has a file `run.py`
if Path(__file__).with_name("run.py").exists():
    raise ImportError(
        "openai-agents and flow-rl-zoo both install a package `agents` and overwrite each other's files. Run `pip "
        "uninstall openai-agents flow-rl-zoo`, then install them in separate virtual environments"
    )

if sys.platform not in ("linux", "darwin"):
    raise ImportError(
        f"flow-rl-zoo runs on Linux and macOS, got {sys.platform}; on Windows use WSL 2"
    )

from agents.registry import BUILT_IN

# How long waiting OpenMP threads spin before they yield; read when PyTorch is imported. With
# another program running, spinning made updates three times as slow; on an idle machine, yielding
# made them a quarter slower.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

__version__ = "1.0.0"

_LOCATIONS = {
    "FlowAlgorithm": "agents.common.sb3.model",
    "FrameStack": "agents.common.frames",
    "ImpalaEncoder": "agents.common.sb3.encoders",
    "Method": "agents.common.method",
    "PretrainedFlow": "agents.common.nets.pretrained",
    "algorithm_ids": "agents.registry",
    "choice": "agents.common.settings",
    "export_onnx": "agents.common.sb3.exporting",
    "get": "agents.models",
    "linear_range": "agents.common.settings",
    "load": "agents.models",
    "load_policy": "agents.common.sb3.policy",
    "log_range": "agents.common.settings",
    "register": "agents.registry",
    "setting": "agents.common.settings",
}
_ALGORITHMS = {entry.class_name: id for id, entry in BUILT_IN.items()}
__all__ = [*_LOCATIONS, *_ALGORITHMS]


def __getattr__(name: str) -> Any:
    """Import a name on first use, and cache it."""
    if name in _LOCATIONS:
        value = getattr(importlib.import_module(_LOCATIONS[name]), name)
    elif name in _ALGORITHMS:
        value = importlib.import_module("agents.models").get(_ALGORITHMS[name]).algorithm
    else:
        raise AttributeError(f"module `agents` has no attribute `{name}`")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
