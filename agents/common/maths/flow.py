r"""From noise to actions: flows, with interpolant, flow-matching loss and Euler sampler, and diffusions.

Every function is pure and takes velocity fields as functions (x, t) -> velocity, so that closed forms can stand in for
networks. Flows go from noise, t = 0, to actions, t = 1; diffusions from noise, t = K, to actions, t = 0:
:math:`x_t = \sqrt{\bar\alpha_t}\,a + \sqrt{1-\bar\alpha_t}\,\epsilon` with
:math:`\bar\alpha_t = \prod_{s\le t}(1-\beta_s)`. Shapes: S replicas, B rows, D flattened chunk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from agents.common.batch import Batch, Velocity

BetaSchedule = Literal["vp", "cosine", "linear"]
Sampler = Literal["ddpm", "ddpm_clipped", "jump"]


# -- flows ------------------------------------------------------------------------------------------------------------


def interpolate(x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    r"""Return the straight path between noise and action, :math:`x_t = (1-t)x_0 + t x_1`.

    Noise and actions are (..., D), times in [0, 1] are (..., 1).
    """
    return torch.lerp(x_0, x_1, t)


def flow_matching_loss(
    velocity: Velocity, x_0: Tensor, x_1: Tensor, t: Tensor, weight: Tensor
) -> Tensor:
    r"""Return the weighted flow-matching loss of every replica.

    :math:`L = \frac1B\sum_b w_b \frac1D \lVert v(x_t, t) - (x_1 - x_0)\rVert^2`

    Source: Lipman et al., Flow Matching for Generative Modeling, arXiv 2210.02747, conditional flow matching with the
    straight path.

    :param velocity: the field.
    :param x_0: noise, (S, B, D).
    :param x_1: data actions, (S, B, D).
    :param t: times in [0, 1], (S, B).
    :param weight: per-row weight, e.g. the validity of the sequence, (S, B).
    :return: (S,).
    """
    t = t.unsqueeze(-1)
    error = velocity(torch.lerp(x_0, x_1, t), t) - (x_1 - x_0)
    # divided by B and not by the sum of weights, so that a valid row counts alike in every batch
    return (weight * error.square().mean(-1)).mean(-1)


def grid_times(t: Tensor, flow_steps: int) -> Tensor:
    """Turn uniform draws into ends of the sampler's steps, 0, 1/K, ..., 1, each as likely as the others.

    :param t: in [0, 1), any shape.
    :param flow_steps: number of steps K.
    :return: same shape.
    """
    # t is less than 1, so the floor is at most K
    return (t * (flow_steps + 1)).floor() / flow_steps


def cloning_loss(flow: Any, batch: Batch, noise: Mapping[str, Tensor]) -> Tensor:
    """Return the flow-matching loss of a flow on the actions of a batch.

    :param flow: network whose ``at(observations)`` is a velocity field.
    :param batch: the batch; sequences that are not valid weigh nothing.
    :param noise: ``bc_x0``, standard normal (S, B, D), and ``bc_t``, times (S, B).
    :return: (S,).
    """
    velocity = flow.at(batch.observations)
    return flow_matching_loss(velocity, noise["bc_x0"], batch.actions, noise["bc_t"], batch.valid)


def integrate_flow(velocity: Velocity, x_0: Tensor, flow_steps: int, clip: bool = False) -> Tensor:
    """Follow a velocity field from noise to actions with Euler steps at the left end points.

    :param velocity: the field.
    :param x_0: noise, (..., D).
    :param flow_steps: number of steps K.
    :param clip: whether every step ends within [-1, 1].
    :return: x at t = 1, (..., D).
    """
    h = 1.0 / flow_steps
    x = x_0
    for step in range(flow_steps):
        # one kernel for product and sum: with small networks a GPU waits for launches
        x = torch.add(x, velocity(x, step * h), alpha=h)
        if clip:
            x = x.clamp(-1, 1)
    return x


# -- diffusions -------------------------------------------------------------------------------------------------------


def noise_schedule(kind: BetaSchedule, steps: int) -> Tensor:
    r"""Return the variances :math:`\beta_t` of the forward steps.

    ``vp`` discretises the variance-preserving SDE with rates from 0.1 to 10, ``cosine`` makes :math:`\bar\alpha` a
    squared cosine, ``linear`` goes from 1e-4 to 2e-2. Source: Song et al., Score-Based Generative Modeling through
    Stochastic Differential Equations, arXiv 2011.13456; Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic
    Models, arXiv 2102.09672; Ho et al., Denoising Diffusion Probabilistic Models, arXiv 2006.11239.

    :param kind: ``vp``, ``cosine`` or ``linear``.
    :param steps: K.
    :return: float32 (K + 1,); entry 0 is 0.
    """
    cpu = torch.device("cpu")  # also where a policy is built without memory, to learn its shapes
    # in float64 until the end, since nearby exponentials and cosines are subtracted
    t = torch.arange(1, steps + 1, dtype=torch.float64, device=cpu)
    if kind == "vp":
        betas = 1 - torch.exp(-0.1 / steps - 0.5 * 9.9 * (2 * t - 1) / steps**2)
    elif kind == "cosine":
        curve = torch.cos(
            (torch.cat([t[:1] - 1, t]) / steps + 0.008) / 1.008 * math.pi / 2
        ).square()
        # clipped as in arXiv 2102.09672: the last step would remove the whole signal
        betas = (1 - curve[1:] / curve[:-1]).clamp(0, 0.999)
    else:
        betas = torch.linspace(1e-4, 2e-2, steps, dtype=torch.float64, device=cpu)
    return torch.cat([torch.zeros(1, dtype=torch.float32, device=cpu), betas.float()])


class Schedule(Protocol):
    """Numbers of a noise schedule, of steps 0..K."""

    betas: list[float]
    alpha_bars: list[float]


def add_noise(actions: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    r"""Return the noisy actions :math:`x_t = \sqrt{\bar\alpha_t}\,a + \sqrt{1-\bar\alpha_t}\,\epsilon`, (S, B, D).

    ``noise`` is standard normal of the actions' shape, and ``alpha_bar`` (S, B, 1).
    """
    return alpha_bar.sqrt() * actions + (1 - alpha_bar).sqrt() * noise


def denoise(
    predict: Velocity,
    x: Tensor,
    noise: Tensor,
    schedule: Schedule,
    sampler: Sampler,
    clip_states: bool,
) -> Tensor:
    r"""Follow the reverse chain from noise to actions.

    With the estimate :math:`\hat a = (x_t - \sqrt{1-\bar\alpha_t}\,\epsilon(x_t, t))/\sqrt{\bar\alpha_t}` of the clean
    action, the next state's mean is that of the posterior :math:`q(x_{t-1} | x_t, \hat a)` for ``ddpm``, the same with
    :math:`\hat a` clipped to [-1, 1] for ``ddpm_clipped``, and :math:`\hat a` itself for ``jump``; noise of variance
    :math:`\beta_t` is added to it, except at the end. Source: Ho et al., Denoising Diffusion Probabilistic Models,
    arXiv 2006.11239, sampling.

    :param predict: noise prediction, (x, t) -> eps.
    :param x: standard normal start, (S, B, D).
    :param noise: standard normal step noise in the order t = K..1, (S, K, B, D); the last is not used.
    :param schedule: of K steps.
    :param sampler: which mean.
    :param clip_states: whether every state is clipped to [-1, 1] after its step.
    :return: (S, B, D).
    """
    steps = noise.shape[1]
    for t in range(steps, 0, -1):
        beta = schedule.betas[t]
        alpha_bar = schedule.alpha_bars[t]
        next_alpha_bar = schedule.alpha_bars[t - 1]
        estimate = (x - math.sqrt(1 - alpha_bar) * predict(x, t)) / math.sqrt(alpha_bar)
        if sampler == "ddpm_clipped":
            estimate = estimate.clamp(-1, 1)
        if sampler == "jump":
            x = estimate
        else:
            # mean of the posterior q(x_{t-1} | x_t, estimate)
            of_estimate = math.sqrt(next_alpha_bar) * beta
            of_state = math.sqrt(1 - beta) * (1 - next_alpha_bar)
            x = (of_estimate * estimate + of_state * x) / (1 - alpha_bar)
        if t > 1:
            x = x + math.sqrt(beta) * noise[:, steps - t]
        if clip_states:
            x = x.clamp(-1, 1)
    return x


def weighted_mean(losses: Tensor, weight: Tensor) -> Tensor:
    """Average losses (S, B, D), weighted by row (S, B), over coordinates and rows; the divisor counts every row."""
    return (weight * losses.mean(-1)).mean(-1)
