"""Flow-policy algorithms with the Stable-Baselines3 interface.

``import agents; model = agents.QAM("MlpPolicy", env)``. Classes are imported on first use, so that importing the
package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.registry import BUILT_IN, algorithm_ids, get, register

if TYPE_CHECKING:
    from pathlib import Path

    from agents.bam import BAM as BAM
    from agents.bc import BC as BC
    from agents.cgql import CGQL as CGQL
    from agents.cgql_linex import CGQLLinex as CGQLLinex
    from agents.cgql_mse import CGQLMSE as CGQLMSE
    from agents.common.base import FlowQLearning, GymEnv
    from agents.dac import DAC as DAC
    from agents.dsrl import DSRL as DSRL
    from agents.fawac import FAWAC as FAWAC
    from agents.fbrac import FBRAC as FBRAC
    from agents.fedit import FEDIT as FEDIT
    from agents.fql import FQL as FQL
    from agents.ifql import IFQL as IFQL
    from agents.qam import QAM as QAM
    from agents.qam_e import QAME as QAME
    from agents.qam_f import QAMF as QAMF
    from agents.qsm import QSM as QSM
    from agents.rebrac import ReBRAC as ReBRAC
    from agents.rlpd import RLPD as RLPD
    from agents.sqam import SQAM as SQAM
    from agents.trqam import TRQAM as TRQAM

__version__ = "0.1.0"
__all__ = ["algorithm_ids", "get", "load", "register", *BUILT_IN.values()]


def load(path: str | Path, env: GymEnv | None = None, device: str = "auto", **kwargs: Any) -> FlowQLearning:
    """Load a saved model of any algorithm; the file knows whose it is.

    :param path: what ``save`` wrote, or the folder of a run.
    :param env: environment to go on with.
    :param device: where to; as in SB3, one that is not there stands for the CPU.
    :param kwargs: see ``load`` of the algorithm.
    :return: the model.
    :raises FileNotFoundError: if there is no model.
    :raises ValueError: if the file does not say whose it is, or its algorithm is not there.
    """
    from agents.common.saved import algorithm_of, find_model

    file = find_model(path)
    name = algorithm_of(file)
    if name is None:
        raise ValueError(
            f"{file} does not say which algorithm it is of, as models of before 0.2 do not; "
            "load it with the class, e.g. `agents.QAM.load(path)`"
        )
    try:
        algorithm = get(name).algorithm
    except KeyError as error:
        raise ValueError(f"{file} is a model of `{name}`, which is not there: {error.args[0]}") from error
    return algorithm.load(file, env, device, **kwargs)


def __getattr__(name: str) -> Any:
    """Import an algorithm class when it is first asked for."""
    for id, class_name in BUILT_IN.items():
        if class_name == name:
            return get(id).algorithm
    raise AttributeError(f"module `agents` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted(__all__)
