"""Sampling of H-step sequences from a dataset and from online transitions, and the file of a replay buffer.

A sequence begins at a *start*. Starts are counted through the segments that a replica samples from, each without the
last H - 1 rows, where no whole sequence begins::

    start     0 ............ n_0 | n_0 ................ n_0 + n_1 | ...
    segment   dataset            | ring 0, from its oldest row on | ring 1 ...

As long as ring 0 has not come round, it directly follows on the dataset: of one replica both are one segment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from agents.common.batch import Batch
from agents.common.data.arrays import ActionRange
from agents.common.data.shards import Shard, Shards
from agents.common.data.storage import Placement, to_device
from agents.common.data.transitions import RING_TENSORS, TransitionStore
from agents.common.files import DamagedFileError, safe
from agents.common.files.npz import read_npz

DESCRIPTION = "description"
_INSTANCES = (ActionRange, Placement, Shard, Shards)


@dataclass(frozen=True)
class Sequences:
    """H-step sequences; N of them, before anything is reduced to the last position.

    :param rows: row of every position, (N, H).
    :param rewards: discounted sums up to each position, (N, H).
    :param masks: 0 from the position on where bootstrapping stops, (N, H).
    :param valid: 1 while the position belongs to the first row's trajectory, (N, H).
    :param next_rows: row that holds each position's next observation, stopping at the trajectory's end, (N, H).
    :param last_rows: row of the transition that leads there, (N, H).
    """

    rows: Tensor
    rewards: Tensor
    masks: Tensor
    valid: Tensor
    next_rows: Tensor
    last_rows: Tensor


class SequenceReplayBuffer(TransitionStore):
    """Replay buffer that samples H-step sequences from a dataset and from online transitions.

    ``sample`` returns a :class:`~agents.common.batch.Batch`. It subclasses SB3's n-step buffer without using its code.

    :param buffer_size: online transitions to keep, over all environments.
    :param observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or Dict of these. Images are kept as uint8.
    :param action_space: Box; actions are stored scaled to [-1, 1].
    :param device: where batches go, and where the data live unless they are in host memory.
    :param n_envs: environments that add transitions; with S replicas, environment e feeds replica e // (n_envs / S).
    :param optimize_memory_usage: accepted for compatibility, without effect.
    :param handle_timeout_termination: whether a time limit keeps the bootstrap (``TimeLimit.truncated`` in the info).
    :param horizon_length: H.
    :param gamma: discount per environment step.
    :param action_chunking: whether a batch holds the H actions (flattened) or the first one only.
    :param replicas: S, the leading axis of sampled batches.
    :param sparse: whether online rewards become -1 where they are not zero.
    :param balanced: whether half of every batch is drawn from the dataset and half from online transitions. The dataset
        is then kept apart: no sequence runs from one into the other.
    :param storage: where the data live: ``"device"``, ``"host"``, or ``"auto"``: on the device if they fit, decided
        whenever a dataset is loaded.
    :param frame_stack: k, the frames of which an observation of images is a stack, as `agents.FrameStack` makes it.
        Single frames are stored; a dataset has them too.
    :param shorten_returns: whether returns end with their episode, as SB3's n-step returns do, and every transition
        begins one; else a sequence that crosses a trajectory's end is not valid. For single actions.
    """

    with_steps = False
    """Whether batches hold the states in which each action of a chunk is played."""

    # -- frames -------------------------------------------------------------------------------------------------------

    def _gather_observations(
        self, rows: Tensor, env: VecNormalize | None, after: Tensor | None = None
    ) -> Tensor:
        """Return observations with all of their frames, (..., O).

        :param rows: where the newest frame of each is stored, (...).
        :param env: normalises them, if given.
        :param after: the transition that leads to each, for next observations: their rows may begin no transition.
        :return: observations as networks see them.
        """
        newest_first = [rows] if after is None else [rows, after]
        if self.frame_stack == 1:
            observations = self.observations[rows]
        else:
            while len(newest_first) < self.frame_stack:
                newest_first.append(self._previous_row(newest_first[-1]))
            observations = self.observations[torch.stack(newest_first[::-1], -1)].flatten(-2)
        if env is None:
            return observations
        by_name = self.layout.observations(observations.cpu().numpy())
        normalised = self.layout.flatten(env.normalize_obs(by_name))
        return torch.from_numpy(normalised).to(observations.device).view(observations.shape)

    def _previous_row(self, rows: Tensor) -> Tensor:
        """Return the row of each transition's predecessor in its trajectory, and of a first transition its own."""
        ring_rows = rows - self._rings_begin  # negative in the dataset
        is_first_in_ring = (ring_rows >= 0) & (ring_rows % self.buffer_size == 0)
        # before the first place of a full ring comes its last place
        step_back = torch.where(is_first_in_ring, self.buffer_size - 1 if self.full else 0, -1)
        previous = (rows + step_back).clamp(min=0)
        return torch.where(self.dones[previous], rows, previous)

    @property
    def _incomplete(self) -> int:
        """The number of oldest rows in a full ring whose earlier frames may be overwritten."""
        return self.frame_stack - 1 if self.full else 0

    # -- sampling -----------------------------------------------------------------------------------------------------

    def require_room(self) -> None:
        """Refuse online training where no sequence fits into the transitions that are kept of an environment.

        :raises ValueError: if `buffer_size` is too small.
        """
        needed = self.min_length + self.frame_stack - 1
        if self.buffer_size < needed:
            raise ValueError(
                f"`buffer_size` must be at least {needed * self.n_envs} for online training, {needed} transitions for "
                f"each environment, which is one sequence; got {self.buffer_size * self.n_envs}"
            )

    def count_starts(self) -> int:
        """Return from how many rows each replica may start a sequence; 0 while there are too few transitions."""
        dataset_starts, rings = self._segments()
        return dataset_starts + sum(rings.values())

    def _segments(self) -> tuple[int, dict[int, int]]:
        """Return how many starts a replica has in the dataset, and in each of its rings, by the ring's number."""
        dataset_rows = self.dataset_size
        rings = list(range(self.n_envs // self.replicas))
        # a part of a dataset of several parts may leave rows unused in between
        ring_follows = self.dataset_size == self._rings_begin and not self.full
        if ring_follows and self.replicas == 1 and not self.balanced:
            dataset_rows += self.size()
            rings.remove(0)
        lost_rows = self.min_length - 1
        ring_starts = max(self.size() - self._incomplete - lost_rows, 0)
        return max(dataset_rows - lost_rows, 0), dict.fromkeys(rings, ring_starts)

    def draw_rows(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Draw start positions, and return the rows of the sequences that begin there.

        Starts are uniform; when ``balanced``, uniform over the dataset in the first half of the batch and over the
        online transitions in the second.

        :param shape: (S, B).
        :param generator: on the device of the data; None uses PyTorch's global one.
        :return: rows, (S, B, H).
        :raises ValueError: if there are fewer than H transitions.
        """
        total = self._require_starts()
        # float64: a float32 draw has 2^24 values, too coarse for large datasets
        draw = torch.rand(shape, dtype=torch.float64, device=self.data_device, generator=generator)
        offline, _ = self._segments()
        if not self.balanced or offline in (0, total):
            return self._sequence_rows((draw * total).long())
        of_dataset, of_rings = draw.tensor_split([shape[-1] // 2], -1)
        offline_starts = (of_dataset * offline).long()
        online_starts = offline + (of_rings * (total - offline)).long()
        return self._sequence_rows(torch.cat([offline_starts, online_starts], -1))

    def _require_starts(self) -> int:
        """Return the number of starts; refuse a buffer with none."""
        total = self.count_starts()
        if total == 0:
            raise ValueError(
                f"the buffer holds {self.dataset_size + self.size()} transitions in a row, sampling needs at least "
                f"{self.min_length}, one sequence; load a dataset or collect more steps first"
            )
        return total

    def _sequence_rows(self, starts: Tensor) -> Tensor:
        """Return the rows of the sequences at some starts (S, B), (S, B, H)."""
        first_start, rings = self._segments()
        steps = torch.arange(self.horizon_length, device=starts.device)
        replica = torch.arange(self.replicas, device=starts.device).view(-1, 1, 1)
        starts = starts.unsqueeze(-1)  # (S, B, 1)
        # starts in rings are replaced below; a return that is shortened reads no row beyond its end
        rows = (starts + steps).clamp(max=self.capacity - 1)
        oldest = self.pos + self._incomplete if self.full else 0
        for ring, ring_starts in rings.items():
            if ring_starts == 0:
                continue
            environment = replica * (self.n_envs // self.replicas) + ring
            age = starts - first_start + steps  # of a transition, from the oldest one on
            ring_rows = (
                self._rings_begin
                + environment * self.buffer_size
                + (oldest + age) % self.buffer_size
            )
            rows = torch.where(starts >= first_start, ring_rows, rows)
            first_start += ring_starts
        return rows

    def sequences(self, rows: Tensor, env: VecNormalize | None = None) -> Sequences:
        r"""Follow sequences along their rows until the first trajectory ends.

        :math:`R_k = \sum_{j \le k} \gamma^j r_j\,valid_j`; masks and next observations stop with the trajectory. With
        ``shorten_returns`` it ends, as in SB3, at a mask of 0 and at the newest transition of an environment too.

        :param rows: (N, H), or with more leading axes.
        :param env: normalises the rewards of single steps, if given.
        :return: every position's values.
        """
        ends = self.dones[rows]
        if self.shorten_returns:
            ring_rows = rows - self._rings_begin
            is_newest = (ring_rows >= 0) & (ring_rows % self.buffer_size == self._newest)
            ends = ends | is_newest | ~self.masks[rows]
        # a position is valid as long as no position before it ends the trajectory
        alive = torch.cumprod(1 - ends.float(), -1)
        valid = torch.cat([torch.ones_like(alive[..., :1]), alive[..., :-1]], -1)
        discounts = self.gamma ** torch.arange(
            rows.shape[-1], device=rows.device, dtype=torch.float32
        )
        step_rewards = self.rewards[rows]
        if env is not None:
            normalised = env.normalize_reward(step_rewards.cpu().numpy())
            step_rewards = torch.as_tensor(normalised, dtype=torch.float32).to(rows.device)
        rewards = torch.cumsum(discounts * step_rewards * valid, -1)
        masks = torch.cummin(torch.where(valid > 0, self.masks[rows].float(), 1.0), -1).values
        last_valid = (valid.cumsum(-1) - 1).long()
        last_rows = torch.gather(rows, -1, last_valid)
        next_rows = torch.gather(self.next_row[rows], -1, last_valid).long()
        return Sequences(rows, rewards, masks, valid, next_rows, last_rows)

    def batch_of(self, rows: Tensor, env: VecNormalize | None = None) -> Batch:
        """Reduce the sequences along rows (S, B, H) to what an update needs, on the device of the data."""
        sequences = self.sequences(rows, env)
        played = slice(self.horizon_length if self.action_chunking else 1)
        length: int | Tensor = self.horizon_length
        valid = sequences.valid[..., -1]
        if self.shorten_returns:
            length = sequences.valid.sum(-1)
            valid = torch.ones_like(valid)
        batch = Batch(
            observations=self._gather_observations(rows[..., 0], env),
            actions=self.actions[rows[..., played]].flatten(-2),
            rewards=sequences.rewards[..., -1],
            discounts=self.gamma**length * sequences.masks[..., -1],
            next_observations=self._gather_observations(
                sequences.next_rows[..., -1], env, after=sequences.last_rows[..., -1]
            ),
            valid=valid,
            steps_valid=sequences.valid[..., played],
        )
        if not self.with_steps:
            return batch
        next_rows, last_rows = sequences.next_rows[..., played], sequences.last_rows[..., played]
        return replace(
            batch,
            step_observations=self._gather_observations(rows[..., played], env),
            step_next_observations=self._gather_observations(next_rows, env, after=last_rows),
        )

    def sample(  # type: ignore[override]  # a Batch, where SB3 returns a NamedTuple
        self,
        batch_size: int,
        env: VecNormalize | None = None,
        generator: torch.Generator | None = None,
    ) -> Batch:
        """Sample a batch of sequences.

        :param batch_size: B, per replica.
        :param env: normalises observations and rewards, if given.
        :param generator: on the device of the data; None uses PyTorch's global one.
        :return: the batch on the training device, leading axes (S, B).
        :raises ValueError: if there are fewer than H transitions.
        """
        batch = self.batch_of(self.draw_rows((self.replicas, batch_size), generator), env)
        return (
            batch
            if self.placement.on_device
            else batch.map(lambda value: to_device(value, self.device))
        )

    def extend(self, *columns: Any) -> None:
        """Add transitions, given as SB3's columns; ``observations`` of a buffer have more rows than it has transitions.

        :param columns: what :meth:`add` takes, each with one entry for each transition.
        """
        for transition in zip(*columns, strict=False):
            self.add(*transition)

    @property
    def timeouts(self) -> Tensor:  # type: ignore[override]
        """Where trajectories end but bootstrapping continues."""
        return self.dones & self.masks


# -- files: tensors as arrays of an ``.npz``, and everything else in a value beside them ------------------------------


def write_buffer(buffer: SequenceReplayBuffer, file: IO[bytes]) -> None:
    """Write a replay buffer.

    :param buffer: the buffer.
    :param file: open for writing.
    :raises TypeError: if a subclass has an attribute that can only be written as code.
    """
    state = buffer.__getstate__()
    arrays = {name: state.pop(name).numpy() for name in buffer.tensors()}
    description = np.frombuffer(
        safe.dumps({"class": type(buffer), "state": state}, _INSTANCES), np.uint8
    )
    np.savez(file, allow_pickle=False, **{DESCRIPTION: description}, **arrays)


def read_buffer(file: IO[bytes], name: str) -> SequenceReplayBuffer:
    """Read a replay buffer, without running anything of the file.

    :param file: open for reading.
    :param name: of the file, for messages.
    :return: the buffer, on the CPU or the device that it names.
    :raises ValueError: if it is damaged or something else, such as a pickle, as SB3 writes them.
    """
    arrays = read_npz(file)
    missing = [array for array in (DESCRIPTION, *RING_TENSORS) if array not in arrays]
    if missing:
        raise DamagedFileError(
            name, f"expected a saved replay buffer, got one without {', '.join(missing)}"
        )
    try:
        description = safe.load(arrays.pop(DESCRIPTION).tobytes(), _INSTANCES)
        buffer_class = description["class"]
        state = dict(description["state"])
        if not issubclass(buffer_class, SequenceReplayBuffer):
            raise TypeError(f"it is of the class {buffer_class}")
    except (TypeError, ValueError, KeyError) as error:
        raise DamagedFileError(
            name, f"expected a saved replay buffer, got another description: {error}"
        ) from error
    buffer: SequenceReplayBuffer = object.__new__(buffer_class)
    tensors = {array: torch.from_numpy(values) for array, values in arrays.items()}
    buffer.__setstate__(state | tensors)
    return buffer
