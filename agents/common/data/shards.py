"""Datasets too large for memory: parts in mapped files, one of them in the buffer while the next is being read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.common.data.arrays import ActionRange, clipped_message, require_chunks
from agents.common.validation import integer

SHARD_ARRAYS = ("observations", "actions", "rewards", "masks", "terminals", "final_observations")
PIECE_ROWS = 1 << 15  # how much of a file is mapped at a time


@dataclass(frozen=True)
class Shard:
    """One part of a dataset: whole trajectories, in one ``.npy`` file per array.

    :param files: the file of each array in `SHARD_ARRAYS`: the transitions in order, n rows or more, and the
        observation after the last transition of each trajectory, k rows or more.
    :param transitions: n, the rows to use; the last of them ends a trajectory.
    :param trajectories: k, the trajectories in them.
    """

    files: Mapping[str, Path]
    transitions: int
    trajectories: int


@dataclass(frozen=True)
class Shards:
    """A dataset of several parts that take turns: the active one is the dataset, as if there were no other.

    :param parts: the parts, in the order of their turns.
    :param replace_interval: gradient steps until the next part takes over, >= 1; after the last comes the first.
    :param sparse: whether rewards become -1 where they are not zero.
    :param action_range: what the actions lie in, and what scales them; None: they are in [-1, 1].
    """

    parts: Sequence[Shard]
    replace_interval: int = 1000
    sparse: bool = False
    action_range: ActionRange | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        integer("replace_interval", self.replace_interval, at_least=1)
        if not self.parts:
            raise ValueError("`parts` must hold at least one shard, got none; give the files of a dataset")

    def change(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Return rows of the array of that name as the buffer stores them."""
        if name == "rewards" and self.sparse:
            return -(array != 0).astype(np.float32)
        if name == "actions" and self.action_range is not None:
            return self.action_range.scaled(array)
        return array

    def describe(self) -> str:
        """Return how large the dataset is, in one line."""
        transitions = sum(part.transitions for part in self.parts)
        trajectories = sum(part.trajectories for part in self.parts)
        return (
            f"dataset: {transitions:,} transitions in {trajectories:,} trajectories, in {len(self.parts):,} parts that "
            f"take turns after {self.replace_interval:,} updates each"
        )

    def turn(self, updates: int) -> int:
        """Return the index of the part that is trained on after a number of gradient steps."""
        return updates // self.replace_interval % len(self.parts)

    def check(self, obs_shape: tuple[int, ...], action_dim: int, horizon_length: int) -> None:
        """Check the headers of all files, the values of all actions, and that chunks stay inside the trajectories.

        Actions are a tenth of the data or less, and a part that cannot be used is better refused now than when its
        turn comes, hours later.
        """
        clipped, excess = 0, 0.0
        rows: dict[str, tuple[int, ...]] = {"observations": obs_shape, "final_observations": obs_shape}
        rows["actions"] = (action_dim,)
        for part in self.parts:
            missing = [name for name in SHARD_ARRAYS if name not in part.files]
            if missing:
                raise ValueError(f"a shard needs the arrays {', '.join(SHARD_ARRAYS)}; missing: {', '.join(missing)}")
            for name in SHARD_ARRAYS:
                least = part.trajectories if name == "final_observations" else part.transitions
                shape = np.load(part.files[name], mmap_mode="r").shape
                if shape[1:] != rows.get(name, ()) or shape[0] < least:
                    raise ValueError(
                        f"{part.files[name]} must have {least} rows of shape {rows.get(name, ())}, got shape {shape}; "
                        "convert the dataset again"
                    )
            require_chunks(np.load(part.files["terminals"], mmap_mode="r")[: part.transitions], horizon_length)
            if self.action_range is None:
                continue
            outside = self.action_range.find_outside(_mapped_pieces(part.files["actions"], part.transitions))
            if outside is not None and outside.refused:
                raise outside.error(str(part.files["actions"]))
            if outside is not None:
                clipped, excess = clipped + outside.clipped, max(excess, outside.excess)
        if clipped:
            transitions = sum(part.transitions for part in self.parts)
            warnings.warn(clipped_message(clipped, transitions, excess), stacklevel=4)


class ShardLoader:
    """Reads parts into host memory, the next one in the background while the active one is in the buffer.

    :param shards: the dataset.
    :param tail: the buffer's row of the first final observation; rows of transitions begin at 0.
    """

    def __init__(self, shards: Shards, tail: int) -> None:
        self.shards, self.tail = shards, tail
        self.active: int | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="next-shard")
        self._coming: tuple[int, Future[dict[str, Tensor]]] | None = None

    def load(self, index: int) -> dict[str, Tensor]:
        """Return a part as the buffer stores it.

        :param index: of the part.
        :return: ``observations``, ``actions``, ``rewards``, ``masks``, ``next_row``, (n, ...), and
            ``final_observations``, (k, O).
        :raises ValueError: if trajectories do not end where they should.
        """
        coming, self._coming = self._coming, None
        self.active = index
        return coming[1].result() if coming is not None and coming[0] == index else self._read(index)

    def prepare_next(self) -> None:
        """Read the next part in the background; call it when the active one is in the buffer."""
        assert self.active is not None
        if len(self.shards.parts) > 1:
            index = (self.active + 1) % len(self.shards.parts)
            self._coming = index, self._thread.submit(self._read, index)

    def _read(self, index: int) -> dict[str, Tensor]:
        part = self.shards.parts[index]
        rows = {name: self._read_array(name, part) for name in SHARD_ARRAYS}
        ends = torch.nonzero(rows.pop("terminals")).flatten()  # `next_row` says the same
        if len(ends) != part.trajectories or int(ends[-1]) != part.transitions - 1:
            raise ValueError(
                f"{part.files['terminals']} must end {part.trajectories} trajectories within {part.transitions} rows, "
                f"the last of them with the last row, got {len(ends)} ends; convert the dataset again"
            )
        rows["next_row"] = torch.arange(1, part.transitions + 1, dtype=torch.int32)
        rows["next_row"][ends] = self.tail + torch.arange(len(ends), dtype=torch.int32)
        return rows

    def _read_array(self, name: str, part: Shard) -> Tensor:
        """Return the front of a file as the buffer stores it, rows flattened."""
        count = part.trajectories if name == "final_observations" else part.transitions
        shape = np.load(part.files[name], mmap_mode="r").shape[1:]
        kind = torch.bool if name in ("masks", "terminals") else torch.float32
        found = torch.empty((count, int(np.prod(shape))) if shape else (count,), dtype=kind)
        there, begin = found.numpy(), 0
        for piece in _mapped_pieces(part.files[name], count):
            rows = self.shards.change(name, piece)
            there[begin : begin + len(piece)] = rows.reshape(len(piece), *found.shape[1:])
            begin += len(piece)
        return found


def _mapped_pieces(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    """Give the front of a file, mapping a piece at a time: a page that is mapped counts as the process's memory."""
    for begin in range(0, rows, PIECE_ROWS):
        yield np.load(path, mmap_mode="r")[begin : min(begin + PIECE_ROWS, rows)]
