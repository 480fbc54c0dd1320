r"""Flows from noise (t = 0) to actions (t = 1): interpolant, flow-matching loss and Euler sampler.

Every function is pure and takes velocity fields as functions (x, t) -> velocity, so that closed forms can stand in for
networks. Shapes: S replicas, B rows, D action size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from agents.common.batch import Batch, Velocity


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
