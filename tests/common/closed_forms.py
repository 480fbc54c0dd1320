"""Velocity fields and optimal policies that are known in closed form, independent of the code under test.

A Gaussian behaviour N(m, s^2 I) has, on the straight path from noise, the marginal N(t m, V_t) with
V_t = t^2 s^2 + (1-t)^2, and the velocity v(x, t) = m + c_t (x - t m) with c_t = (t s^2 - (1-t)) / V_t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.common.maths.adjoint import memoryless_end, memoryless_states
from agents.common.maths.flow import integrate_flow
from agents.common.nets.heads import Time, Velocity


@dataclass(frozen=True)
class Gaussian:
    """Behaviour N(m, s^2 I), usable as a velocity field."""

    m: float
    s: float

    def slope(self, t: Any) -> Any:
        """Return c_t."""
        return (t * self.s**2 - (1 - t)) / (t**2 * self.s**2 + (1 - t) ** 2)

    def offset(self, t: float) -> float:
        """Return the velocity at x = 0."""
        return self.m * (1 - t * self.slope(t))

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        t = torch.as_tensor(t, dtype=x.dtype)
        return self.m + self.slope(t) * (x - t * self.m)


@dataclass(frozen=True)
class Quadratic:
    """Q(x) = g x - p x^2 / 2 per coordinate, with inverse temperature tau."""

    g: float
    p: float = 0.0
    tau: float = 1.0

    def __call__(self, actions: Tensor) -> Tensor:
        return (self.g * actions - self.p * actions.square() / 2).sum(-1)


class FixedPoint:
    r"""Where adjoint matching with K steps ends for a Gaussian behaviour and a quadratic Q, without any learning.

    With G_i the product of the lean adjoint's factors from step i on, kappa_i = sigma_i^2 tau G_i / 2 and
    E[x_K | x_i] = A_i x_i + B_i along the rollout: v_f(x, t_i) = v(x, t_i) + kappa_i (g - p (A_i x + B_i)).
    """

    def __init__(self, behaviour: Gaussian, value: Quadratic, flow_steps: int) -> None:
        self.behaviour, self.value, self.flow_steps = behaviour, value, flow_steps
        h, g, p = 1 / flow_steps, value.g, value.p
        times = np.arange(flow_steps) * h
        self.sigma_squared = 2 * (1 - times + h) / (times + h)
        factors = np.array([1 + h * (2 * behaviour.slope(t + h) - 1 / (t + h)) for t in times])
        self.gain = np.cumprod(factors[::-1])[::-1]  # G_i
        self.kappa = self.sigma_squared * value.tau * self.gain / 2
        self.a, self.b = np.empty(flow_steps), np.empty(flow_steps)
        self.a[-1] = 1 + h * behaviour.slope(times[-1])
        self.b[-1] = h * behaviour.offset(times[-1])
        for i in reversed(range(flow_steps - 1)):
            t, later, pull = times[i], self.a[i + 1], 2 * h * self.kappa[i]
            shrink = 1 + pull * p * later
            self.a[i] = later * (1 - h / (t + h) + 2 * h * behaviour.slope(t)) / shrink
            self.b[i] = (later * (2 * h * behaviour.offset(t) + pull * g) + self.b[i + 1]) / shrink

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        i = round(float(t) * self.flow_steps)
        drive = self.value.g - self.value.p * (self.a[i] * x + self.b[i])
        return self.behaviour(x, t) + self.kappa[i] * drive


def noise_basis(flow_steps: int) -> tuple[Tensor, Tensor]:
    """Return starts and step noises (S=1, rows, D=1) whose rows are: no noise, then one unit of each noise in turn.

    An affine simulation of them gives its mean in the first row and, as differences to it, the coefficient of every
    noise: moments are then exact, without sampling.
    """
    unit = torch.eye(flow_steps + 1, dtype=torch.float64)
    rows = torch.cat([torch.zeros(1, flow_steps + 1, dtype=torch.float64), unit])
    return rows[None, :, :1], rows[:, 1:].T[None, :, :, None]


def moments(values: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of an affine simulation of the noise basis, values (1, rows, 1)."""
    column = values[0, :, 0]
    return float(column[0]), float((column[1:] - column[0]).norm())


def sampled_moments(velocity: Velocity, flow_steps: int) -> tuple[float, float]:
    """Return mean and standard deviation of a flow's ODE samples."""
    x_0, _ = noise_basis(flow_steps)
    return moments(integrate_flow(velocity, x_0, flow_steps))


def memoryless_rollout(fine_tuned: Velocity, base: Velocity, x_0: Tensor, noise: Tensor) -> Tensor:
    """Return the states of a flow's memoryless SDE, whose last step follows the base flow, (S, K+1, B, D)."""
    states = memoryless_states(fine_tuned, x_0, noise)
    end = memoryless_end(states, base(states[:, -1], 1 - 1.0 / noise.shape[1]))
    return torch.cat([states, end.unsqueeze(1)], 1)


def simulated_moments(fine_tuned: Velocity, base: Velocity, flow_steps: int) -> tuple[float, float]:
    """Return mean and standard deviation at the end of a flow's memoryless SDE."""
    return moments(memoryless_rollout(fine_tuned, base, *noise_basis(flow_steps))[:, -1])
