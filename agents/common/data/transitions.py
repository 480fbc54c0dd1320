"""Storage of transitions: a dataset, followed by a ring of online transitions for every environment.

Each row is a transition; rows are in temporal order, and a full ring wraps around. ``observations`` is longer than the
other tensors: it also contains the last next observation of each trajectory of the dataset, and the next observation
of every online transition (as in SB3's buffers)::

    row           0          dataset_size   _rings_begin                    capacity      _online_tail
                  | dataset ..... | unused | ring 0 | ring 1 | ... | ring n-1 | ends of dataset | next obs of rings |
    observations  ==================================================================================================
    other tensors ============================================================

``next_row`` is the row of a transition's next observation. Inside a trajectory of the dataset, this is the next row; at
the trajectory's end, a row of "ends of dataset"; for row r of a ring, ``_online_tail + r - _rings_begin``. If a dataset
has several parts, a part smaller than the largest leaves rows unused.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike
from stable_baselines3.common.buffers import BaseBuffer
from torch import Tensor

from agents.common.data.arrays import (
    ROW_DTYPES,
    ActionRange,
    Array,
    ArraySource,
    Flags,
    Shape,
    prepare,
    sparse_rewards,
)
from agents.common.data.shards import ShardLoader, Shards
from agents.common.frames import frame_space
from agents.common.observations import ObservationLayout
from agents.common.validation import one_of

KIND_OF_BUFFER = (
    "observation_space", "action_space", "n_envs", "replicas", "sparse", "frame_stack",
)  # fmt: skip
"""Attributes that determine the meaning of rows; a saved buffer is loaded only into a buffer with equal values."""
CONTENT = ("buffer_size", "dataset_size", "pos", "full", "dataset_description")
"""Attributes that change with the content of a buffer."""

STORAGES = ("auto", "device", "host")
GIB = 1 << 30
# bytes, and share of a GPU's memory, of which the larger is kept free for networks, activations and CUDA graphs
KEPT_FREE = 2 * GIB
KEPT_SHARE = 0.1


class TransitionStore(BaseBuffer):
    """Storage of a replay buffer, without sampling; its arguments are documented at `SequenceReplayBuffer`."""

    dataset_description: str = "no dataset"
    layout: ObservationLayout
    """Layout of observations as networks receive them."""
    stored: ObservationLayout
    """Layout of the stored rows: single frames if frames are stacked, else whole observations."""

    # named as in SB3, but tensors on the device of the data
    observations: Tensor
    actions: Tensor
    rewards: Tensor
    masks: Tensor
    dones: Tensor
    """Whether a transition ends its trajectory."""
    next_row: Tensor
    on_device: bool
    """Whether the data are on the training device."""
    _in_episode: Flags
    """Whether each environment's newest transition is in an unfinished episode, (n_envs,), on the host."""
    _last_next_obs: Array
    """Each environment's newest next observation, (n_envs, O), on the host."""

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: Literal[False] = False,
        handle_timeout_termination: bool = True,
        horizon_length: int = 1,
        gamma: float = 0.99,
        action_chunking: bool = True,
        replicas: int = 1,
        sparse: bool = False,
        balanced: bool = False,
        storage: str = "auto",
        frame_stack: int = 1,
        shorten_returns: bool = False,
    ) -> None:
        if n_envs > 1 and n_envs % replicas:
            raise ValueError(
                f"`n_envs` must be a multiple of the number of seeds, got {n_envs} environments for {replicas} seeds; "
                "give each seed the same number of environments"
            )
        rows_of_each = max(buffer_size // n_envs, 1)
        super().__init__(rows_of_each, observation_space, action_space, device, n_envs)
        self.frame_stack = frame_stack
        self.layout = self.stored = ObservationLayout(observation_space)
        if frame_stack > 1:
            self.stored = ObservationLayout(frame_space(observation_space, frame_stack))
        self.handle_timeout_termination = handle_timeout_termination
        self.horizon_length = horizon_length
        self.gamma = gamma
        self.action_chunking = action_chunking
        self.replicas = replicas
        self.balanced = balanced
        self.sparse = sparse
        self.storage = storage
        self.shorten_returns = shorten_returns
        self.min_length = 1 if shorten_returns else horizon_length
        """Smallest number of transitions in a sequence."""
        self.loader: ShardLoader | None = None  # None unless the dataset has several parts
        self._allocate(0, 0)

    def _allocate(self, dataset_rows: int, dataset_extra: int) -> None:
        """Allocate empty storage: dataset rows, one ring per environment, and then the tail of extra observations."""
        self.dataset_size = self._rings_begin = dataset_rows
        online = self.n_envs * self.buffer_size
        self.capacity = dataset_rows + online
        self._online_tail = self.capacity + dataset_extra
        dtypes = {**ROW_DTYPES, "observations": self.stored.dtype}
        shapes = self._shapes(dataset_rows, dataset_extra)
        # free the old tensors first, since old and new ones together may not fit in memory
        for name in ROW_DTYPES:
            setattr(self, name, torch.empty(0))
        needed = sum(math.prod(shapes[name]) * dtype.itemsize for name, dtype in dtypes.items())
        self.on_device = is_on_device(self.storage, self.device, needed)
        device = self.device if self.on_device else torch.device("cpu")
        try:
            for name, dtype in dtypes.items():
                zeros = _zeros(shapes[name], dtype, device)
                setattr(self, name, zeros)
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise MemoryError(
                f"the replay buffer needs {needed / GIB:.1f} GiB on {device}, for {dataset_rows:,} "
                f"transitions of a dataset and {online:,} online ones, got too little free memory; lower `buffer_size`"
            ) from error
        # the rings' next observations are in the tail; the dataset's `next_row` is written with the dataset
        self.next_row[dataset_rows:] = torch.arange(self._online_tail, self._online_tail + online)
        self._in_episode = np.zeros(self.n_envs, bool)
        self._last_next_obs = np.zeros((self.n_envs, self.stored.size))

    def _shapes(self, dataset_rows: int, dataset_extra: int) -> dict[str, Shape]:
        """Return the shapes of all tensors for a number of dataset rows and trajectories."""
        online = self.n_envs * self.buffer_size
        capacity = dataset_rows + online
        shapes: dict[str, Shape] = dict.fromkeys(ROW_DTYPES, (capacity,))
        shapes["observations"] = capacity + dataset_extra + online, self.stored.size
        shapes["actions"] = capacity, self.action_dim
        return shapes

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors with a row for each transition, by name."""
        return {name: getattr(self, name) for name in ROW_DTYPES}

    @property
    def placement(self) -> str:
        """Size and location of the data, in one line."""
        size = sum(tensor.nbytes for tensor in self.tensors().values())
        location = f"on {self.device}" if self.on_device else "in host memory"
        return f"replay buffer: {size / GIB:.2f} GiB {location}"

    # -- dataset ------------------------------------------------------------------------------------------------------

    def load_dataset(
        self, dataset: ArraySource | Shards, action_range: tuple[ArrayLike, ArrayLike] | None = None
    ) -> None:
        """Store a dataset in the rows before the empty rings; set `dataset_description`.

        :param dataset: arrays ``observations``, ``actions``, ``rewards``, ``masks``, ``terminals`` of all transitions
            in order, with ``next_observations`` (OGBench's regular layout) or ``valids`` (its compact layout), see
            `docs/data.md`; or the path of an ``.npz`` file that holds them; or a dataset of several parts, see
            :meth:`rotate_dataset`.
        :param action_range: the lowest and the highest action in the dataset's units, numbers or (A,), which are mapped
            to the bounds of the action space; None: actions are in the units of the action space.
        :raises FileNotFoundError: if there is no such file.
        :raises ValueError: if the dataset cannot be used, or online transitions were already added; the buffer is then
            unchanged.
        """
        if self.size():
            raise ValueError(
                "a dataset must be loaded before online transitions are added; save and load the model first"
            )
        bounds = ActionRange.of(self.action_space, action_range)
        if isinstance(dataset, Shards):
            self._load_shards(dataset, bounds)
            return
        if isinstance(dataset, Mapping):
            dataset = self.stored.with_rows(dataset)
        transitions = prepare(
            dataset, self.stored.row_shape, bounds, self.min_length, self.stored.holds_images
        )
        for rows in (transitions.arrays["observations"], transitions.final_observations):
            observations = self.stored.observations(rows.reshape(len(rows), -1))
            self.stored.refuse_unknown_values(observations, "dataset array `observations`")
        for warning in transitions.warnings:
            warnings.warn(warning, stacklevel=3)
        if self.sparse:
            # other rows are not used
            rewards = np.where(transitions.valid, transitions.arrays["rewards"], 0)
            rewards = sparse_rewards(rewards)
            transitions = replace(transitions, arrays={**transitions.arrays, "rewards": rewards})
        self.loader = None
        sizes = transitions.num_transitions, len(transitions.final_observations)
        self._allocate(*sizes)
        transitions.write(self._dataset_rows(*sizes), bounds, self.capacity)
        self.dataset_description = transitions.description

    def _load_shards(self, shards: Shards, bounds: ActionRange) -> None:
        """Allocate memory for the largest part of a dataset, and load the first part."""
        if self.stored.holds_images:
            raise ValueError(
                "a dataset of several parts must contain vectors, got images; load all parts as one dataset"
            )
        shards = replace(shards, sparse=shards.sparse or self.sparse)
        shards.check(self.stored.row_shape, bounds, self.min_length)
        rows = max(part.transitions for part in shards.parts)
        self._allocate(rows, max(part.trajectories for part in shards.parts))
        self.dataset_description = shards.description
        self.loader = ShardLoader(shards, bounds, self.capacity)
        self.rotate_dataset(0)

    def _dataset_rows(self, count: int, trajectories: int) -> dict[str, Tensor]:
        """Return views of a dataset's rows, and of the final observations of its trajectories."""
        views = {name: tensor[:count] for name, tensor in self.tensors().items()}
        views["final_observations"] = self.observations[self.capacity :][:trajectories]
        return views

    def rotate_dataset(self, updates: int) -> None:
        """Switch a dataset of several parts to the part that is active after ``updates`` gradient steps.

        The new part overwrites the rows of the previous one. Online transitions and the memory for the largest part are
        kept.
        """
        loader = self.loader
        if loader is None or loader.shards.turn(updates) == loader.active:
            return
        part = loader.load(loader.shards.turn(updates))
        self.dataset_size = len(part["rewards"])
        views = self._dataset_rows(self.dataset_size, len(part["final_observations"]))
        for name, view in views.items():
            view.copy_(part[name])

    # -- online transitions -------------------------------------------------------------------------------------------

    def add(
        self,
        obs: Array,
        next_obs: Array,
        action: Array,
        reward: Array,
        done: Array,
        infos: list[dict[str, Any]],
    ) -> None:
        """Append one transition per environment, as SB3's buffers do: arrays (n_envs, ...) and a list of n_envs infos.

        ``next_obs`` contains the final observations of finished episodes, and actions are scaled to [-1, 1]. With
        ``sparse=True``, positive rewards raise an error.
        """
        stacks = self.layout.flatten(obs)
        newest_frames = stacks[:, -self.stored.size :]  # earlier frames are in earlier rows
        next_frames = self.layout.flatten(next_obs)[:, -self.stored.size :]
        rewards = np.asarray(reward, np.float32).reshape(self.n_envs)
        if self.sparse:
            rewards = sparse_rewards(rewards)
        dones = np.asarray(done, dtype=bool).reshape(self.n_envs)
        masks = ~dones
        if self.handle_timeout_termination:
            # values are bootstrapped at truncations
            masks |= np.array([info.get("TimeLimit.truncated", False) for info in infos], bool)
        # a transition that does not continue the previous one, e.g. after a reset by the user, starts a trajectory
        continues = self._in_episode & (self._last_next_obs == newest_frames).all(1)
        self._require_repeated_first_frame(stacks[~continues])
        columns = {
            "observations": newest_frames,
            "actions": np.asarray(action, np.float32).reshape(self.n_envs, self.actions.shape[-1]),
            "rewards": rewards,
            "masks": masks,
            "dones": dones,
        }
        # all checks precede the first write, so that an error changes nothing
        self._close_trajectories(self._in_episode & ~continues)
        ring_rows = np.arange(self.n_envs) * self.buffer_size + self.pos
        for name, values in columns.items():
            self._write(name, self._rings_begin + ring_rows, values)
        self._write("observations", self._online_tail + ring_rows, next_frames)
        self._in_episode = ~dones
        self._last_next_obs = next_frames.copy()  # environments may reuse their arrays
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full = True
            self.pos = 0

    def _require_repeated_first_frame(self, stacks: Array) -> None:
        """Raise an error if the frames of an episode's first observation differ, since only the newest is stored."""
        frames = stacks.reshape(-1, self.frame_stack, self.stored.size)
        if (frames != frames[:, :1]).any():
            raise ValueError(
                f"with `frame_stack` = {self.frame_stack} an episode must start with its first frame "
                f"{self.frame_stack} times, got different frames; wrap the environment in "
                f"`agents.FrameStack(env, {self.frame_stack})`"
            )

    @property
    def _newest(self) -> int:
        """Index of the newest transition in each ring."""
        return (self.pos - 1) % self.buffer_size

    def _close_trajectories(self, environments: Flags) -> None:
        """End the open trajectories of some environments at the newest transitions, without changing their masks."""
        if environments.any():
            ring_rows = np.flatnonzero(environments) * self.buffer_size + self._newest
            self._write("dones", self._rings_begin + ring_rows, np.ones(len(ring_rows), bool))

    def _write(self, name: str, rows: Array, values: Array) -> None:
        """Write values into rows of a tensor, without waiting for the device."""
        target: Tensor = getattr(self, name)
        index = to_device(torch.from_numpy(rows), target.device)
        target[index] = to_device(torch.tensor(values, dtype=target.dtype), target.device)

    def _sync_host_copy(self) -> None:
        """Copy to the host the values that :meth:`add` compares, so that `add` never waits for the device."""
        rings = self._rings()
        ended = rings["dones"][:, self._newest].cpu().numpy()
        self._in_episode = ~ended & (self.size() > 0)
        self._last_next_obs = rings["next_observations"][:, self._newest].cpu().numpy().copy()

    def end_episodes(self) -> None:
        """End unfinished trajectories, without changing their masks, e.g. because environments are reset."""
        self._close_trajectories(self._in_episode)
        self._in_episode = np.zeros(self.n_envs, bool)

    # -- files --------------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """Return the attributes that describe the tensors in a file."""
        return {name: getattr(self, name) for name in (*KIND_OF_BUFFER, *CONTENT)}

    def restore(self, description: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Replace the content with the content of another buffer of the same kind.

        :param description: result of the other buffer's :meth:`describe`.
        :param arrays: the other buffer's tensors.
        :raises ValueError: if the tensors do not match the description; the buffer is then unchanged.
        """
        own_size, self.buffer_size = self.buffer_size, description["buffer_size"]
        rows = description["dataset_size"]
        extra = len(arrays["observations"]) - rows - 2 * self.n_envs * self.buffer_size
        shapes = self._shapes(rows, extra)
        wrong = [name for name, shape in shapes.items() if arrays[name].shape != shape]
        if wrong or extra < 0 or description["pos"] >= self.buffer_size:
            self.buffer_size = own_size
            raise ValueError(f"sizes differ from their description: {', '.join(wrong) or 'pos'}")
        self._allocate(rows, extra)
        for name, tensor in self.tensors().items():
            tensor.copy_(torch.from_numpy(arrays[name]))
        for name in CONTENT:
            setattr(self, name, description[name])
        self.loader = None
        self._sync_host_copy()

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def online_state(self) -> dict[str, Any]:
        """Return the online transitions as CPU tensors, and the position in the rings as plain values."""
        rings = {name: ring[:, : self.size()].cpu().clone() for name, ring in self._rings().items()}
        return {"rings": rings, "pos": self.pos, "full": self.full}

    def restore_online_state(self, state: Mapping[str, Any]) -> None:
        """Restore the result of :meth:`online_state` in a buffer of the same sizes and with the same dataset."""
        for name, ring in self._rings().items():
            rows = state["rings"][name]
            ring[:, : rows.shape[1]] = rows.to(ring.device)
        self.pos = state["pos"]
        self.full = state["full"]
        self._sync_host_copy()

    def _rings(self) -> dict[str, Tensor]:
        """Return views of the rings by name, (n_envs, buffer_size, ...), `next_observations` among them."""
        rings = {"next_observations": self.observations[self._online_tail :]}
        for name, tensor in self.tensors().items():
            rings[name] = tensor[self._rings_begin : self.capacity]
        sizes = self.n_envs, self.buffer_size
        return {name: ring.unflatten(0, sizes) for name, ring in rings.items()}


def is_on_device(storage: str, device: torch.device, needed: int) -> bool:
    """Return whether ``needed`` bytes of data are on the training device; ``storage`` is one of `STORAGES`.

    On a GPU, ``"auto"`` is ``"host"`` if less than 2 GiB, or less than a tenth of the memory, would remain free; on a
    CPU, ``"auto"`` is ``"device"``.
    """
    one_of("storage", storage, STORAGES)
    if storage == "auto" and device.type == "cuda":
        free, total = device_memory(device)
        return needed <= free - max(KEPT_FREE, int(KEPT_SHARE * total))
    return storage != "host"


def _zeros(shape: Shape, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return zeros; on a CPU, zeros that are never written take no memory."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # the operating system allocates NumPy's zeros when they are first written; PyTorch writes its zeros immediately
    content = np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)
    return torch.from_numpy(content).view(dtype).view(shape)


def device_memory(device: torch.device) -> tuple[int, int]:
    """Return a GPU's free and total memory in bytes; memory that PyTorch reserves but does not use counts as free."""
    free, total = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), total


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy values from host memory to a device; a copy to a GPU is asynchronous, through page-locked memory."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
