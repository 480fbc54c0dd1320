r"""Flows from noise (t = 0) to actions (t = 1): interpolant, flow-matching loss and Euler sampler.

Every function is pure and takes velocity fields as functions (x, t) -> velocity, so that closed forms can stand in for
networks. Shapes: S replicas, B rows, D action size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.nets.fast import joins_chains
from agents.common.nets.heads import Velocity


def interpolate(x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    r"""Return the straight path between noise and action, :math:`x_t = (1-t)x_0 + t x_1`.

    Noise and actions are (..., D), times in [0, 1] are (..., 1).
    """
    return torch.lerp(x_0, x_1, t)


def flow_matching_loss(velocity: Velocity, x_0: Tensor, x_1: Tensor, t: Tensor, weight: Tensor) -> Tensor:
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
    error = velocity(interpolate(x_0, x_1, t), t) - (x_1 - x_0)
    return (weight * error.square().mean(-1)).mean(-1)


def times_of_sampler(t: Tensor, flow_steps: int) -> Tensor:
    """Turn uniform draws into times of the sampler's grid, 0, 1/K, ..., 1, each as likely as the others.

    :param t: in [0, 1), any shape.
    :param flow_steps: number of steps K.
    :return: same shape.
    """
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


def integrate_flow(velocity: Velocity, x_0: Tensor, flow_steps: int) -> Tensor:
    """Follow a velocity field from noise to actions with Euler steps at the left end points, without clipping.

    :param velocity: the field.
    :param x_0: noise, (..., D).
    :param flow_steps: number of steps K.
    :return: x at t = 1, (..., D).
    """
    h = 1.0 / flow_steps
    x = x_0
    for step in range(flow_steps):
        x = torch.add(x, velocity(x, step * h), alpha=h)
    return x


class Chain(NamedTuple):
    """Points that follow one another: each comes from the one before it and from a field's velocity there.

    :param observations: of the rows, (S, B, O).
    :param start: first point, (S, B, D).
    :param steps: number of further points.
    :param advance: function of a point, the velocity there and its index i that returns the next point; t = i/K.
    """

    observations: Tensor
    start: Tensor
    steps: int
    advance: Callable[[Tensor, Tensor, int], Tensor]


def euler_chain(observations: Tensor, x_0: Tensor, flow_steps: int) -> Chain:
    """Return the way from noise to actions that :func:`integrate_flow` takes.

    :param observations: of the rows, (S, B, O).
    :param x_0: noise, (S, B, D).
    :param flow_steps: number of steps K.
    :return: the chain; its last point is at t = 1.
    """
    h = 1.0 / flow_steps
    return Chain(observations, x_0, flow_steps, lambda x, velocity, step: torch.add(x, velocity, alpha=h))


def follow_chains(field: Any, chains: Sequence[Chain], flow_steps: int) -> list[list[Tensor]]:
    """Follow chains of one velocity field; where the device gains by it, all of them in the same passes of the network.

    :param field: the network, whose ``at(observations)`` is a velocity field.
    :param chains: the chains.
    :param flow_steps: number of steps K of a flow.
    :return: the points of every chain from the first to the last, each (S, B, D).
    """
    # a features extractor may gather statistics of each set of rows
    if joins_chains(chains[0].start) and field.features_extractor is None:
        return _follow(field, chains, flow_steps)
    return [points for chain in chains for points in _follow(field, [chain], flow_steps)]


def _follow(field: Any, chains: Sequence[Chain], flow_steps: int) -> list[list[Tensor]]:
    """Follow chains in the same passes; one with fewer steps waits at its end."""
    velocity = field.at(_one_after_the_other([chain.observations for chain in chains]))
    rows, h = [chain.start.shape[1] for chain in chains], 1.0 / flow_steps
    ways = [[chain.start] for chain in chains]
    for step in range(max(chain.steps for chain in chains)):
        velocities = velocity(_one_after_the_other([way[-1] for way in ways]), step * h)
        for chain, way, here in zip(chains, ways, velocities.split(rows, 1), strict=True):
            if step < chain.steps:
                way.append(chain.advance(way[-1], here, step))
    return ways


def _one_after_the_other(rows: Sequence[Tensor]) -> Tensor:
    return rows[0] if len(rows) == 1 else torch.cat(list(rows), 1)


def added(first: Velocity, second: Velocity) -> Velocity:
    """Return the sum of two velocity fields at the same observations."""
    return lambda x, t: first(x, t) + second(x, t)
