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


@dataclass(frozen=True)
class Outside:
    """The actions of a dataset that lie outside their range.

    :param refused: rows that are too far outside to be rounding errors.
    :param clipped: rows that are outside by a rounding error, and no further.
    :param excess: how far outside the furthest of those to be clipped is, in the actions' units.
    :param rows: rows that were looked at.
    :param first: row and coordinate of the first value that is too far outside, or None.
    :param value: that value.
    :param bounds: low and high in its coordinate.
    :param span: lowest and highest value of all actions.
    """

    refused: int
    clipped: int
    excess: float
    rows: int
    first: tuple[int, int] | None
    value: float
    bounds: tuple[float, float]
    span: tuple[float, float]

    def describe_refused(self) -> str:
        """Return what was expected and what was got, as the end of a sentence that begins with the array's name."""
        assert self.first is not None
        (row, coordinate), (low, high) = self.first, self.bounds
        verb = "lies" if self.refused == 1 else "lie"
        return (
            f"must lie in [{low:g}, {high:g}], got {_text(self.value)} in row {row}, coordinate {coordinate}; "
            f"{self.refused:,} of {self.rows:,} rows {verb} outside"
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

        Values are compared in single precision, in which they are stored.

        :param pieces: the actions, (rows, A) each.
        :param kept: which rows count, over all pieces; None: all.
        :return: what was found.
        """
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        # plus one step of single precision, which dominates for a narrow box far from zero
        tolerance = ROUNDING * (high - low) / 2 + np.spacing(np.maximum(np.abs(low), np.abs(high)))
        search = _Search()
        for piece in pieces:
            with np.errstate(over="ignore"):  # infinite then, which is outside
                rows = np.asarray(piece, dtype=np.float32)
            begin = search.seen
            numbers = np.arange(len(rows)) if kept is None else np.flatnonzero(kept[begin : begin + len(rows)])
            if len(numbers) < len(rows):
                rows = rows[numbers]
            search.look_at(rows, numbers, np.maximum(low - rows, rows - high), tolerance)
            search.seen += len(piece)
        return search.result(low, high)


class _Search:
    """What :meth:`ActionRange.find_outside` has seen so far."""

    def __init__(self) -> None:
        self.seen = self.rows = self.refused = self.clipped = 0
        self.excess, self.value = 0.0, 0.0
        self.first: tuple[int, int] | None = None
        self.lowest, self.highest = float("inf"), float("-inf")

    def look_at(self, rows: NDArray[Any], numbers: NDArray[Any], excess: NDArray[Any], tolerance: NDArray[Any]) -> None:
        """Count the rows of a piece that are outside, given how far outside each value is."""
        self.rows += len(rows)
        if not len(rows):
            return
        self.lowest = min(self.lowest, float(np.fmin.reduce(rows, axis=None)))
        self.highest = max(self.highest, float(np.fmax.reduce(rows, axis=None)))
        if np.max(excess) <= 0:  # not where one is NaN
            return
        far = ~(excess <= tolerance)
        refused = far.any(1)
        clipped = (excess > 0).any(1) & ~refused
        self.refused += int(refused.sum())
        self.clipped += int(clipped.sum())
        if clipped.any():
            self.excess = max(self.excess, float(excess[clipped].max()))
        if self.first is None and refused.any():
            row, coordinate = np.argwhere(far)[0]
            self.first = self.seen + int(numbers[row]), int(coordinate)
            self.value = float(rows[row, coordinate])

    def result(self, low: NDArray[Any], high: NDArray[Any]) -> Outside | None:
        """Return what was found."""
        if not self.refused and not self.clipped:
            return None
        coordinate = self.first[1] if self.first else 0
        bounds = float(low[coordinate]), float(high[coordinate])
        span = self.lowest, self.highest
        return Outside(self.refused, self.clipped, self.excess, self.rows, self.first, self.value, bounds, span)


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
