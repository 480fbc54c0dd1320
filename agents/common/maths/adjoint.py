r"""Adjoint matching: memoryless schedule, SDE rollout and lean adjoint, as pure functions of velocity fields.

With K flow steps, h = 1/K and t_i = i h. A flow with velocity v and the stochastic process

.. math:: dX = (2 v(X, t) - X/t)\,dt + \sigma_t\,dW, \qquad \sigma_t^2 = 2(1-t)/t

have the same marginals in continuous time. The process is memoryless: its X_1 is independent of X_0. On the grid, t + h
replaces t in denominators, and 1 - t + h replaces 1 - t, so sigma and 2 / sigma stay finite.

Source: Domingo-Enrich et al., Adjoint Matching, arXiv 2409.08861, memoryless noise schedule and lean adjoint; the
discretisation follows the code of Q-learning with Adjoint Matching, arXiv 2601.14234.

In all functions

- ``flow_steps`` is K, and ``step`` an index i in 0..K-1;
- ``like`` is a tensor whose dtype and device the result has;
- ``sigmas`` are the noise scales, broadcastable to (S, K, B, D).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from agents.common.batch import Velocity


def memoryless_variance(step: Any, flow_steps: int) -> Any:
    r"""Return :math:`\sigma_i^2 = 2(1 - t_i + h)/(t_i + h)`, for a step or a tensor of steps.

    >>> memoryless_variance(0, flow_steps=10)
    22.0
    """
    # equal to 2(K - i + 1) / (i + 1), with fewer roundings
    return 2 * (flow_steps + 2) / (step + 1) - 2


def memoryless_sigmas(flow_steps: int, like: Tensor) -> Tensor:
    """Return the noise scales of all steps, (K, 1, 1).

    >>> memoryless_sigmas(2, like=torch.zeros(())).flatten()
    tensor([2.4495, 1.4142])
    """
    # created on the device, which avoids a synchronising host-to-device copy
    steps = torch.arange(flow_steps, dtype=torch.float64, device=like.device)
    return memoryless_variance(steps, flow_steps).sqrt().view(-1, 1, 1).to(like.dtype)


def step_times(flow_steps: int, like: Tensor, end_times: bool = False) -> Tensor:
    """Return the start times of the K equal steps or, with ``end_times``, their end times, (K, 1, 1).

    >>> step_times(2, like=torch.zeros(())).flatten()
    tensor([0.0000, 0.5000])
    """
    first = int(end_times)
    steps = torch.arange(first, first + flow_steps, dtype=like.dtype, device=like.device)
    return steps.view(-1, 1, 1) / flow_steps


def memoryless_step(
    x: Tensor, velocity: Tensor, noise: Tensor, step: int, flow_steps: int
) -> Tensor:
    r"""Return :math:`x_{i+1} = x_i + h(2 v(x_i, t_i) - x_i/(t_i + h)) + \sqrt{h}\,\sigma_i\epsilon_i`.

    ``x`` is x_i, ``velocity`` is v(x_i, t_i) and ``noise`` is standard normal; they and the result are (S, B, D).
    """
    h = 1.0 / flow_steps
    decay = step / (step + 1)  # 1 - h / (t_i + h): 0 in the first step, which forgets x_0
    scale = math.sqrt(h * memoryless_variance(step, flow_steps))
    return (decay * x).add(velocity, alpha=2 * h).add(noise, alpha=scale)


def memoryless_rollout(
    fine_tuned: Velocity, prior: Velocity, x_0: Tensor, noise: Tensor
) -> tuple[Tensor, ...]:
    """Simulate the memoryless SDE of the fine-tuned flow; the last step is a deterministic Euler step of the prior.

    :param fine_tuned: fine-tuned flow v_f.
    :param prior: prior flow v_beta.
    :param x_0: standard normal start, (S, B, D).
    :param noise: standard normal step noise, (S, K, B, D); the last entry is not used.
    :return: states x_0..x_{K-1} and the prior's velocities there, (S, K, B, D) each, and the last state x_K, (S, B, D).
    """
    flow_steps = noise.shape[1]
    h = 1.0 / flow_steps
    path = [x_0]
    for i in range(flow_steps - 1):
        velocity = fine_tuned(path[-1], i * h)
        path.append(memoryless_step(path[-1], velocity, noise[:, i], i, flow_steps))
    states = torch.stack(path, 1)
    velocities = prior(states, step_times(flow_steps, states))
    return states, velocities, torch.add(states[:, -1], velocities[:, -1], alpha=h)


def adjoint_statistics(adjoints: Tensor) -> dict[str, Tensor]:
    """Return the mean, standard deviation and maximum of the absolute values of adjoints (S, ...), each (S,)."""
    magnitude = adjoints.abs().flatten(1)
    return {
        "adjoint_mean": magnitude.mean(1),
        "adjoint_std": magnitude.std(1, correction=0),
        "adjoint_max": magnitude.amax(1),
    }


def lean_adjoint(
    prior_vjp: Callable[[int, Tensor], Tensor], terminal: Tensor, flow_steps: int
) -> Tensor:
    r"""Integrate the lean adjoint backwards along a rollout, with the Jacobian of the prior, not of v_f.

    :math:`a_i = a_{i+1} + h\,\nabla_x[2 v_\beta(x, t_i + h) - x/(t_i + h)]^\top a_{i+1}` at x = x_i.

    :param prior_vjp: function of i and a vector (S, B, D) that returns the vector-Jacobian product of v_beta with
        respect to x, at x_i and t_i + h.
    :param terminal: a_K, (S, B, D).
    :param flow_steps: K.
    :return: a_0..a_{K-1}, (S, K, B, D).

    >>> constant_flow = lambda step, vector: torch.zeros_like(vector)
    >>> lean_adjoint(constant_flow, terminal=torch.ones(1, 1, 1), flow_steps=2).flatten()
    tensor([0.0000, 0.5000])
    """
    h = 1.0 / flow_steps
    adjoints = []
    adjoint = terminal
    for i in reversed(range(flow_steps)):
        decay = i / (i + 1)  # 1 - h / (t_i + h)
        adjoint = (decay * adjoint).add(prior_vjp(i, adjoint), alpha=2 * h)
        adjoints.append(adjoint)
    return torch.stack(adjoints[::-1], dim=1)


def adjoint_matching_loss(
    fine_tuned: Tensor, prior: Tensor, adjoints: Tensor, sigmas: Tensor
) -> Tensor:
    r"""Return the adjoint-matching loss of every replica: the mean over rows of the sum over steps and dimensions.

    :math:`L = \frac1B\sum_b\sum_{i,d}[\frac{2}{\sigma_i}(v_f - v_\beta) + \sigma_i a_i]^2`

    :param fine_tuned: v_f at the rollout's states, (S, K, B, D); the only argument with gradients.
    :param prior: v_beta at the same states, (S, K, B, D).
    :param adjoints: lean adjoints, (S, K, B, D).
    :param sigmas: noise scales.
    :return: (S,).

    >>> v_f, v_beta = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    >>> adjoint_matching_loss(v_f, v_beta, adjoints=v_beta, sigmas=torch.tensor(2.0))
    tensor([1.])
    """
    residual = (2 / sigmas) * (fine_tuned - prior) + sigmas * adjoints
    return residual.square().sum((1, 3)).mean(-1)


def path_kl(fine_tuned: Tensor, prior: Tensor, sigmas: Tensor) -> Tensor:
    r"""Return the KL divergence between the memoryless processes of two flows, estimated from rollouts of the first.

    :math:`\frac1B\sum_b\sum_i \frac{2h}{\sigma_i^2}\lVert v_f - v_\beta\rVert^2`, h = 1/K (Girsanov's theorem), (S,).
    The arguments have the shapes of :func:`adjoint_matching_loss`.

    >>> path_kl(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), sigmas=torch.tensor(2.0))
    tensor([0.5000])
    """
    h = 1.0 / fine_tuned.shape[1]
    return ((2 * h / sigmas.square()) * (fine_tuned - prior).square()).sum((1, 3)).mean(-1)


def bridge_sigmas(times: Tensor) -> Tensor:
    r"""Return :math:`\sigma_k = \sqrt{2(1 - u_k + h)/(u_k + h)}` at the M times u_k of SQAM's noise bridge, h = 1/M.

    >>> bridge_sigmas(torch.tensor([0.0, 0.5]))
    tensor([2.4495, 1.4142])
    """
    h = 1.0 / len(times)
    return (2 * (1 - times + h) / (times + h)).sqrt()
