"""Training batches, whose tensors have a leading replica axis S, and types of velocity fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

Time = Tensor | float
"""Flow times: a number, a tensor that broadcasts to (S, B, 1), or a tensor (K, 1, 1) for K flow states per row."""
Velocity = Callable[[Tensor, Time], Tensor]
"""A velocity field at fixed observations: (x, t) -> velocity, of the shape of x."""


@dataclass(frozen=True)
class Batch:
    """Batch of H-step transitions; S replicas, B rows, observations of size O, flattened chunks of size D.

    >>> def mean_return(batch):  # over valid sequences, per replica
    ...     return (batch.valid * batch.rewards).sum(1) / batch.valid.sum(1)

    :param observations: s, (S, B, O).
    :param actions: the flattened chunk, or the first action without chunking, (S, B, D).
    :param rewards: discounted sum over H steps, or fewer if the trajectory ends earlier, (S, B).
    :param discounts: factor of the next value in the TD target, (S, B): gamma^H, or 0 after a termination. With
        ``shorten_returns``, the exponent is the length of the return.
    :param next_observations: state after the last transition of the sequence that is inside its trajectory, (S, B, O).
    :param valid: 1 if the sequence stays inside its trajectory, else 0, (S, B). Invalid sequences contain actions of
        the next trajectory, so losses on actions, rewards or discounts are weighted by ``valid``. With
        ``shorten_returns`` all entries are 1.
    :param steps_valid: 1 for actions of the chunk that are in the same trajectory as the first action, else 0,
        (S, B, H), or (S, B, 1) without chunking.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    discounts: Tensor
    next_observations: Tensor
    valid: Tensor
    steps_valid: Tensor

    @property
    def action_valid(self) -> Tensor:
        """`steps_valid` repeated for each action coordinate, (S, B, D), to mask actions after the trajectory's end."""
        # without chunking, `actions` and `steps_valid` have one step
        action_size = self.actions.shape[-1] // self.steps_valid.shape[-1]
        return self.steps_valid.repeat_interleave(action_size, -1)

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return a batch with a function applied to every tensor.

        :param function: maps a tensor to its replacement.
        :return: the new batch.
        """
        return Batch(**{name: function(tensor) for name, tensor in vars(self).items()})

    def with_observations(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return a batch with a function applied to observations and next observations.

        :param function: maps a tensor (S, B, O) to its replacement.
        :return: the new batch.
        """
        return replace(
            self,
            observations=function(self.observations),
            next_observations=function(self.next_observations),
        )
