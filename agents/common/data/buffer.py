"""Sampling of H-step sequences from a dataset and from online transitions, and the file of a replay buffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from agents.common.batch import Batch
from agents.common.data.arrays import ActionRange
from agents.common.data.shards import Shard, Shards
from agents.common.data.storage import Placement, sent
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
    """Whether batches hold the states inside of chunks."""

    # -- frames -------------------------------------------------------------------------------------------------------

    def _seen_at(self, rows: Tensor, env: VecNormalize | None, after: Tensor | None = None) -> Tensor:
        """Return observations with all of their frames, (..., O).

        :param rows: where the newest frame of each is stored, (...).
        :param env: normalises them, if given.
        :param after: the transition that leads to each, for next observations: their rows may begin no transition.
        :return: observations as networks see them.
        """
        if self.frame_stack == 1:
            seen = self.observations[rows]
        else:
            newest_first = [rows] if after is None else [rows, after]
            while len(newest_first) < self.frame_stack:
                newest_first.append(self._before(newest_first[-1]))
            seen = self.observations[torch.stack(newest_first[::-1], -1)].flatten(-2)
        if env is None:
            return seen
        normalised = self.layout.flatten(env.normalize_obs(self.layout.observations(seen.cpu().numpy())))
        return torch.from_numpy(normalised).to(seen.device).view(seen.shape)

    def _before(self, rows: Tensor) -> Tensor:
        """Return the row of each transition's predecessor in its trajectory, and of a first transition its own."""
        in_ring = rows - self._rings_begin
        place = in_ring % self.buffer_size
        wrapped = torch.where(place > 0, rows - 1, rows + (self.buffer_size - 1 if self.full else 0))
        before = torch.where(in_ring < 0, rows - 1, wrapped).clamp(min=0)
        return torch.where(self.dones[before], rows, before)

    @property
    def _incomplete(self) -> int:
        """How many of the oldest rows of a full ring may lack frames, which were overwritten."""
        return self.frame_stack - 1 if self.full else 0

    # -- sampling -----------------------------------------------------------------------------------------------------

    def require_room(self) -> None:
        """Refuse online training where no sequence fits into the transitions that are kept of an environment.

        :raises ValueError: if `buffer_size` is too small.
        """
        needed = self.shortest + self.frame_stack - 1
        if self.buffer_size < needed:
            raise ValueError(
                f"`buffer_size` must be at least {needed * self.n_envs} for online training, {needed} transitions for "
                f"each environment, which is one sequence; got {self.buffer_size * self.n_envs}"
            )

    def count_starts(self) -> int:
        """Return from how many rows each replica may start a sequence; 0 while there are too few transitions."""
        return sum(count for _, count in self._segments())

    def _segments(self) -> list[tuple[int, int]]:
        """Return (first environment's ring or -1, number of starts) of each stretch that one replica samples from."""
        h, online, per_replica = self.shortest, self.size(), self.n_envs // self.replicas
        # ring 0 directly continues the dataset, unless a part of it leaves room in between
        follows = self.dataset_size == self._rings_begin and not self.full
        joined = online if follows and self.replicas == 1 and not self.balanced else 0
        segments = [(-1, max(self.dataset_size + joined - h + 1, 0))]
        for ring in range(per_replica):
            if not (ring == 0 and joined):
                segments.append((ring, max(online - self._incomplete - h + 1, 0)))
        return segments

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
        draw = torch.rand(shape, dtype=torch.float64, device=self._place, generator=generator)
        offline = self._segments()[0][1]
        if not self.balanced or offline in (0, total):
            return self._rows_of((draw * total).long())
        first, second = draw.tensor_split([shape[-1] // 2], -1)
        starts = (first * offline).long(), offline + (second * (total - offline)).long()
        return self._rows_of(torch.cat(starts, -1))

    def _require_starts(self) -> int:
        """Return the number of starts; refuse a buffer with none."""
        total = self.count_starts()
        if total == 0:
            raise ValueError(
                f"the buffer holds {self.dataset_size + self.size()} transitions in a row, sampling needs at least "
                f"{self.shortest}, one sequence; load a dataset or collect more steps first"
            )
        return total

    def _rows_of(self, index: Tensor, length: int | None = None) -> Tensor:
        """Turn start positions (S, B), counted through the segments, into rows (S, B, H), or of another length."""
        steps = torch.arange(self.horizon_length if length is None else length, device=index.device)
        replica = torch.arange(self.replicas, device=index.device).view(-1, 1, 1)
        (_, in_front), *rings = self._segments()
        offset = index.unsqueeze(-1)
        rows = (offset + steps).clamp(max=self.capacity - 1)  # what lies behind the last transition is never read
        begin = in_front
        oldest = self.pos + self._incomplete if self.full else 0
        for ring, count in rings:
            if not count:
                continue
            first = self._rings_begin + (replica * (self.n_envs // self.replicas) + ring) * self.buffer_size
            inside = first + (oldest + offset - begin + steps) % self.buffer_size
            rows = torch.where(offset >= begin, inside, rows)
            begin += count
        return rows

    def sequences(self, rows: Tensor, env: VecNormalize | None = None) -> Sequences:
        r"""Follow sequences along their rows until the first trajectory ends.

        :math:`R_k = \sum_{j \le k} \gamma^j r_j\,valid_j`; masks and next observations stop with the trajectory. With
        ``shorten_returns`` it ends, as in SB3, at a mask of 0 and at the newest transition of an environment too.

        :param rows: (N, H), or with more leading axes.
        :param env: normalises the rewards of single steps, if given.
        :return: every position's values.
        """
        horizon = rows.shape[-1]
        next_row = self.next_row[rows]
        ends = self.dones[rows]
        if self.shorten_returns:
            in_ring = rows - self._rings_begin
            is_newest = (in_ring >= 0) & (in_ring % self.buffer_size == (self.pos - 1) % self.buffer_size)
            ends = ends | is_newest | ~self.masks[rows]
        alive = torch.cumprod(1 - ends.float(), -1)
        valid = torch.cat([torch.ones_like(alive[..., :1]), alive[..., :-1]], -1)
        powers = self.gamma ** torch.arange(horizon, device=rows.device, dtype=torch.float32)
        step_rewards = self.rewards[rows]
        if env is not None:
            normalised = env.normalize_reward(step_rewards.cpu().numpy())
            step_rewards = torch.as_tensor(normalised, dtype=torch.float32).to(rows.device)
        rewards = torch.cumsum(powers * step_rewards * valid, -1)
        masks = torch.cummin(torch.where(valid > 0, self.masks[rows].float(), 1.0), -1).values
        last_valid = (valid.cumsum(-1) - 1).long()
        next_rows = torch.gather(next_row, -1, last_valid).long()
        return Sequences(rows, rewards, masks, valid, next_rows, torch.gather(rows, -1, last_valid))

    def batch_of(self, rows: Tensor, env: VecNormalize | None = None) -> Batch:
        """Reduce the sequences along rows (S, B, H) to what an update needs, on the device of the data."""
        found = self.sequences(rows, env)
        steps = {}
        inside = slice(self.horizon_length if self.action_chunking else 1)
        length: int | Tensor = self.horizon_length
        valid = found.valid[..., -1]
        if self.shorten_returns:
            length = found.valid.sum(-1)
            valid = torch.ones_like(valid)
        if self.with_steps:
            steps["step_observations"] = self._seen_at(rows[..., inside], env)
            last_rows = found.last_rows[..., inside]
            steps["step_next_observations"] = self._seen_at(found.next_rows[..., inside], env, last_rows)
        return Batch(
            observations=self._seen_at(rows[..., 0], env),
            actions=self.actions[rows[..., inside]].flatten(-2),
            rewards=found.rewards[..., -1],
            discounts=self.gamma**length * found.masks[..., -1],
            next_observations=self._seen_at(found.next_rows[..., -1], env, found.last_rows[..., -1]),
            valid=valid,
            steps_valid=found.valid[..., inside],
            **steps,
        )

    def sample(  # type: ignore[override]  # a Batch, where SB3 returns a NamedTuple
        self, batch_size: int, env: VecNormalize | None = None, generator: torch.Generator | None = None
    ) -> Batch:
        """Sample a batch of sequences.

        :param batch_size: B, per replica.
        :param env: normalises observations and rewards, if given.
        :param generator: on the device of the data; None uses PyTorch's global one.
        :return: the batch on the training device, leading axes (S, B).
        :raises ValueError: if there are fewer than H transitions.
        """
        batch = self.batch_of(self.draw_rows((self.replicas, batch_size), generator), env)
        return batch if self.placement.on_device else batch.map(lambda value: sent(value, self.device))

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
    kept = np.frombuffer(safe.dumps({"class": type(buffer), "state": state}, _INSTANCES), np.uint8)
    np.savez(file, allow_pickle=False, **{DESCRIPTION: kept}, **arrays)


def read_buffer(file: IO[bytes], name: str) -> SequenceReplayBuffer:
    """Read a replay buffer, without running anything of the file.

    :param file: open for reading.
    :param name: of the file, for messages.
    :return: the buffer, on the CPU or the device that it names.
    :raises ValueError: if it is damaged or something else, such as a pickle, as SB3 writes them.
    """
    arrays = read_npz(file)
    missing = [each for each in (DESCRIPTION, *RING_TENSORS) if each not in arrays]
    if missing:
        raise DamagedFileError(name, f"expected a saved replay buffer, got one without {', '.join(missing)}")
    try:
        found = safe.load(arrays.pop(DESCRIPTION).tobytes(), _INSTANCES)
        cls = found["class"]
        state = dict(found["state"])
        if not issubclass(cls, SequenceReplayBuffer):
            raise TypeError(f"it is of the class {cls}")
    except (TypeError, ValueError, KeyError) as error:
        raise DamagedFileError(name, f"expected a saved replay buffer, got another description: {error}") from error
    buffer: SequenceReplayBuffer = object.__new__(cls)
    buffer.__setstate__(state | {each: torch.from_numpy(array) for each, array in arrays.items()})
    return buffer
