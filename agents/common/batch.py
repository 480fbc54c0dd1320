"""Batches of updates, whose tensors have the leading axis S of the replicas, and types of velocity fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Time = Tensor | float
"""A number, or times that broadcast to one column: (S, B, 1), or (K, 1, 1) for K states of every row."""
Velocity = Callable[[Tensor, Time], Tensor]
"""A velocity field at fixed observations: (x, t) -> velocity, of the shape of x."""


@dataclass(frozen=True)
class Batch:
    """Batch of H-step transitions; S replicas, B rows, O observation size, D flattened chunk.

    >>> def mean_return(batch):  # of valid sequences, one for each replica
    ...     return (batch.valid * batch.rewards).sum(1) / batch.valid.sum(1)

    :param observations: s, (S, B, O).
    :param actions: the flattened chunk, or the first action without chunking, (S, B, D).
    :param rewards: discounted sum over H steps, up to the first trajectory end, (S, B).
    :param discounts: factor of the next value, gamma^H times the mask, (S, B). With ``shorten_returns`` H is the length
        of each return.
    :param next_observations: last state inside the trajectory, (S, B, O).
    :param valid: 1 if the sequence stays inside its trajectory, else 0, (S, B). If it is 0, the chunk contains actions
        of the next trajectory, so losses on actions, rewards or discounts are weighted by it. With ``shorten_returns``
        it is always 1.
    :param steps_valid: 1 for each action of the chunk that belongs to the first one's trajectory, else 0, (S, B, H), or
        (S, B, 1) without chunking.
    :param updates: number of updates before this one, the same in all entries, (S,).
    :param step_observations: state in which each action of the chunk is executed, (S, B, C, O), C as in
        ``steps_valid``; None unless the algorithm sets :attr:`Method.step_observations`.
    :param step_next_observations: state after each action of the chunk, (S, B, C, O), or None.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    discounts: Tensor
    next_observations: Tensor
    valid: Tensor
    steps_valid: Tensor
    updates: Tensor | None = None
    step_observations: Tensor | None = None
    step_next_observations: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that are present, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @property
    def action_valid(self) -> Tensor:
        """`steps_valid` for every coordinate, (S, B, D): for losses on the part of a chunk before an end."""
        # without chunking both have one step
        action_size = self.actions.shape[-1] // self.steps_valid.shape[-1]
        return self.steps_valid.repeat_interleave(action_size, -1)

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return a batch with a function applied to every tensor.

        :param function: from the old tensor to the new one.
        :return: the new batch.
        """
        return Batch(**{name: function(tensor) for name, tensor in self.tensors().items()})

    def with_observations(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return a batch with a function applied to all observations, also those inside chunks.

        :param function: from the old tensor to the new one, (S, B, O) or (S, B, C, O).
        :return: the new batch.
        """
        changed = self.tensors()
        for name, tensor in changed.items():
            if name.endswith("observations"):  # the next ones and those of steps too
                changed[name] = function(tensor)
        return Batch(**changed)
