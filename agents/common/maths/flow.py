r"""Maps from noise to actions: flows (interpolant, flow-matching loss, Euler sampler) and diffusions.

Every function is pure. Velocity fields are functions (x, t) -> velocity, so closed forms can replace networks.
Flows go from noise, t = 0, to actions, t = 1; diffusions from noise, t = K, to actions, t = 0:
:math:`x_t = \sqrt{\bar\alpha_t}\,a + \sqrt{1-\bar\alpha_t}\,\epsilon` with
:math:`\bar\alpha_t = \prod_{s\le t}(1-\beta_s)`. Shapes: S replicas, B rows, D dimensions of a flattened chunk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from agents.common.batch import Batch, Velocity

Sampler = Literal["ddpm", "ddpm_clipped", "jump"]


# -- flows ------------------------------------------------------------------------------------------------------------


def interpolate(x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    r"""Return the point at time t on the straight path from noise to action, :math:`x_t = (1-t)x_0 + t x_1`.

    Noise and actions are (..., D), times in [0, 1] are (..., 1).

    >>> interpolate(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([[0.25]]))
    tensor([[0.2500, 0.2500]])
    """
    return torch.lerp(x_0, x_1, t)


def flow_matching_loss(
    velocity: Velocity, x_0: Tensor, x_1: Tensor, t: Tensor, weight: Tensor | float
) -> Tensor:
    r"""Return the weighted flow-matching loss of every replica.

    :math:`L = \frac1B\sum_b w_b \frac1D \lVert v(x_t, t) - (x_1 - x_0)\rVert^2`

    Source: Lipman et al., Flow Matching for Generative Modeling, arXiv 2210.02747, conditional flow matching with the
    straight path.

    :param velocity: velocity field v.
    :param x_0: noise, (S, B, D).
    :param x_1: dataset actions, (S, B, D).
    :param t: times in [0, 1], (S, B).
    :param weight: weight of each row, e.g. the validity of the sequence, (S, B), or of all rows.
    :return: (S,).

    >>> zero = torch.zeros_like
    >>> noise, actions, ones = torch.zeros(1, 2, 1), torch.ones(1, 2, 1), torch.ones(1, 2)
    >>> flow_matching_loss(lambda x, t: zero(x), noise, actions, t=ones / 2, weight=ones)
    tensor([1.])
    """
    t = t.unsqueeze(-1)
    error = velocity(torch.lerp(x_0, x_1, t), t) - (x_1 - x_0)
    # divided by B, not by the sum of weights, so that a valid row has the same weight in every batch
    return (weight * error.square().mean(-1)).mean(-1)


def grid_times(t: Tensor, flow_steps: int) -> Tensor:
    """Round uniform times to the sampler's grid 0, 1/K, ..., 1; all grid points are then equally likely.

    :param t: times in [0, 1), any shape.
    :param flow_steps: number of steps K.
    :return: same shape.

    >>> grid_times(torch.tensor([0.1, 0.5, 0.9]), flow_steps=2)
    tensor([0.0000, 0.5000, 1.0000])
    """
    # t is less than 1, so the floor is at most K
    return (t * (flow_steps + 1)).floor() / flow_steps


def cloning_loss(flow: Any, batch: Batch, noise: Mapping[str, Tensor]) -> Tensor:
    """Return the flow-matching loss of a flow on the actions of a batch.

    :param flow: network whose ``at(observations)`` is a velocity field.
    :param batch: the batch; invalid sequences have weight 0.
    :param noise: ``bc_x0``, standard normal (S, B, D), and ``bc_t``, times (S, B).
    :return: (S,).

    >>> def losses(self, batch, targets, noise, nets, info):  # of an algorithm
    ...     return {"bc": cloning_loss(nets.behaviour, batch, noise)}
    """
    velocity = flow.at(batch.observations)
    return flow_matching_loss(velocity, noise["bc_x0"], batch.actions, noise["bc_t"], batch.valid)


def integrate_flow(velocity: Velocity, x_0: Tensor, flow_steps: int, clip: bool = False) -> Tensor:
    """Integrate a velocity field from noise to actions with Euler steps.

    :param velocity: velocity field v.
    :param x_0: noise, (..., D).
    :param flow_steps: number of steps K.
    :param clip: whether to clip x to [-1, 1] after every step.
    :return: x at t = 1, (..., D).

    >>> integrate_flow(lambda x, t: torch.full_like(x, 2.0), torch.zeros(1, 1, 1), flow_steps=10)
    tensor([[[2.0000]]])
    """
    h = 1.0 / flow_steps
    x = x_0
    for step in range(flow_steps):
        # one kernel for product and sum, since small networks spend most of the time on kernel launches
        x = torch.add(x, velocity(x, step * h), alpha=h)
        if clip:
            x = x.clamp(-1, 1)
    return x


# -- diffusions -------------------------------------------------------------------------------------------------------


def noise_schedule(steps: int) -> Tensor:
    r"""Return the variances :math:`\beta_t = 1 - e^{-0.1/K - 4.95\,(2t-1)/K^2}` of the K forward steps.

    They discretise the variance-preserving SDE with rates from 0.1 to 10. Source: Song et al., Score-Based Generative
    Modeling through Stochastic Differential Equations, arXiv 2011.13456.

    :param steps: K.
    :return: float32 (K + 1,); entry 0 is 0.

    >>> noise_schedule(steps=2)
    tensor([0.0000, 0.7240, 0.9768])
    """
    # in float64 until the end, since nearly equal numbers are subtracted
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    betas = 1 - torch.exp(-0.1 / steps - 0.5 * 9.9 * (2 * t - 1) / steps**2)
    return torch.cat([betas.new_zeros(1), betas]).float()


def add_noise(actions: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    r"""Return the noisy actions :math:`x_t = \sqrt{\bar\alpha_t}\,a + \sqrt{1-\bar\alpha_t}\,\epsilon`, (S, B, D).

    ``noise`` is standard normal, (S, B, D), and ``alpha_bar`` (S, B, 1).

    >>> add_noise(torch.ones(1, 1, 1), torch.zeros(1, 1, 1), alpha_bar=torch.full((1, 1, 1), 0.25))
    tensor([[[0.5000]]])
    """
    return alpha_bar.sqrt() * actions + (1 - alpha_bar).sqrt() * noise


def denoise(
    predict: Velocity,
    x: Tensor,
    noise: Tensor,
    schedule: Any,
    sampler: Sampler,
    clip_states: bool,
) -> Tensor:
    r"""Sample actions with the reverse chain.

    Each step estimates the clean action,
    :math:`\hat a = (x_t - \sqrt{1-\bar\alpha_t}\,\epsilon(x_t, t))/\sqrt{\bar\alpha_t}`. ``ddpm`` takes the mean of the
    posterior :math:`q(x_{t-1} | x_t, \hat a)` as the mean of the next state; ``ddpm_clipped`` first clips
    :math:`\hat a` to [-1, 1]; ``jump`` takes :math:`\hat a` itself. Every step but the last adds noise of variance
    :math:`\beta_t`. Source: Ho et al., Denoising Diffusion Probabilistic Models, arXiv 2006.11239, sampling.

    :param predict: noise prediction, (x, t) -> eps.
    :param x: standard normal start, (S, B, D).
    :param noise: standard normal step noise in the order t = K..1, (S, K, B, D); the noise of t = 1 is not used.
    :param schedule: noise schedule of K steps, with its lists ``betas`` and ``alpha_bars`` of the steps 0..K.
    :param sampler: how the mean of the next state is computed.
    :param clip_states: whether the state is clipped to [-1, 1] after every step.
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
            estimate_weight = math.sqrt(next_alpha_bar) * beta
            state_weight = math.sqrt(1 - beta) * (1 - next_alpha_bar)
            x = (estimate_weight * estimate + state_weight * x) / (1 - alpha_bar)
        if t > 1:
            x = x + math.sqrt(beta) * noise[:, steps - t]
        if clip_states:
            x = x.clamp(-1, 1)
    return x
