"""Datasets too large for memory, divided into parts: one is in the buffer while the next is read from its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agents.common.data.arrays import (
    ROW_DTYPES,
    ActionRange,
    Shape,
    Transitions,
    prepare,
    sparse_rewards,
)
from agents.common.validation import count


@dataclass(frozen=True)
class Shard:
    """One part of a dataset: whole trajectories, in one ``.npy`` file per array.

    :param files: file of each array, with rows in temporal order: ``observations``, ``actions``, ``rewards``, ``masks``
        and ``terminals``, at least n rows each, and ``final_observations``, the last next observation of each
        trajectory, at least k rows.
    :param transitions: n, the number of rows to use; the last row ends a trajectory.
    :param trajectories: k, the number of trajectories in these rows.
    """

    files: Mapping[str, Path]
    transitions: int
    trajectories: int


@dataclass(frozen=True)
class Shards:
    """A dataset of several parts that are active in turn; the active part is used like a whole dataset.

    :param parts: the parts, in the order in which they become active.
    :param replace_interval: gradient steps for which a part is active, >= 1; parts are used cyclically.
    :param sparse: whether rewards other than 0 become -1.
    """

    parts: Sequence[Shard]
    replace_interval: int = 1000
    sparse: bool = False

    @property
    def num_transitions(self) -> int:
        """Number of transitions in all parts."""
        return sum(part.transitions for part in self.parts)

    @property
    def description(self) -> str:
        """Size of the dataset, in one line."""
        trajectories = sum(part.trajectories for part in self.parts)
        return (
            f"dataset: {count(self.num_transitions, 'transition')} in {count(trajectories, 'trajectory')}, in "
            f"{len(self.parts):,} parts, each active for {self.replace_interval:,} updates"
        )

    def turn(self, updates: int) -> int:
        """Return the index of the part that is active after ``updates`` gradient steps."""
        return updates // self.replace_interval % len(self.parts)

    def part(self, index: int) -> Transitions:
        """Return one part, whose arrays are memory-mapped files."""
        part = self.parts[index]
        # mapped, so that only the used rows of a large file are read
        arrays = {name: np.load(file, mmap_mode="r") for name, file in part.files.items()}
        final = arrays.pop("final_observations")[: part.trajectories]
        arrays = {name: array[: part.transitions] for name, array in arrays.items()}
        ends = arrays["terminals"] > 0
        if len(final) != ends.sum() or len(ends) != part.transitions or not ends[-1]:
            raise ValueError(
                f"{part.files['terminals']} must end {count(part.trajectories, 'trajectory')} within "
                f"{count(part.transitions, 'row')}, one of them in the last row, got "
                f"{count(ends.sum(), 'end')}; convert the dataset again"
            )
        if self.sparse:
            arrays["rewards"] = sparse_rewards(arrays["rewards"])
        return Transitions(arrays, np.ones_like(ends), ends, final)

    def check(self, obs_shape: Shape, action_range: ActionRange, horizon_length: int) -> None:
        """Check shapes, actions and trajectories of every part before the first part is used.

        This is fast, since it does not read the observations.
        """
        for index, part in enumerate(self.parts):
            try:
                prepare(self.part(index), obs_shape, action_range, horizon_length)
            except ValueError as error:
                file = part.files["observations"]
                raise ValueError(f"the part with {file} cannot be used: {error}") from error


class ShardLoader:
    """Reads parts into host memory, the next one in the background while the active one is in the buffer.

    :param shards: the dataset.
    :param action_range: range of the actions.
    :param tail: row of the first final observation in the buffer; the rows of transitions start at 0.
    """

    def __init__(self, shards: Shards, action_range: ActionRange, tail: int) -> None:
        self.shards = shards
        self.action_range = action_range
        self.tail = tail
        self.active: int | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="next-shard")
        self._prefetched: dict[int, Future[dict[str, Tensor]]] = {}  # at most one entry

    def load(self, index: int) -> dict[str, Tensor]:
        """Return a part in the buffer's format, and start reading the next one.

        :param index: index of the part.
        :return: the tensors that :meth:`Transitions.write` fills.
        """
        # a resumed run may need a part other than the prefetched one
        if index in self._prefetched:
            tensors = self._prefetched[index].result()
        else:
            tensors = self._read(index)
        self.active = index
        following = (index + 1) % len(self.shards.parts)
        self._prefetched = {}
        if following != index:
            self._prefetched[following] = self._thread.submit(self._read, following)
        return tensors

    def _read(self, index: int) -> dict[str, Tensor]:
        part = self.shards.part(index)
        rows, size = part.arrays["observations"].shape
        shapes = {name: part.arrays[name].shape for name in ("observations", "actions")}
        shapes["final_observations"] = len(part.final_observations), size
        dtypes = {**ROW_DTYPES, "final_observations": torch.float32}
        tensors = {}
        # tensors without an entry in `shapes` have one number per row
        for name, dtype in dtypes.items():
            tensors[name] = torch.empty(shapes.get(name, (rows,)), dtype=dtype)
        part.write(tensors, self.action_range, self.tail)
        return tensors
