"""What an update is given, one dataclass of tensors with the leading seed axis, and how its rows are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from agents.common.validation import number


@dataclass(frozen=True)
class Batch:
    """A batch of H-step transitions; S replicas, B rows, O observation size, D flattened chunk.

    :param observations: s, (S, B, O).
    :param actions: the flattened chunk, or the first action without chunking, (S, B, D).
    :param rewards: discounted sum over H steps, up to the first trajectory end, (S, B).
    :param discounts: gamma^H times the mask: what the next value is multiplied with, (S, B). With ``shorten_returns``
        H is the length of each return.
    :param next_observations: last state inside the trajectory, (S, B, O).
    :param valid: 1 where the sequence does not cross a trajectory end, else 0, (S, B). Where it is 0 the chunk holds
        actions of the next trajectory: losses on actions, rewards or discounts are weighted by it. With
        ``shorten_returns`` it is 1 everywhere.
    :param steps_valid: 1 for each action of the chunk that belongs to the first one's trajectory, else 0, (S, B, H), or
        (S, B, 1) without chunking.
    :param updates: number of updates before this one, the same in all entries, (S,).
    :param index: row of the replay buffer that each sequence begins at, (S, B), where a sampler is declared.
    :param weight: what makes up for rows that are drawn more often, in (0, 1], (S, B), where a sampler is declared.
    :param step_observations: state in which each action of the chunk is played, (S, B, C, O), and
    :param step_next_observations: the state after it; C as in ``steps_valid``, where the algorithm asks for them.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    discounts: Tensor
    next_observations: Tensor
    valid: Tensor
    steps_valid: Tensor
    updates: Tensor | None = None
    index: Tensor | None = None
    weight: Tensor | None = None
    step_observations: Tensor | None = None
    step_next_observations: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that are present, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @property
    def action_valid(self) -> Tensor:
        """`steps_valid` for every coordinate, (S, B, D): for losses that count the part of a chunk before an end."""
        return self.steps_valid.repeat_interleave(self.actions.shape[-1] // self.steps_valid.shape[-1], -1)

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with every tensor changed alike.

        :param function: what is done to each.
        :return: the new batch.
        """
        return Batch(**{name: function(tensor) for name, tensor in self.tensors().items()})

    def with_observations(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with all of its observations changed alike, those inside of chunks too.

        :param function: what is done to each, (S, B, O) or (S, B, C, O).
        :return: the new batch.
        """
        seen = {name: tensor for name, tensor in self.tensors().items() if name.endswith("observations")}
        return replace(self, **{name: function(tensor) for name, tensor in seen.items()})


@dataclass(frozen=True)
class Sampler:
    """How the rows of a batch are drawn: with probabilities proportional to their priorities.

    A row that is new, as online transitions are, has the highest priority that there is.

    :param start: priorities of the dataset's rows, by the return of the trajectory that each is in, (rows,) -> (rows,).
    :param exponent: of the priorities that :meth:`Method.priorities` returns after an update.
    :param correction: exponent of ``batch.weight``: 0 for weights of 1; 1 undoes the preference.
    """

    start: Callable[[Tensor], Tensor] = torch.ones_like
    exponent: float = 1.0
    correction: float = 0.0

    def __post_init__(self) -> None:
        for name in ("exponent", "correction"):
            number(name, getattr(self, name), at_least=0)


def prioritised(exponent: float = 0.6, correction: float = 0.4) -> Sampler:
    """Return a sampler by the priorities that the algorithm returns after each update.

    Source: Schaul et al., Prioritized Experience Replay, arXiv 1511.05952, proportional variant.

    :param exponent: alpha in the paper; 0 draws uniformly.
    :param correction: beta in the paper.
    :return: the sampler.
    """
    return Sampler(exponent=exponent, correction=correction)


def return_weighted(temperature: float = 0.1) -> Sampler:
    r"""Return a sampler that prefers trajectories of a high return, :math:`P \propto \exp(\bar R / \tau)`.

    Source: Hong et al., Harnessing Mixed Offline Reinforcement Learning Datasets via Trajectory Weighting, arXiv
    2306.13085.

    :param temperature: tau, > 0; returns are brought to [0, 1] first.
    :return: the sampler.
    """
    number("temperature", temperature, above=0)

    def start(returns: Tensor) -> Tensor:
        low, high = returns.min(), returns.max()
        return ((returns - high) / (high - low).clamp(min=1e-8) / temperature).exp()

    return Sampler(start)


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
