"""How likely each row of a replay buffer begins a sequence that is drawn, where an algorithm declares a sampler."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.common.batch import Sampler

UNITS = 2**31
"""Whole numbers that the highest priority is divided into: their sums have the same bits however they are added up."""


def draw_by_priority(priorities: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Draw places with probabilities proportional to priorities.

    :param priorities: of the N places, each >= 0, (S, N); those of 0 are not drawn, unless all are.
    :param draw: uniform in [0, 1), (S, B).
    :return: places and their probabilities, each (S, B).
    """
    most = priorities.amax(1, keepdim=True).clamp(min=torch.finfo(priorities.dtype).tiny)
    units = (priorities.double() / most * UNITS).ceil().long()
    sums = units.cumsum(1)
    wanted = (draw * sums[:, -1:]).long()
    places = torch.searchsorted(sums, wanted, right=True).clamp(max=sums.shape[1] - 1)
    return places, units.gather(1, places) / sums[:, -1:].clamp(min=1)


def importance_weights(probabilities: Tensor, count: int, correction: float) -> Tensor:
    """Return (1 / (N P))^correction over its maximum in the batch of each replica, (S, B).

    :param probabilities: P, (S, B).
    :param count: N, the number of places.
    :param correction: 0 for weights of 1; 1 undoes the preference.
    :return: in (0, 1].
    """
    weights = (count * probabilities.clamp(min=1 / (UNITS * count))) ** -correction
    return (weights / weights.amax(1, keepdim=True)).float()


def renew(priorities: Tensor, index: Tensor, found: Tensor, sampler: Sampler) -> None:
    """Give the rows of a batch new priorities; of two for one row, the higher counts.

    :param priorities: of all rows, (S, rows), changed in place.
    :param index: rows of the batch, (S, B).
    :param found: what the algorithm says, (S, B); what is not finite, as of a replica that diverges, counts as 0.
    :param sampler: whose exponent they get.
    """
    kept = found.float().nan_to_num(0.0, 0.0, 0.0).clamp(min=0.0) ** sampler.exponent
    priorities.scatter_reduce_(1, index, kept, "amax", include_self=False)


def returns_of_rows(rewards: Tensor, ends: Tensor) -> Tensor:
    """Return, for each row of a dataset, the sum of rewards of the whole trajectory that it is in, (rows,)."""
    trajectory = ends.long().cumsum(0) - ends.long()
    sums = torch.zeros(len(rewards), dtype=torch.float64, device=rewards.device)
    return sums.index_add(0, trajectory, rewards.double())[trajectory]
