"""The box that a dataset's actions must lie in: what is outside is refused, what is inside becomes [-1, 1]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

ROUNDING = 1e-5  # an action this far outside its box, in halves of the box's width, is a rounding error and is clipped
PIECE_ROWS = 1 << 16  # rows that are looked at together, so that temporary arrays stay small


def in_pieces(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Return views of an array, (rows, ...), of `PIECE_ROWS` rows each."""
    return (array[begin : begin + PIECE_ROWS] for begin in range(0, len(array), PIECE_ROWS))


def clipped_message(clipped: int, rows: int, excess: float) -> str:
    """Return the warning about actions that will be clipped; ``excess`` is how far out the furthest of them is."""
    return (
        f"`actions` that a rounding error took out of their range are clipped: {clipped:,} of {rows:,} rows, by up to "
        f"{excess:.2g}"
    )


class Outside:
    """The actions of a dataset that lie outside their range, (A,) each; values are compared in single precision.

    ``refused`` rows are too far outside to be rounding errors, ``clipped`` ones are outside by a rounding error and no
    further, by up to ``excess`` in the actions' units.
    """

    def __init__(self, low: NDArray[Any], high: NDArray[Any]) -> None:
        self.low, self.high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        # plus one step of single precision, which dominates for a narrow box far from zero
        width, reach = self.high - self.low, np.maximum(np.abs(self.low), np.abs(self.high))
        self._tolerance = ROUNDING * width / 2 + np.spacing(reach)
        self.rows = self.refused = self.clipped = 0
        self.excess = 0.0
        self.first: tuple[int, int] | None = None  # row and coordinate of what is refused first
        self.value = 0.0  # which is there
        self.span = float("inf"), float("-inf")

    def look_at(self, actions: NDArray[Any], numbers: NDArray[Any]) -> None:
        """Count the rows of a piece that are outside; ``numbers`` are theirs in the dataset."""
        self.rows += len(actions)
        if not len(actions):
            return
        with np.errstate(over="ignore"):  # infinite then, which is outside
            actions = np.asarray(actions, np.float32)
        lowest, highest = (float(extreme.reduce(actions, axis=None)) for extreme in (np.fmin, np.fmax))
        self.span = min(self.span[0], lowest), max(self.span[1], highest)
        excess = np.maximum(self.low - actions, actions - self.high)
        if np.max(excess) <= 0:  # not where one is NaN
            return
        far = ~(excess <= self._tolerance)
        refused = far.any(1)
        clipped = (excess > 0).any(1) & ~refused
        self.refused += int(refused.sum())
        self.clipped += int(clipped.sum())
        self.excess = max(self.excess, float(excess[clipped].max(initial=0)))
        if self.first is None and refused.any():
            row, coordinate = np.argwhere(far)[0]
            self.first, self.value = (int(numbers[row]), int(coordinate)), float(actions[row, coordinate])

    def describe_refused(self) -> str:
        """Return what was expected and what was got, as the end of a sentence that begins with the array's name."""
        assert self.first is not None
        row, coordinate = self.first
        return (
            f"must lie in [{self.low[coordinate]:g}, {self.high[coordinate]:g}], got {_text(self.value)} in row {row}, "
            f"coordinate {coordinate}; {self.refused:,} of {self.rows:,} rows {'lies' if self.refused == 1 else 'lie'} "
            "outside"
        )

    def error(self, array: str) -> ValueError:
        """Return the error for a dataset that cannot be used; ``array`` names the array or its file."""
        low, high = map(_text, self.span)
        return ValueError(
            f"{array} {self.describe_refused()}. The actions reach from {low} to {high}: if they are in other units, "
            "load the dataset with the range that stands for the environment's box, e.g. "
            f"`load_dataset(dataset, action_range=({low}, {high}))`; if not, correct those rows"
        )


@dataclass(frozen=True)
class ActionRange:
    """The box that a dataset's actions lie in, in the dataset's units; it becomes [-1, 1].

    :param low: what becomes -1 in each coordinate, (A,).
    :param high: what becomes 1, (A,).
    :param scales: whether actions are scaled; False where the box is [-1, 1] and they stay as they are.
    """

    low: NDArray[Any]
    high: NDArray[Any]
    scales: bool = True

    @classmethod
    def of(cls, space: spaces.Space[Any], action_range: tuple[ArrayLike, ArrayLike] | None = None) -> ActionRange:
        """Return the box of an action space, or the one that stands for it in a dataset.

        ``action_range`` is what stands for its low and high, each a number or (A,). It is scaled by the formula even
        where it is [-1, 1].
        """
        assert isinstance(space, spaces.Box)
        size = int(np.prod(space.shape))
        if action_range is None:
            low, high = space.low.reshape(size), space.high.reshape(size)
            name, scales = "the action space", not ((low == -1).all() and (high == 1).all())
        else:
            (low, high), name, scales = _as_bounds(action_range, size), "`action_range`", True
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise ValueError(
                f"{name} must have finite bounds with low < high in each coordinate, got low {_text(low)} and "
                f"high {_text(high)}; give the range of the dataset's actions, e.g. `action_range=(-1.0, 1.0)`"
            )
        return cls(low, high, scales)

    def scaled(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Return actions (rows, A) in [-1, 1], clipping rounding errors; Stable-Baselines3 calls them scaled."""
        if self.scales:
            actions = 2.0 * ((actions - self.low) / (self.high - self.low)) - 1.0
        return np.clip(actions, -1.0, 1.0)

    def find_outside(self, pieces: Iterable[NDArray[Any]], kept: NDArray[np.bool_] | None = None) -> Outside | None:
        """Return what lies outside the range, or None if nothing does.

        :param pieces: the actions, (rows, A) each.
        :param kept: which rows count, over all pieces; None: all.
        :return: what was found.
        """
        found, begin = Outside(self.low, self.high), 0
        for piece in pieces:
            rows = np.arange(begin, begin + len(piece))
            begin += len(piece)
            if kept is not None:
                piece, rows = piece[kept[rows]], rows[kept[rows]]
            found.look_at(piece, rows)
        return found if found.refused or found.clipped else None


def _as_bounds(action_range: tuple[ArrayLike, ArrayLike], size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the two bounds that a user gave as arrays, (A,) each."""
    try:
        # adding 0 refuses anything but numbers, and keeps the precision, in which scaling rounds
        low, high = (np.broadcast_to(np.asarray(bound) + 0, (size,)) for bound in action_range)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`action_range` must be a pair (low, high), each a number or an array of shape ({size},), got "
            f"{action_range!r}; give the range of the dataset's actions, e.g. `action_range=(-1.0, 1.0)`"
        ) from error
    return low, high


def _text(value: float | NDArray[Any]) -> str:
    """Return numbers as short as single precision allows."""
    return str(np.asarray(value, dtype=np.float32)[()])
