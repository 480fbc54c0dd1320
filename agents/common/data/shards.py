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

from agents.common.data.action_range import ActionRange, clipped_message
from agents.common.data.arrays import require_chunks
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

    @property
    def most_transitions(self) -> int:
        """Transitions of the largest part."""
        return max(part.transitions for part in self.parts)

    @property
    def most_trajectories(self) -> int:
        """Trajectories of the part that has most of them."""
        return max(part.trajectories for part in self.parts)

    def turn(self, updates: int) -> int:
        """Return the index of the part that is trained on after a number of gradient steps."""
        return updates // self.replace_interval % len(self.parts)

    def check(self, obs_shape: tuple[int, ...], action_dim: int, horizon_length: int) -> None:
        """Check the headers of all files, the values of all actions, and that chunks stay inside the trajectories.

        Actions are a tenth of the data or less, and a part that cannot be used is better refused now than when its
        turn comes, hours later.
        """
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
        if self.action_range is not None:
            self._check_actions(self.action_range)

    def _check_actions(self, action_range: ActionRange) -> None:
        """Refuse actions out of range, and warn about those that will be clipped because they are rounding errors."""
        clipped, excess = 0, 0.0
        for part in self.parts:
            outside = action_range.find_outside(_mapped_pieces(part.files["actions"], part.transitions))
            if outside is not None and outside.refused:
                raise outside.error(str(part.files["actions"]))
            if outside is not None:
                clipped, excess = clipped + outside.clipped, max(excess, outside.excess)
        if clipped:
            rows = sum(part.transitions for part in self.parts)
            warnings.warn(clipped_message(clipped, rows, excess), stacklevel=5)


class ShardLoader:
    """Reads parts into host memory, the next one in the background.

    There is room for one part, page-locked if the buffer is on a GPU: while the active part is in the buffer, the next
    one is read here; when its turn comes, its rows are copied. So no more than two parts are ever in memory.

    :param shards: the dataset.
    :param tail: the buffer's row of the first final observation; rows of transitions begin at 0.
    :param device: where the buffer's rows are.
    """

    def __init__(self, shards: Shards, tail: int, device: torch.device) -> None:
        self.shards, self.tail, self.device = shards, tail, device
        self.active: int | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="next-shard")
        self._coming: tuple[int, Future[dict[str, Tensor]]] | None = None
        self._room: dict[str, Tensor] = {}
        self._copied: torch.cuda.Event | None = None

    def load(self, index: int) -> dict[str, Tensor]:
        """Return a part as the buffer stores it; the tensors hold until :meth:`prepare_next` is called.

        :param index: of the part.
        :return: ``observations``, ``actions``, ``rewards``, ``masks``, ``next_row``, (n, ...), and
            ``final_observations``, (k, O).
        :raises ValueError: if trajectories do not end where they should.
        """
        coming, self._coming = self._coming, None
        if coming is not None and coming[0] == index:
            rows = coming[1].result()
        else:
            if coming is not None and not coming[1].cancel():
                coming[1].exception()  # it uses the same room: wait for its end
            rows = self._read(index)
        self.active = index
        return rows

    def prepare_next(self) -> None:
        """Read the next part in the background, as soon as the active one has left the room."""
        if len(self.shards.parts) == 1:
            self._room.clear()
            return
        if self.device.type == "cuda":
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(self.device))
        assert self.active is not None
        index = (self.active + 1) % len(self.shards.parts)
        self._coming = index, self._thread.submit(self._read, index)

    def _read(self, index: int) -> dict[str, Tensor]:
        """Fill the room with a part."""
        if self._copied is not None:
            self._copied.synchronize()
        part, rows = self.shards.parts[index], {}
        for name in SHARD_ARRAYS:
            count = part.trajectories if name == "final_observations" else part.transitions
            rows[name] = self._space(name, part.files[name])[:count]
            self._fill(rows[name], name, part.files[name])
        ends = torch.nonzero(rows["terminals"]).flatten()
        if len(ends) != part.trajectories or int(ends[-1]) != part.transitions - 1:
            raise ValueError(
                f"{part.files['terminals']} must end {part.trajectories} trajectories within {part.transitions} rows, "
                f"the last of them with the last row, got {len(ends)} ends; convert the dataset again"
            )
        del rows["terminals"]  # `next_row` says the same
        rows["next_row"] = self._space("next_row")[: part.transitions]
        torch.arange(1, part.transitions + 1, out=rows["next_row"])
        rows["next_row"][ends] = self.tail + torch.arange(len(ends), dtype=torch.int32)
        return rows

    def _space(self, name: str, path: Path | None = None) -> Tensor:
        """Return the room's tensor for an array, which fits the largest part."""
        if name not in self._room:
            most = self.shards.most_trajectories if name == "final_observations" else self.shards.most_transitions
            row = () if path is None else np.load(path, mmap_mode="r").shape[1:]
            kind = {"masks": torch.bool, "terminals": torch.bool, "next_row": torch.int32}.get(name, torch.float32)
            shape = (most, int(np.prod(row))) if row else (most,)
            self._room[name] = torch.empty(shape, dtype=kind, pin_memory=self.device.type == "cuda")
        return self._room[name]

    def _fill(self, target: Tensor, name: str, path: Path) -> None:
        """Copy the front of a file."""
        there, begin = target.numpy(), 0
        for piece in _mapped_pieces(path, len(target)):
            there[begin : begin + len(piece)] = self.shards.change(name, piece).reshape(len(piece), *target.shape[1:])
            begin += len(piece)


def _mapped_pieces(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    """Give the front of a file, mapping a piece at a time: a page that is mapped counts as the process's memory."""
    for begin in range(0, rows, PIECE_ROWS):
        yield np.load(path, mmap_mode="r")[begin : min(begin + PIECE_ROWS, rows)]
