"""Sampling of H-step sequences from a dataset and from online transitions, and the file of a replay buffer.

Each sequence has a *start*. Starts are numbered first through the dataset, then through the replica's rings, one per
environment. The last H - 1 transitions of the dataset and of each ring are left out, since no whole sequence starts
there. With H = 3, six dataset rows and two full rings::

    row      0 1 2 3 4 5 | 6  7  8  9  10 | 11 12 13 14 15
    age                  | 3  4  0  1  2  | 3  4  0  1  2      counted from the oldest transition, at `pos`
    start    0 1 2 3 . . | .  .  4  5  6  | .  .  7  8  9

Start 6 is the sequence of rows 10, 6, 7. Until ring 0 is full, its rows continue those of the dataset. During this
time, a single replica samples dataset and ring 0 as one segment, unless `balanced` separates them.
"""

from __future__ import annotations

import json
from typing import IO

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from agents.common.batch import Batch
from agents.common.data.arrays import ROW_DTYPES
from agents.common.data.transitions import KIND_OF_BUFFER, TransitionStore, to_device
from agents.common.files import DamagedFileError, raising_damaged_file, safe
from agents.common.files.npz import name_of, read_npz
from agents.common.validation import integer

DESCRIPTION = "description"


class SequenceReplayBuffer(TransitionStore):
    """Replay buffer that samples H-step sequences from a dataset and from online transitions.

    ``sample`` returns a :class:`~agents.common.batch.Batch`.

    :param buffer_size: capacity, in online transitions of all environments together.
    :param observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or Dict of these. Images are stored as uint8.
    :param action_space: Box; actions are stored scaled to [-1, 1].
    :param device: device of batches, and of the stored data unless the data are in host memory.
    :param n_envs: number of environments that add transitions; with S replicas, environment e feeds replica e //
        (n_envs / S).
    :param optimize_memory_usage: not used; SB3 passes it.
    :param handle_timeout_termination: whether to bootstrap at time limits (``TimeLimit.truncated`` in the info).
    :param horizon_length: H.
    :param gamma: discount per environment step.
    :param action_chunking: whether a batch contains all H actions (flattened) or only the first.
    :param replicas: S, the leading axis of sampled batches.
    :param sparse: whether online rewards other than 0 become -1.
    :param balanced: whether half of every batch is drawn from the dataset and half from online transitions. No
        sequence then continues from the dataset into online transitions.
    :param storage: location of the data, ``"device"``, ``"host"`` or ``"auto"``. With ``"auto"``, the data are on the
        device if they fit; this is checked again when a dataset is loaded.
    :param frame_stack: k, the number of frames that `agents.FrameStack` stacks in an image observation. The buffer
        stores single frames; a dataset must contain single frames too.
    :param shorten_returns: whether returns are truncated at the end of their episode, like SB3's n-step returns; every
        transition then starts a return. If False, a sequence that crosses a trajectory's end is not valid. Only for
        single actions.

    >>> model = agents.QAM("MlpPolicy", "Pendulum-v1", horizon_length=5, net_arch=[32])
    >>> model = model.learn(total_timesteps=20)
    >>> model.replay_buffer.sample(batch_size=8).actions.shape  # chunks of five actions
    torch.Size([8, 5])
    """

    # -- frames -------------------------------------------------------------------------------------------------------

    def _gather_observations(
        self, rows: Tensor, env: VecNormalize | None, *last_rows: Tensor
    ) -> Tensor:
        """Return observations with all of their frames, (..., O).

        :param rows: row of each observation's newest frame, (...).
        :param env: normalises the observations, if given.
        :param last_rows: for next observations, the row of the transition that leads to each. Next observations of
            rings, and the final observations of the dataset's trajectories, are in rows without a transition; their
            earlier frames are found from the transition that leads to them.
        :return: observations as networks receive them.
        """
        newest_first = [rows, *last_rows]
        if self.frame_stack == 1:
            observations = self.observations[rows]
        else:
            while len(newest_first) < self.frame_stack:
                newest_first.append(self._previous_row(newest_first[-1]))
            observations = self.observations[torch.stack(newest_first[::-1], -1)].flatten(-2)
        if env is None:
            return observations
        unflattened = self.layout.observations(observations.cpu().numpy())
        normalised = self.layout.flatten(env.normalize_obs(unflattened))
        return torch.from_numpy(normalised).to(rows.device).view(observations.shape)

    def _previous_row(self, rows: Tensor) -> Tensor:
        """Return the row of each transition's predecessor in its trajectory; for a first transition, its own row."""
        ring_rows = rows - self._rings_begin  # negative in the dataset
        is_first_in_ring = (ring_rows >= 0) & (ring_rows % self.buffer_size == 0)
        # in a full ring, the last row precedes the first
        wrap_around = self.buffer_size - 1 if self.full else 0
        step_back = torch.where(is_first_in_ring, wrap_around, -1)
        # clamped: row 0 has no predecessor
        previous_rows = (rows + step_back).clamp(min=0)
        return torch.where(self.dones[previous_rows], rows, previous_rows)

    # -- sampling -----------------------------------------------------------------------------------------------------

    def require_capacity(self) -> None:
        """Raise an error if an environment's ring is too small for a sequence.

        :raises ValueError: if `buffer_size` is too small.
        """
        needed = self.min_length + self.frame_stack - 1
        if self.buffer_size < needed:
            raise ValueError(
                f"`buffer_size` must be at least {needed * self.n_envs} for online training (one sequence of "
                f"{needed} transitions per environment), got {self.buffer_size * self.n_envs}"
            )

    def count_starts(self) -> int:
        """Return the number of starts per replica; 0 if there are too few transitions."""
        dataset_starts, rings, ring_starts = self._segments()
        return dataset_starts + len(rings) * ring_starts

    def _segments(self) -> tuple[int, range, int]:
        """Return the first segment's number of starts, the indices of separate rings, and each ring's number of starts.

        The first segment is the dataset, joined with ring 0 if both are sampled as one.
        """
        dataset_rows = self.dataset_size
        online_rows = self.buffer_size if self.full else self.pos  # per environment
        first_ring = 0
        # if the active part is smaller than the largest, unused rows separate it from the rings
        ring_follows = self.dataset_size == self._rings_begin and not self.full
        if ring_follows and self.replicas == 1 and not self.balanced:
            dataset_rows += online_rows
            first_ring = 1
        lost_rows = self.min_length - 1
        # in a full ring, earlier frames of the oldest rows may have been overwritten
        incomplete_rows = self.frame_stack - 1 if self.full else 0
        ring_starts = max(online_rows - incomplete_rows - lost_rows, 0)
        rings = range(first_ring, self.n_envs // self.replicas)
        return max(dataset_rows - lost_rows, 0), rings, ring_starts

    def draw_rows(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Return the rows of randomly chosen sequences.

        Starts are uniformly distributed. With ``balanced``, the first half of the batch starts in the dataset and the
        second half in online transitions, unless one of the two has no starts.

        :param shape: (S, B).
        :param generator: on the device of the data; None uses PyTorch's global one.
        :return: rows, (S, B, H).
        :raises ValueError: if there are too few transitions for a sequence.
        """
        dataset_starts, rings, ring_starts = self._segments()
        total = dataset_starts + len(rings) * ring_starts
        if total == 0:
            raise ValueError(
                f"the buffer holds {self.dataset_size + self.size()} consecutive transitions, sampling needs at least "
                f"{self.min_length}, one sequence; load a dataset or collect more steps first"
            )
        # float64, since float32 samples have only 2^24 values, too few for large datasets
        device = self.observations.device
        draw = torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
        if not self.balanced or dataset_starts in (0, total):
            return self.sequence_rows((draw * total).long())
        offline, online = draw.tensor_split([shape[-1] // 2], -1)
        offline_starts = (offline * dataset_starts).long()
        online_starts = dataset_starts + (online * (total - dataset_starts)).long()
        return self.sequence_rows(torch.cat([offline_starts, online_starts], -1))

    def sequence_rows(self, starts: Tensor) -> Tensor:
        """Return the rows of the sequences with the given starts.

        :param starts: (S, B).
        :return: (S, B, H).
        """
        dataset_starts, rings, ring_starts = self._segments()
        steps = torch.arange(self.horizon_length, device=starts.device)
        starts = starts.unsqueeze(-1)  # (S, B, 1)
        # clamped rows are not used: ring rows are replaced below, and shortened returns end before them
        dataset_rows = (starts + steps).clamp(max=self.capacity - 1)
        if not rings or not ring_starts:
            return dataset_rows
        replica = torch.arange(self.replicas, device=starts.device).view(-1, 1, 1)
        online_start = starts - dataset_starts  # negative in the dataset
        ring = rings.start + online_start // ring_starts
        environment = replica * (self.n_envs // self.replicas) + ring
        oldest = self.pos + self.frame_stack - 1 if self.full else 0
        position = (oldest + online_start % ring_starts + steps) % self.buffer_size
        ring_rows = self._rings_begin + environment * self.buffer_size + position
        return torch.where(online_start >= 0, ring_rows, dataset_rows)

    def _get_samples(  # type: ignore[override]  # rows of sequences instead of indices
        self, rows: Tensor, env: VecNormalize | None = None
    ) -> Batch:
        """Return the batch of the sequences in rows (S, B, H), on the device of the data.

        Rewards, masks and next observations ignore rows after the end of a trajectory. With ``shorten_returns``, each
        transition with mask 0 and each environment's newest transition count as ends too, as in SB3.
        """
        ends = self.dones[rows]
        if self.shorten_returns:
            ring_rows = rows - self._rings_begin
            is_newest = (ring_rows >= 0) & (ring_rows % self.buffer_size == self._newest)
            ends = ends | is_newest | ~self.masks[rows]
        # a position is valid if no earlier position ends the trajectory: any end up to here is its own
        is_valid = ends.cumsum(-1) == ends
        valid = is_valid.float()
        discounts = self.gamma ** torch.arange(rows.shape[-1], device=rows.device).float()
        step_rewards = self.rewards[rows]
        if env is not None:
            normalised = env.normalize_reward(step_rewards.cpu().numpy())
            step_rewards = torch.as_tensor(normalised, dtype=torch.float32).to(rows.device)
        rewards = torch.cumsum(discounts * step_rewards * valid, -1)[..., -1]
        masks = (self.masks[rows] | ~is_valid).all(-1).float()
        # the last transition of each sequence that is inside its trajectory
        last_rows = torch.gather(rows, -1, is_valid.sum(-1, keepdim=True) - 1).squeeze(-1)
        chunk = slice(self.horizon_length if self.action_chunking else 1)
        length: int | Tensor = self.horizon_length
        is_whole = valid[..., -1]
        # a shortened return ignores rows after its end, so every sequence is valid
        if self.shorten_returns:
            length = valid.sum(-1)
            is_whole = torch.ones_like(is_whole)
        return Batch(
            observations=self._gather_observations(rows[..., 0], env),
            actions=self.actions[rows[..., chunk]].flatten(-2),
            rewards=rewards,
            discounts=self.gamma**length * masks,
            next_observations=self._gather_observations(self.next_row[last_rows], env, last_rows),
            valid=is_whole,
            steps_valid=valid[..., chunk],
        )

    def sample(
        self,
        batch_size: int,
        env: VecNormalize | None = None,
        generator: torch.Generator | None = None,
    ) -> Batch:
        """Sample a batch of sequences.

        :param batch_size: B, per replica.
        :param env: normalises observations and rewards, if given.
        :param generator: on the device of the data; None uses PyTorch's global one.
        :return: the batch on the training device, with leading axes (B,), or (S, B) with several replicas.
        :raises ValueError: if there are too few transitions for a sequence.
        """
        batch = self.draw(batch_size, env, generator)
        return batch.map(lambda value: value[0]) if self.replicas == 1 else batch

    def draw(
        self,
        batch_size: int,
        env: VecNormalize | None = None,
        generator: torch.Generator | None = None,
    ) -> Batch:
        """Sample like :meth:`sample`, with leading axes (S, B) even for one replica."""
        batch = self._get_samples(self.draw_rows((self.replicas, batch_size), generator), env)
        if self.on_device:
            return batch
        return batch.map(lambda value: to_device(value, self.device))


# -- files: tensors as arrays of an ``.npz``, and their description as JSON in `DESCRIPTION` --------------------------


def write_buffer(buffer: SequenceReplayBuffer, file: IO[bytes]) -> None:
    """Write a replay buffer.

    :param buffer: the buffer; its dataset is not one of several parts.
    :param file: open for writing.
    """
    text = json.dumps(safe.to_json(buffer.describe())).encode()
    arrays = {name: tensor.cpu().numpy() for name, tensor in buffer.tensors().items()}
    np.savez(file, allow_pickle=False, **{DESCRIPTION: np.frombuffer(text, np.uint8)}, **arrays)


def read_buffer(file: IO[bytes], buffer: SequenceReplayBuffer) -> None:
    """Read a file written by :func:`write_buffer` into a buffer, which is unchanged if the file is rejected.

    :param file: open for reading.
    :param buffer: a buffer whose `KIND_OF_BUFFER` attributes equal those of the saved buffer.
    :raises ValueError: if the file is damaged, is not a replay buffer, or is from another kind of buffer.
    """
    name = name_of(file)
    arrays = read_npz(file)
    missing = [array for array in (DESCRIPTION, *ROW_DTYPES) if array not in arrays]
    if missing:
        raise DamagedFileError(
            name, f"expected a saved replay buffer, got a file without {', '.join(missing)}"
        )
    with raising_damaged_file(name):
        saved = safe.from_json(json.loads(arrays.pop(DESCRIPTION).tobytes()))
        for key in ("buffer_size", "pos"):
            integer(key, saved[key], at_least=0)
    expected = buffer.describe()
    for key in KIND_OF_BUFFER:
        if saved.get(key) != expected[key]:
            raise ValueError(
                f"{name} is the replay buffer of a model with `{key}` = {saved.get(key)}, "
                f"expected {expected[key]}; create both models with the same value"
            )
    with raising_damaged_file(name):
        buffer.restore(saved, arrays)
