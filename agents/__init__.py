"""Flow-policy algorithms with the Stable-Baselines3 interface.

``import agents; model = agents.QAM("MlpPolicy", env)``. Everything is imported on first use, so that importing the
package costs nothing; type checkers read ``__init__.pyi``. ``agents.Method`` and ``agents.setting`` are what an
algorithm of one's own is made of.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

if Path(__file__).with_name("run.py").exists():  # of openai-agents, whose package has our name
    raise ImportError(
        "expected the package `agents` of flow-rl-zoo alone, got files of openai-agents among its own: each of the two "
        "overwrites the other's. Run `pip uninstall openai-agents flow-rl-zoo`, then install one of them here, and the "
        "other in another virtual environment"
    )

if sys.platform not in ("linux", "darwin"):
    raise ImportError(
        f"flow-rl-zoo runs on Linux and macOS, got {sys.platform}; on Windows use WSL 2"
    )

from agents.registry import BUILT_IN

# PyTorch reads this when it is imported: how long its threads spin while they wait for each other. Beside another
# program they took three times as long for an update as threads that yield, which lose a quarter on an idle machine.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

__version__ = "1.0.0"

_LOCATIONS = {
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
    """Import what is first asked for, and keep it."""
    if name in _LOCATIONS:
        value = getattr(importlib.import_module(_LOCATIONS[name]), name)
    elif name in _ALGORITHMS:
        value = importlib.import_module("agents.models").get(_ALGORITHMS[name]).algorithm
    else:
        raise AttributeError(f"module `agents` has no attribute `{name}`")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
