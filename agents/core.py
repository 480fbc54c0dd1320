"""Public names for writing algorithms.

Custom algorithms need no other module of `agents` (docs/register.md). Built-in algorithms also import others, mainly
formulas from `agents.common.maths`.
"""

from __future__ import annotations

from agents.common.batch import Batch, Time, Velocity
from agents.common.maths.critic import (
    action_gradient,
    expectile_loss,
    pessimistic_value,
    q_statistics,
    td_loss,
    td_target,
)
from agents.common.maths.edit import tanh_gaussian_sample
from agents.common.maths.flow import cloning_loss, flow_matching_loss, integrate_flow, interpolate
from agents.common.method import (
    Draw,
    Info,
    Losses,
    Method,
    Noise,
    Targets,
    integers,
    normal,
    uniform,
)
from agents.common.nets.networks import Networks
from agents.common.nets.specs import (
    NetworkSpec,
    critic,
    from_module,
    gaussian_mean,
    noise_predictor,
    state_value,
    tanh_actor,
    tanh_gaussian,
    temperature,
    velocity_field,
)
from agents.common.settings import choice, linear_range, log_range, setting
from agents.registry import register

__all__ = [
    "Batch", "Draw", "Info", "Losses", "Method", "NetworkSpec", "Networks", "Noise", "Targets", "Time", "Velocity",
    "action_gradient", "choice", "cloning_loss", "critic", "expectile_loss", "flow_matching_loss", "from_module",
    "gaussian_mean", "integers", "integrate_flow", "interpolate", "linear_range", "log_range", "noise_predictor",
    "normal", "pessimistic_value", "q_statistics", "register", "setting", "state_value", "tanh_actor",
    "tanh_gaussian", "tanh_gaussian_sample", "td_loss", "td_target", "temperature", "uniform", "velocity_field",
]  # fmt: skip
