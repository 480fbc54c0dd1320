"""Flow-policy algorithms with the Stable-Baselines3 interface.

``import agents; model = agents.QAM("MlpPolicy", env)``. Classes are imported on first use, so that importing the package
costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.registry import BUILT_IN, algorithm_ids, get, register

if TYPE_CHECKING:
    from agents.qam import QAM as QAM
    from agents.qam_e import QAME as QAME
    from agents.qam_f import QAMF as QAMF

__version__ = "0.1.0"
__all__ = ["algorithm_ids", "get", "register", *BUILT_IN.values()]


def __getattr__(name: str) -> Any:
    """Import an algorithm class when it is first asked for."""
    for id, class_name in BUILT_IN.items():
        if class_name == name:
            return get(id).algorithm
    raise AttributeError(f"module `agents` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted(__all__)
