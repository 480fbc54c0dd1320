"""The one place that knows trajectories and chunks.

Rows are transitions in the order they happened. A dataset lies in front; behind it every environment has its own ring
of online transitions. The next observation of a row is not stored again: ``next_row`` points at the row that holds it,
which is the following transition or, where that one starts elsewhere (at a trajectory's end, above all), an extra
observation kept in a tail behind the rings.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.buffers import BaseBuffer, NStepReplayBuffer
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from agents.common.batch import Batch
from agents.common.data.action_range import ActionRange
from agents.common.data.arrays import ArraySource, prepare, rows_of
from agents.common.data.prefetch import Prefetcher
from agents.common.data.shards import ShardLoader, Shards
from agents.common.data.storage import place

RING_TENSORS = ("_observations", "_actions", "_rewards", "_masks", "_terminals", "_next_row")


@dataclass(frozen=True)
class Sequences:
    """H-step sequences; N of them, before anything is reduced to the last position.

    :param rows: row of every position, (N, H).
    :param rewards: discounted sums up to each position, (N, H).
    :param masks: 0 from the position on where bootstrapping stops, (N, H).
    :param terminals: 1 from the first trajectory end on, (N, H).
    :param valid: 1 while the position belongs to the first row's trajectory, (N, H).
    :param next_rows: row that holds each position's next observation, stopping at the trajectory's end, (N, H).
    """

    rows: Tensor
    rewards: Tensor
    masks: Tensor
    terminals: Tensor
    valid: Tensor
    next_rows: Tensor


class SequenceReplayBuffer(NStepReplayBuffer):
    """Replay buffer that samples H-step sequences from a dataset and from online transitions.

    ``sample`` returns a :class:`~agents.common.batch.Batch`; of SB3's n-step buffer it is a kind, not a user.

    :param buffer_size: online transitions to keep, over all environments.
    :param observation_space: flat Box.
    :param action_space: Box; actions are stored scaled to [-1, 1].
    :param device: where batches go, and where the data live unless they are in host memory.
    :param n_envs: environments that add transitions; with S replicas, environment e feeds replica e // (n_envs / S).
    :param optimize_memory_usage: accepted for compatibility; next observations are never stored twice anyway.
    :param handle_timeout_termination: whether a time limit keeps the bootstrap (``TimeLimit.truncated`` in the info).
    :param horizon_length: H.
    :param gamma: discount per environment step.
    :param action_chunking: whether a batch holds the H actions (flattened) or the first one only.
    :param replicas: S, the leading axis of sampled batches.
    :param sparse: whether online rewards become -1 where they are not zero.
    :param balanced: whether half of every batch is drawn from the dataset and half from online transitions. The dataset
        is then kept apart: no sequence runs from one into the other.
    :param storage: where the data live: ``"device"``, ``"host"`` (the next batch is then prepared while the current one
        is used), or ``"auto"``: on the device if they fit, decided whenever a dataset is loaded.
    """

    dataset_description: str = "no dataset"

    _observations: Tensor
    _actions: Tensor
    _rewards: Tensor
    _masks: Tensor
    _terminals: Tensor
    _next_row: Tensor

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        horizon_length: int = 1,
        gamma: float = 0.99,
        action_chunking: bool = True,
        replicas: int = 1,
        sparse: bool = False,
        balanced: bool = False,
        storage: str = "auto",
    ) -> None:
        per_env = max(buffer_size // n_envs, 1)
        BaseBuffer.__init__(self, per_env, observation_space, action_space, device, n_envs)
        if n_envs > 1 and n_envs % replicas:
            raise ValueError(
                f"`n_envs` must be a multiple of the number of stacked seeds, got {n_envs} environments for "
                f"{replicas} seeds; give each seed the same number of environments"
            )
        self.optimize_memory_usage = optimize_memory_usage
        self.handle_timeout_termination = handle_timeout_termination
        self.horizon_length, self.gamma, self.action_chunking = horizon_length, gamma, action_chunking
        self.n_steps = horizon_length  # SB3's name
        self.replicas, self.sparse, self.balanced = replicas, sparse, balanced
        self.storage = storage
        self._loader: ShardLoader | None = None
        self._prefetcher = Prefetcher(self.device)
        self._allocate(0, 0)

    # -- storage ------------------------------------------------------------------------------------------------------

    def _allocate(self, dataset_rows: int, dataset_extra: int) -> None:
        """Make empty storage: dataset rows, one ring per environment, then the tail of extra observations."""
        self._prefetcher.discard()
        self.dataset_size = self._rings_begin = dataset_rows
        self.capacity = dataset_rows + self.n_envs * self.buffer_size
        tail = dataset_extra + 2 * self.n_envs
        flat = int(np.prod(self.obs_shape))
        kinds = {"_masks": torch.bool, "_terminals": torch.bool, "_next_row": torch.int32}
        shapes: dict[str, tuple[int, ...]] = {name: (self.capacity,) for name in RING_TENSORS}
        shapes |= {"_observations": (self.capacity + tail, flat), "_actions": (self.capacity, self.action_dim)}
        for name in RING_TENSORS:
            setattr(self, name, torch.empty(0))  # what was there makes room first
        needed = sum(math.prod(shapes[name]) * kinds.get(name, torch.float32).itemsize for name in RING_TENSORS)
        self.placement = place(self.storage, self.device, needed)
        for name in RING_TENSORS:
            # zeros are mapped lazily by the operating system: rings that are never filled take no memory on a CPU
            kind = kinds.get(name, torch.float32)
            setattr(self, name, torch.zeros(shapes[name], dtype=kind, device=self.placement.device))
        self._pending = [self.capacity + dataset_extra + e for e in range(self.n_envs)]
        self._free_tail = list(range(self.capacity + tail - 1, self.capacity + dataset_extra + self.n_envs - 1, -1))
        self.pos, self.full = 0, False

    @property
    def on_device(self) -> bool:
        """Whether the data live on the training device, so that sampling involves no other."""
        return self.placement.on_device

    @property
    def _place(self) -> torch.device:
        """The device of the data."""
        return self._observations.device

    def load_dataset(
        self, dataset: ArraySource | Shards, action_range: tuple[ArrayLike, ArrayLike] | None = None
    ) -> None:
        """Put a dataset in front of the (still empty) rings; `dataset_description` says afterwards what it is.

        :param dataset: arrays ``observations``, ``actions``, ``rewards``, ``masks``, ``terminals`` of all transitions
            in order, with ``next_observations`` (OGBench's regular layout) or ``valids`` (its compact layout), see
            `docs/datasets.md`; or the path of an ``.npz`` file that holds them; or a dataset of several parts, see
            :meth:`rotate_dataset`.
        :param action_range: the lowest and the highest action in the dataset's units, numbers or (A,), which become
            those of the action space; None: the actions are in the action space.
        :raises FileNotFoundError: if there is no such file.
        :raises ValueError: if an array is missing, has the wrong shape or holds a value that is not finite, an action
            is out of range, hardly any chunk stays inside a trajectory, or online transitions were already added; the
            buffer is then as it was.
        """
        if self.pos or self.full:
            raise ValueError("a dataset must be loaded before online transitions are added; make a new buffer")
        if isinstance(dataset, Shards):
            dataset = dataset.with_actions_within(self.action_space, action_range)
            dataset.check(self.obs_shape, self.action_dim)
            self._allocate(dataset.most_transitions, dataset.most_trajectories)
            self.dataset_description = dataset.describe()
            self._loader = ShardLoader(dataset, self.capacity, self._place)
            self.rotate_dataset(0)
            return
        box = ActionRange.of(self.action_space, action_range)
        found = prepare(dataset, self.obs_shape, box, self.horizon_length)
        for note in found.warnings:
            warnings.warn(note, stacklevel=3)
        self._loader = None
        count, extra = len(found.ends), len(found.final_observations)
        self._allocate(count, extra)
        self.dataset_description = found.description
        for name in ("observations", "rewards", "masks"):
            self._fill(getattr(self, f"_{name}")[:count], rows_of(found.arrays[name], found.valid))
        self._fill(self._actions[:count], map(box.scaled, rows_of(found.arrays["actions"], found.valid)))
        self._terminals[:count] = torch.from_numpy(found.ends)
        self._observations[self.capacity : self.capacity + extra] = torch.from_numpy(found.final_observations)
        next_row = np.arange(1, count + 1, dtype=np.int32)
        next_row[found.ends] = self.capacity + np.arange(extra, dtype=np.int32)
        self._next_row[:count] = torch.from_numpy(next_row)

    def rotate_dataset(self, updates: int) -> None:
        """Let the part of the dataset whose turn it is take its place; nothing happens to a dataset of one part.

        The rows of the part before are overwritten where they are. Online transitions stay; so does the room for the
        largest part, if this one is smaller.

        :param updates: gradient steps so far.
        """
        loader = self._loader
        if loader is None or loader.shards.turn(updates) == loader.active:
            return
        self._prefetcher.discard()
        rows = loader.load(loader.shards.turn(updates))
        final = rows.pop("final_observations")
        for name, values in rows.items():
            getattr(self, f"_{name}")[: len(values)].copy_(values, non_blocking=True)
        self._observations[self.capacity : self.capacity + len(final)].copy_(final, non_blocking=True)
        self.dataset_size = len(rows["rewards"])
        loader.prepare_next()

    @staticmethod
    def _fill(target: Tensor, pieces: Iterable[NDArray[Any]]) -> None:
        """Copy rows piece by piece, so that no second full copy ever exists."""
        kind = np.bool_ if target.dtype == torch.bool else np.float32
        done = 0
        for piece in pieces:
            rows = torch.from_numpy(piece.reshape(len(piece), *target.shape[1:]).astype(kind, copy=False))
            target[done : done + len(piece)] = rows
            done += len(piece)

    def add(
        self,
        obs: NDArray[Any],
        next_obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Append one transition of every environment.

        :param obs: (n_envs, O).
        :param next_obs: (n_envs, O), the final observation where an episode ended.
        :param action: scaled to [-1, 1], (n_envs, A).
        :param reward: (n_envs,).
        :param done: whether the episode ended for any reason, (n_envs,).
        :param infos: one dict per environment.
        :raises ValueError: with ``sparse``, if a reward is positive.
        """
        rewards = np.asarray(reward, dtype=np.float32).reshape(self.n_envs)
        dones = np.asarray(done, dtype=bool).reshape(self.n_envs)
        before, after, actions = (
            torch.from_numpy(np.asarray(array, dtype=np.float32).reshape(self.n_envs, -1))
            for array in (obs, next_obs, action)
        )
        if self.sparse:
            if (rewards > 0).any():
                raise ValueError(f"`sparse` expects rewards <= 0, got {rewards.max()}; switch `sparse` off")
            rewards = -(rewards != 0).astype(np.float32)
        self._prefetcher.discard()
        for e in range(self.n_envs):
            row = self._rings_begin + e * self.buffer_size + self.pos
            self._forget(row)
            self._link_previous(e, row, before[e])
            truncated = self.handle_timeout_termination and infos[e].get("TimeLimit.truncated", False)
            self._observations[row] = before[e]
            self._actions[row] = actions[e]
            self._rewards[row] = float(rewards[e])
            self._masks[row] = not (dones[e] and not truncated)
            self._terminals[row] = bool(dones[e])
            holder = self._take_tail() if dones[e] else self._pending[e]
            self._observations[holder] = after[e]
            self._next_row[row] = holder
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full, self.pos = True, 0

    def extend(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: Any) -> None:
        """Append transitions, one after the other; the arrays of another buffer will do.

        :param obs: (rows, n_envs, O); rows behind the last action are no transitions.
        :param next_obs: (rows, n_envs, O).
        :param action: scaled to [-1, 1], (rows, n_envs, A).
        :param reward: (rows, n_envs).
        :param done: whether the episode ended for any reason, (rows, n_envs).
        :param infos: a list of dicts per row.
        """
        for transition in zip(obs[: len(action)], next_obs[: len(action)], action, reward, done, infos, strict=True):
            self.add(*transition)

    def _forget(self, row: int) -> None:
        """Give back the extra observation of a transition that is about to be overwritten."""
        if self.full and int(self._next_row[row]) >= self._pending[0] + self.n_envs:
            self._free_tail.append(int(self._next_row[row]))

    def _link_previous(self, env: int, row: int, observation: Tensor) -> None:
        """Let the environment's last transition, if its episode goes on, share the new row's observation."""
        previous = self._running(env)
        if previous is None:
            return
        if torch.equal(self._observations[self._pending[env]].cpu(), observation):
            self._next_row[previous] = row
        else:  # transitions of another trajectory are added
            self._end_episode(env, previous)

    def _running(self, env: int) -> int | None:
        """Return the row of the environment's last transition if its episode goes on."""
        if self.pos == 0 and not self.full:
            return None
        row = self._rings_begin + env * self.buffer_size + (self.pos - 1) % self.buffer_size
        return row if int(self._next_row[row]) == self._pending[env] else None

    def _end_episode(self, env: int, last: int) -> None:
        """Let a trajectory end with its last transition, whose next observation gets a row of its own."""
        self._next_row[last] = holder = self._take_tail()
        self._observations[holder] = self._observations[self._pending[env]]
        self._terminals[last] = True

    def _take_tail(self) -> int:
        """Return a free row behind the rings, doubling their number when there is none."""
        if not self._free_tail:
            rows = len(self._observations)
            extra = max(rows - self.capacity, 16)
            self._observations = torch.cat(
                [self._observations, self._observations.new_zeros(extra, self._observations.shape[1])]
            )
            self._free_tail = list(range(rows + extra - 1, rows - 1, -1))
        return self._free_tail.pop()

    def end_episodes(self) -> None:
        """Let the running trajectories end here, without a change to their masks: the environments start anew."""
        self._prefetcher.discard()
        for env in range(self.n_envs):
            last = self._running(env)
            if last is not None:
                self._end_episode(env, last)

    def to(self, device: torch.device | str) -> None:
        """Let another device train; one that is not there stands for the CPU, as in SB3.

        :param device: the device.
        """
        self._prefetcher.discard()
        self.device = get_device(device)
        if self._prefetcher.device == self.device and self._place.type == self.placement.device.type:
            return
        tensors = {name: getattr(self, name) for name in RING_TENSORS}
        self.placement = place(self.storage, self.device, sum(tensor.nbytes for tensor in tensors.values()))
        for name, tensor in tensors.items():
            setattr(self, name, tensor.to(self.placement.device))
        self._prefetcher = Prefetcher(self.device)
        if self._loader is not None:
            active, self._loader = self._loader.active, ShardLoader(self._loader.shards, self.capacity, self._place)
            self._loader.active = active

    def __getstate__(self) -> dict[str, Any]:
        """Pickle tensors from the CPU, so that a buffer can be read on a machine without this device."""
        loader = None if self._loader is None else (self._loader.shards, self._loader.active)
        threads = {"_prefetcher": None, "_loader": loader}
        return {**vars(self), **{name: getattr(self, name).cpu() for name in RING_TENSORS}, **threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._prefetcher = Prefetcher(self.device)
        if self._loader is not None:
            shards, active = state["_loader"]
            self._loader = ShardLoader(shards, self.capacity, torch.device("cpu"))
            self._loader.active = active
        self.to(self.device)

    # -- what a checkpoint holds --------------------------------------------------------------------------------------

    def online_state(self) -> dict[str, Any]:
        """Return the online transitions; with the same dataset loaded, :meth:`restore_online_state` takes them back.

        :return: tensors on the CPU and plain values.
        """
        rings = {name: self._rings(name)[:, : self.size()].cpu().clone() for name in RING_TENSORS}
        tail = self._observations[self._pending[0] :].cpu().clone()
        return {"rings": rings, "tail": tail, "free_tail": list(self._free_tail), "pos": self.pos, "full": self.full}

    def restore_online_state(self, state: Mapping[str, Any]) -> None:
        """Take online transitions back.

        :param state: what :meth:`online_state` returned in a buffer of the same sizes and with the same dataset.
        """
        self._prefetcher.discard()
        for name, rows in state["rings"].items():
            self._rings(name)[:, : rows.shape[1]] = rows.to(self._place)
        begin, tail = self._pending[0], state["tail"].to(self._place)
        missing = begin + len(tail) - len(self._observations)
        if missing > 0:
            self._observations = torch.cat([self._observations, tail.new_zeros(missing, tail.shape[1])])
        self._observations[begin : begin + len(tail)] = tail
        self._free_tail, self.pos, self.full = list(state["free_tail"]), state["pos"], state["full"]

    def _rings(self, name: str) -> Tensor:
        """Return a view of the rings, (n_envs, buffer_size, ...)."""
        rows: Tensor = getattr(self, name)[self._rings_begin : self.capacity]
        return rows.unflatten(0, (self.n_envs, self.buffer_size))

    # -- sampling -----------------------------------------------------------------------------------------------------

    def count_starts(self) -> int:
        """Return from how many rows each replica may start a sequence.

        :return: number of start positions; 0 while there are fewer than H transitions.
        """
        return sum(count for _, count in self._segments())

    def _segments(self) -> list[tuple[int, int]]:
        """Return (first environment's ring or -1, number of starts) of each stretch that one replica samples from."""
        h, online, per_replica = self.horizon_length, self.size(), self.n_envs // self.replicas
        # ring 0 directly continues the dataset, unless a part of it leaves room in between
        follows = self.dataset_size == self._rings_begin and not self.full
        joined = online if follows and self.replicas == 1 and not self.balanced else 0
        segments = [(-1, max(self.dataset_size + joined - h + 1, 0))]
        for ring in range(per_replica):
            if not (ring == 0 and joined):
                segments.append((ring, max(online - h + 1, 0)))
        return segments

    def draw_rows(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Draw start positions, and return the rows of the sequences that begin there.

        They are uniform; when ``balanced``, uniform over the dataset in the first half of the batch and over the online
        transitions in the second.

        :param shape: (S, B).
        :param generator: on the device of the data; None uses PyTorch's global one.
        :return: rows, (S, B, H).
        :raises ValueError: if there are fewer than H transitions.
        """
        total = self.count_starts()
        if total == 0:
            raise ValueError(
                f"the buffer holds {self.dataset_size + self.size()} transitions in a row, sampling needs at least "
                f"`horizon_length` = {self.horizon_length}; load a dataset or collect more steps first"
            )
        # float64: a float32 draw has 2^24 values, too coarse for large datasets
        draw = torch.rand(shape, dtype=torch.float64, device=self._place, generator=generator)
        offline = self._segments()[0][1]
        if not self.balanced or offline in (0, total):
            return self._rows_of((draw * total).long())
        first, second = draw.tensor_split([shape[-1] // 2], -1)
        return self._rows_of(torch.cat([(first * offline).long(), offline + (second * (total - offline)).long()], -1))

    def _rows_of(self, index: Tensor) -> Tensor:
        """Turn start positions (S, B), counted through the segments, into rows (S, B, H)."""
        steps = torch.arange(self.horizon_length, device=index.device)
        replica = torch.arange(self.replicas, device=index.device).view(-1, 1, 1)
        (_, in_front), *rings = self._segments()
        offset = index.unsqueeze(-1)
        rows = offset + steps
        begin = in_front
        oldest = self.pos if self.full else 0
        for ring, count in rings:
            first = self._rings_begin + (replica * (self.n_envs // self.replicas) + ring) * self.buffer_size
            inside = first + (oldest + offset - begin + steps) % self.buffer_size
            rows = torch.where(offset >= begin, inside, rows)
            begin += count
        return rows

    def sequences(self, rows: Tensor, env: VecNormalize | None = None) -> Sequences:
        r"""Follow sequences along their rows until the first trajectory ends.

        :math:`R_k = \sum_{j \le k} \gamma^j r_j\,valid_j`; masks and next observations stop with the trajectory.

        :param rows: (N, H), or with more leading axes.
        :param env: normalises the rewards of single steps, if given.
        :return: every position's values.
        """
        horizon = rows.shape[-1]
        ends = self._terminals[rows].float()
        alive = torch.cumprod(1 - ends, -1)
        valid = torch.cat([torch.ones_like(alive[..., :1]), alive[..., :-1]], -1)
        powers = self.gamma ** torch.arange(horizon, device=rows.device, dtype=torch.float32)
        step_rewards = self._rewards[rows]
        if env is not None:
            step_rewards = _as_tensor(env.normalize_reward(step_rewards.cpu().numpy()), step_rewards)
        rewards = torch.cumsum(powers * step_rewards * valid, -1)
        masks = torch.cummin(torch.where(valid > 0, self._masks[rows].float(), 1.0), -1).values
        last_valid = (valid.cumsum(-1) - 1).long()
        next_rows = self._next_row[torch.gather(rows, -1, last_valid)].long()
        return Sequences(rows, rewards, masks, 1 - alive, valid, next_rows)

    def batch_of(self, rows: Tensor, env: VecNormalize | None = None) -> Batch:
        """Reduce sequences to what an update needs.

        :param rows: (S, B, H).
        :param env: normalises observations and rewards, if given.
        :return: the batch, where the data live.
        """
        found = self.sequences(rows, env)
        taken = rows if self.action_chunking else rows[..., :1]
        return Batch(
            observations=self._normalised(self._observations[rows[..., 0]], env),
            actions=self._actions[taken].flatten(-2),
            rewards=found.rewards[..., -1],
            discounts=self.gamma**self.horizon_length * found.masks[..., -1],
            next_observations=self._normalised(self._observations[found.next_rows[..., -1]], env),
            valid=found.valid[..., -1],
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
        if not self.on_device and env is None:
            return self._prefetcher.batch(self._batch_in_host_memory, batch_size, generator)
        batch = self.batch_of(self.draw_rows((self.replicas, batch_size), generator), env)
        if self.on_device:
            return batch
        return Batch(**{name: value.to(self.device) for name, value in vars(batch).items()})

    def _batch_in_host_memory(self, batch_size: int, generator: torch.Generator) -> Batch:
        return self.batch_of(self.draw_rows((self.replicas, batch_size), generator))

    @staticmethod
    def _normalised(observations: Tensor, env: VecNormalize | None) -> Tensor:
        if env is None:
            return observations
        return _as_tensor(np.asarray(env.normalize_obs(observations.cpu().numpy())), observations)

    # -- SB3's names --------------------------------------------------------------------------------------------------

    @property
    def observations(self) -> Tensor:  # type: ignore[override]  # on the device, where SB3 has NumPy
        """Observations of all rows: dataset, rings, and behind them extra ones that begin no transition."""
        return self._observations

    @property
    def actions(self) -> Tensor:  # type: ignore[override]  # on the device, where SB3 has NumPy
        """Scaled actions of the dataset and the rings."""
        return self._actions

    @property
    def rewards(self) -> Tensor:  # type: ignore[override]  # on the device, where SB3 has NumPy
        """Rewards of the dataset and the rings."""
        return self._rewards

    @property
    def dones(self) -> Tensor:  # type: ignore[override]  # on the device, where SB3 has NumPy
        """Where trajectories end, in the dataset and the rings."""
        return self._terminals

    @property
    def timeouts(self) -> Tensor:  # type: ignore[override]  # on the device, where SB3 has NumPy
        """Where trajectories end although bootstrapping goes on."""
        return self._terminals & self._masks


def _as_tensor(array: NDArray[Any], like: Tensor) -> Tensor:
    return torch.as_tensor(array, dtype=torch.float32).to(like.device)
