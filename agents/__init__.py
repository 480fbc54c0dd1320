"""Flow-policy algorithms with the Stable-Baselines3 interface.

``import agents; model = agents.QAM("MlpPolicy", env)``. Everything is imported on first use, so that importing the
package costs nothing. ``agents.Method`` and ``agents.setting`` are what an algorithm of one's own is made of.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

from agents.registry import BUILT_IN, algorithm_ids, register

if TYPE_CHECKING:
    from agents import (
        bam,
        bc,
        cgql,
        cgql_linex,
        cgql_mse,
        dac,
        driftql,
        dsrl,
        fan,
        fawac,
        fbrac,
        fedit,
        fql,
        gfp,
        idql,
        ifql,
        iql,
        meanflowql,
        qam,
        qam_e,
        qam_f,
        qgf,
        qsm,
        rebrac,
        rlpd,
        rql,
        sqam,
        trqam,
        value_flows,
    )
    from agents.common.frames import FrameStack
    from agents.common.method import Method
    from agents.common.nets.pretrained import PretrainedFlow
    from agents.common.sb3.constructor import Arguments
    from agents.common.sb3.encoders import ImpalaEncoder
    from agents.common.sb3.exporting import export_onnx
    from agents.common.sb3.model import FlowAlgorithm
    from agents.common.sb3.policy import load_policy
    from agents.common.settings import choice, linear_range, log_range, setting
    from agents.models import get, load

    # what a model's constructor takes and which attributes it has: made of the method at run time
    class BAM(FlowAlgorithm, bam.BAM, Arguments): ...

    class BC(FlowAlgorithm, bc.BC, Arguments): ...

    class CGQL(FlowAlgorithm, cgql.CGQL, Arguments): ...

    class CGQLLinex(FlowAlgorithm, cgql_linex.CGQLLinex, Arguments): ...

    class CGQLMSE(FlowAlgorithm, cgql_mse.CGQLMSE, Arguments): ...

    class DAC(FlowAlgorithm, dac.DAC, Arguments): ...

    class DriftQL(FlowAlgorithm, driftql.DriftQL, Arguments): ...

    class DSRL(FlowAlgorithm, dsrl.DSRL, Arguments): ...

    class FAN(FlowAlgorithm, fan.FAN, Arguments): ...

    class FAWAC(FlowAlgorithm, fawac.FAWAC, Arguments): ...

    class FBRAC(FlowAlgorithm, fbrac.FBRAC, Arguments): ...

    class FEDIT(FlowAlgorithm, fedit.FEDIT, Arguments): ...

    class FQL(FlowAlgorithm, fql.FQL, Arguments): ...

    class GFP(FlowAlgorithm, gfp.GFP, Arguments): ...

    class IDQL(FlowAlgorithm, idql.IDQL, Arguments): ...

    class IFQL(FlowAlgorithm, ifql.IFQL, Arguments): ...

    class IQL(FlowAlgorithm, iql.IQL, Arguments): ...

    class MeanFlowQL(FlowAlgorithm, meanflowql.MeanFlowQL, Arguments): ...

    class QAM(FlowAlgorithm, qam.QAM, Arguments): ...

    class QAME(FlowAlgorithm, qam_e.QAME, Arguments): ...

    class QAMF(FlowAlgorithm, qam_f.QAMF, Arguments): ...

    class QGF(FlowAlgorithm, qgf.QGF, Arguments): ...

    class QSM(FlowAlgorithm, qsm.QSM, Arguments): ...

    class ReBRAC(FlowAlgorithm, rebrac.ReBRAC, Arguments): ...

    class RLPD(FlowAlgorithm, rlpd.RLPD, Arguments): ...

    class RQL(FlowAlgorithm, rql.RQL, Arguments): ...

    class SQAM(FlowAlgorithm, sqam.SQAM, Arguments): ...

    class TRQAM(FlowAlgorithm, trqam.TRQAM, Arguments): ...

    class ValueFlows(FlowAlgorithm, value_flows.ValueFlows, Arguments): ...


__version__ = "1.0.0"
__all__ = [
    "FrameStack", "ImpalaEncoder", "Method", "PretrainedFlow", "algorithm_ids", "choice", "export_onnx", "get",
    "linear_range", "load", "load_policy", "log_range", "register", "setting",
    *BUILT_IN.values(),
]  # fmt: skip

_LOCATIONS = {
    "FrameStack": "agents.common.frames",
    "ImpalaEncoder": "agents.common.sb3.encoders",
    "Method": "agents.common.method",
    "PretrainedFlow": "agents.common.nets.pretrained",
    "choice": "agents.common.settings",
    "export_onnx": "agents.common.sb3.exporting",
    "get": "agents.models",
    "linear_range": "agents.common.settings",
    "load": "agents.models",
    "load_policy": "agents.common.sb3.policy",
    "log_range": "agents.common.settings",
    "setting": "agents.common.settings",
}


def __getattr__(name: str) -> Any:
    """Import what is first asked for."""
    if name in _LOCATIONS:
        return getattr(importlib.import_module(_LOCATIONS[name]), name)
    for id, class_name in BUILT_IN.items():
        if class_name == name:
            return importlib.import_module("agents.models").get(id).algorithm
    raise AttributeError(f"module `agents` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted(__all__)
