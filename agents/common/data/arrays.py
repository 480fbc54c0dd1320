"""A dataset as arrays: converted, checked, and divided into trajectories.

A dataset consists of `observations`, `actions`, `rewards`, `masks` and `terminals`, in temporal order, and either
`next_observations` (OGBench's regular layout) or `valids` (OGBench's compact layout). Large arrays are copied only if
they must be converted.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mode
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from agents.common.files.npz import read_npz, read_npz_headers
from agents.common.observations import channels_first
from agents.common.validation import count

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]
Flags: TypeAlias = NDArray[np.bool_]
Shape: TypeAlias = tuple[int, ...]

STORED_ARRAYS = ("observations", "actions", "rewards", "masks", "terminals")
KNOWN_ARRAYS = (*STORED_ARRAYS, "next_observations", "valids", "timeouts")
FLAGS = ("terminals", "timeouts", "valids", "masks")
"""Arrays of zeros and ones; all other arrays hold finite numbers."""
ROW_DTYPES = {
    "observations": torch.float32,  # uint8 for images
    "actions": torch.float32,
    "rewards": torch.float32,
    "masks": torch.bool,
    "dones": torch.bool,  # whether the transition ends its trajectory
    "next_row": torch.int32,
}
"""Name -> dtype of each tensor of the replay buffer with one row per transition."""
# actions are clipped if they are out of bounds by at most this share of half the action range
ROUNDING = 1e-5
# number of rows that are checked or written together, so that temporary arrays stay small
PIECE_ROWS = 1 << 16
# at least this share of the rows must start a chunk within one trajectory
MIN_CHUNK_FRACTION = 0.01

MEANING_OF_MASKS = (
    "`terminals` is 1 if a trajectory ends for any reason; `masks` is 0 if the task "
    "terminates, so that nothing is bootstrapped, and otherwise 1, also at a time limit. If "
    "`terminals` is 1 only for terminations, set `masks = 1 - terminals`, or add `timeouts`, "
    "which is 1 at time limits; `masks` is then derived"
)


@dataclass(frozen=True)
class Transitions:
    """A checked dataset, ready for storage: n transitions in k trajectories.

    :param arrays: the arrays of `STORED_ARRAYS`, (rows, ...); actions in the dataset's units; ``terminals`` is 1 where
        the dataset marks an end.
    :param valid: which rows are transitions, (rows,).
    :param ends: which transitions end a trajectory, (n,); the last one always does.
    :param final_observations: last next observation of each trajectory, (k, ...).
    :param warnings: probable mistakes, one message each.
    """

    arrays: Arrays
    valid: Flags
    ends: Flags
    final_observations: Array
    warnings: tuple[str, ...] = ()

    @property
    def num_transitions(self) -> int:
        """Number of transitions, n."""
        return len(self.ends)

    @property
    def broken(self) -> int:
        """Number of trajectory ends that neither ``terminals`` nor ``timeouts`` marks."""
        return int((self.ends & (self.arrays["terminals"][self.valid] == 0)).sum())

    @property
    def description(self) -> str:
        """Number of transitions, and number of trajectories by kind of end, in one line."""
        terminated = (self.ends & (self.arrays["masks"][self.valid] == 0)).sum()
        trajectories = len(self.final_observations)
        return (
            f"dataset: {count(self.num_transitions, 'transition')}, {count(trajectories, 'trajectory')}; ends by "
            f"termination: {terminated:,}, by truncation: {trajectories - terminated:,}, of which unmarked: "
            f"{self.broken:,}"
        )

    def keep(self, chosen: Flags) -> Transitions:
        """Return copies of some of the trajectories.

        :param chosen: which trajectories, (k,).
        :return: their transitions.
        """
        # in a compact layout, a trajectory includes the row after its last transition
        last = self.ends if self.valid.all() else ~self.valid
        rows = chosen[np.cumsum(last) - last]
        return replace(
            self,
            arrays={name: array[rows] for name, array in self.arrays.items()},
            valid=self.valid[rows],
            ends=self.ends[rows[self.valid]],
            final_observations=self.final_observations[chosen],
        )

    def write(self, tensors: Mapping[str, Tensor], action_range: ActionRange, tail: int) -> None:
        """Write all transitions, piece by piece, in the format of the replay buffer.

        :param tensors: ``observations`` (n, O), ``actions`` (n, A); ``rewards``, ``masks``, ``dones`` and ``next_row``,
            (n,) each; and ``final_observations``, (k, O).
        :param action_range: range of the actions.
        :param tail: row of the first final observation in the buffer; the rows of transitions start at 0.
        """
        stop = 0
        for piece in pieces(len(self.valid)):
            valid = self.valid[piece]
            start = stop
            stop += valid.sum()
            for name in ("observations", "actions", "rewards", "masks"):
                values = self.arrays[name][piece][valid]
                if name == "actions":
                    values = action_range.scaled(values)
                _copy(values, tensors[name][start:stop])
        next_row = np.arange(1, stop + 1)
        next_row[self.ends] = tail + np.arange(len(self.final_observations))
        _copy(self.final_observations, tensors["final_observations"])
        _copy(self.ends, tensors["dones"])
        _copy(next_row, tensors["next_row"])


def _copy(array: Array, target: Tensor) -> None:
    """Copy an array into a tensor, converted to the tensor's dtype and row shape."""
    # converted by NumPy, since PyTorch does not accept arrays in a foreign byte order
    dtype = torch.empty(0, dtype=target.dtype).numpy().dtype
    target.copy_(torch.from_numpy(array.reshape(target.shape).astype(dtype)))


ArraySource: TypeAlias = Mapping[str, ArrayLike] | Transitions | str | os.PathLike[str]


def prepare(
    dataset: ArraySource,
    obs_shape: Shape,
    action_range: ActionRange,
    horizon_length: int = 1,
    images: bool = False,
) -> Transitions:
    """Check a dataset, and return its transitions, ready for storage.

    :param dataset: arrays by name (anything that `np.asarray` takes), the path of an ``.npz`` file of such arrays, or
        the result of :func:`read_transitions`.
    :param obs_shape: shape of one observation.
    :param action_range: range of the actions.
    :param horizon_length: H, the number of transitions in a chunk.
    :param images: whether observations are images: uint8, with the channels first or last.
    :return: the transitions.
    :raises FileNotFoundError: if there is no such file.
    :raises ValueError: if an array is missing or has the wrong shape, a value is out of range or not finite, trajectory
        ends contradict each other, or fewer than 1 in 100 rows start a chunk of H transitions within one trajectory.
    """
    size = len(action_range.low)
    if isinstance(dataset, Transitions):
        arrays = _fitting(dataset.arrays, obs_shape, size, images)
        final = _fitting({"observations": dataset.final_observations}, obs_shape, size, images)
        transitions = replace(dataset, arrays=arrays, final_observations=final["observations"])
    else:
        transitions = read_transitions(dataset, obs_shape, size, images)
    action_range.require_inside(
        "dataset array `actions`", transitions.arrays["actions"], transitions.valid
    )
    _require_chunks(transitions, horizon_length)
    return transitions


def read_transitions(
    dataset: ArraySource, obs_shape: Shape, action_size: int, images: bool = False
) -> Transitions:
    """Check a dataset, as far as possible without an environment, and return its transitions.

    :param dataset: arrays by name (anything that `np.asarray` takes), or the path of an ``.npz`` file of such arrays.
    :param obs_shape: shape of one observation.
    :param action_size: A.
    :param images: whether observations are images: uint8, with the channels first or last.
    :return: the transitions.
    :raises FileNotFoundError: if there is no such file.
    :raises ValueError: if an array is missing or has the wrong shape, a value is not finite, a flag is neither 0 nor 1,
        or trajectory ends contradict each other.
    """
    arrays = _fitting(_read(dataset), obs_shape, action_size, images)
    # checked before the other arrays, because these three determine which rows are transitions and which are ends
    for name in ("terminals", "timeouts", "valids"):
        if name in arrays:
            refuse_bad(name, arrays[name])
    is_derived = "masks" not in arrays
    if is_derived:
        arrays["masks"] = ~(arrays["terminals"] > 0)
    transitions = _compact_ends(arrays) if "valids" in arrays else _regular_ends(arrays)
    # in a compact layout, the row after a trajectory's last transition has only an observation
    checked_rows = dict.fromkeys(("actions", "rewards", "masks"), transitions.valid)
    # checked only at ends: inside a trajectory, a next observation is the next row's observation
    if "valids" not in arrays:
        checked_rows["next_observations"] = transitions.ends
    for name in ("observations", *checked_rows):
        refuse_bad(name, arrays[name], checked_rows.get(name))
    notes = []
    if transitions.broken:
        notes.append(_broken_message(transitions))
    if "timeouts" in arrays:
        notes.append(check_timeouts(arrays["timeouts"], arrays["masks"], is_derived))
    return replace(transitions, warnings=tuple(filter(None, notes)))


def pieces(rows: int) -> Iterator[slice]:
    """Return slices of at most `PIECE_ROWS` rows that cover all rows, so that an array needs no second full copy."""
    for begin in range(0, rows, PIECE_ROWS):
        yield slice(begin, min(begin + PIECE_ROWS, rows))


def sparse_rewards(rewards: Array) -> Array:
    """Return rewards that are -1 instead of any other nonzero number; raise ValueError for positive rewards."""
    if (rewards > 0).any():
        raise ValueError(f"`sparse` expects rewards <= 0, got {rewards.max()}; switch `sparse` off")
    return np.where(rewards != 0, np.float32(-1), np.float32(0))


# -- reading ----------------------------------------------------------------------------------------------------------


def _read(dataset: ArraySource) -> dict[str, Array]:
    """Return the known arrays of a dataset; raise an error if a required one is missing and cannot be derived."""
    if isinstance(dataset, str | os.PathLike):
        path = Path(dataset).expanduser()
        if path.suffix != ".npz" and not zipfile.is_zipfile(path):
            raise ValueError(
                f"{path} is not an .npz file; read it with `zoo.datasets.custom.load_custom(path, env).content`"
            )
        names = list(read_npz_headers(path))
        # other arrays are not read, since they may be large
        arrays: Mapping[str, ArrayLike] = read_npz(path, KNOWN_ARRAYS)
    elif isinstance(dataset, Mapping):
        names = list(dataset)
        arrays = dataset
    else:
        raise TypeError(
            f"a dataset must be `Shards`, the path of an .npz file, or a mapping of names to arrays, got "
            f"{type(dataset).__name__}; pass e.g. a dict with {', '.join(STORED_ARRAYS)} and next_observations"
        )
    missing = [name for name in STORED_ARRAYS if name not in names]
    if "masks" in missing and "timeouts" in names:
        missing.remove("masks")  # `masks` is then derived
    if "next_observations" not in names and "valids" not in names:
        missing.append("next_observations (regular layout) or valids (compact layout)")
    if missing:
        meaning = ""
        if "masks" in missing:
            meaning = f". {MEANING_OF_MASKS}"
        raise ValueError(
            f"a dataset lacks the arrays {', '.join(missing)}, got {', '.join(names)}; add them{meaning}"
        )
    return {name: _as_array(name, arrays[name]) for name in KNOWN_ARRAYS if name in arrays}


def _as_array(name: str, values: ArrayLike) -> Array:
    """Return values as an array of numbers, without a copy if they already are an array."""
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"the dtype is {array.dtype}")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"dataset array `{name}` must be an array of numbers, got {type(values).__name__}: {error}"
        ) from error
    return array


def _fitting(arrays: Arrays, obs_shape: Shape, action_size: int, images: bool) -> dict[str, Array]:
    """Return the arrays, with channels-first images; raise if shapes do not match each other or the environment's."""
    fitting = dict(arrays)
    for name in ("observations", "next_observations"):
        if not images or name not in arrays:
            continue
        if arrays[name].dtype != np.uint8:
            raise ValueError(
                f"dataset array `{name}` must hold images as uint8 from 0 to 255, got {arrays[name].dtype}; convert "
                "them, e.g. `(255 * images).round().astype(np.uint8)` if they are from 0 to 1"
            )
        fitting[name] = channels_first(arrays[name], obs_shape)
    # the most frequent length, since one of the arrays may be transposed
    rows = mode([len(array) for array in arrays.values() if array.ndim] or [0])
    row_shapes = {
        "observations": obs_shape,
        "next_observations": obs_shape,
        "actions": (action_size,),
    }
    for name, array in fitting.items():
        row_shape = row_shapes.get(name, ())
        # first the number of rows, because `row_shape` may come from a transposed array
        if array.shape[:1] != (rows,):
            expected = f"{count(rows, 'row')} like the other arrays"
        elif array.shape[1:] != row_shape or rows == 0:
            expected = f"shape {(rows or 1, *row_shape)}"
        else:
            continue
        raise ValueError(
            f"dataset array `{name}` must have {expected}, got shape {array.shape}; reshape or complete it"
        )
    return fitting


# -- values -----------------------------------------------------------------------------------------------------------


def refuse_bad(name: str, array: Array, rows: Flags | None = None) -> None:
    """Require 0 or 1 in an array of `FLAGS`, and finite numbers in any other; the error names the first bad row.

    :param name: name of the array.
    :param array: its values, (rows, ...).
    :param rows: which rows are checked, (rows,); None: all.
    """
    if name in FLAGS:
        expected = "0 or 1"
        position = first_bad(array, lambda values: (values != 0) & (values != 1), rows)
    elif array.dtype.kind == "f":
        expected = "finite float32 numbers"
        position = first_bad(array, lambda values: ~np.isfinite(_single(values)), rows)
    else:  # integers are finite
        return
    if position is not None:
        value = array.reshape(len(array), -1)[position]
        raise ValueError(
            f"dataset array `{name}` must hold {expected}, got {value} in row {position[0]}; "
            "correct that row, or remove its trajectory"
        )


def first_bad(
    array: Array, is_bad: Callable[[Array], Array], rows: Flags | None
) -> tuple[int, int] | None:
    """Return row and column of an array's first bad value, in ``rows`` if given; None if there is none."""
    for piece in pieces(len(array)):
        part = array[piece]
        bad = is_bad(part.reshape(len(part), -1))
        if rows is not None:
            bad &= rows[piece, None]
        if bad.any():
            row, column = np.argwhere(bad)[0]
            return piece.start + row, column
    return None


def _single(values: Array) -> Array:
    """Return values in the precision of storage; values that are too large become infinite."""
    if values.dtype == np.uint8:  # images, which are stored unchanged
        return values
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float32)


def check_timeouts(timeouts: Array, masks: Array, is_derived: bool) -> str:
    """Return a warning about time limits that are marked as terminations; empty if there are none.

    :param timeouts: 1 in rows that end a trajectory at a time limit, (n,).
    :param masks: 0 in rows that terminate the task, (n,).
    :param is_derived: whether masks are 1 - terminals.
    :return: the warning.
    :raises ValueError: if all time limits are marked as terminations, and masks are derived from `terminals`.
    """
    limits = timeouts > 0
    terminated_limits = (limits & (masks == 0)).sum()
    num_limits = limits.sum()
    if is_derived and 0 < terminated_limits == num_limits:
        raise ValueError(
            "`masks` can be derived as 1 - terminals only if `terminals` is 0 at time limits, got "
            "`terminals` = 1 in every row whose `timeouts` is 1; give `masks`, e.g. "
            "`masks = 1 - terminals * (1 - timeouts)` if these trajectories were only truncated"
        )
    if not terminated_limits:
        return ""
    return (
        f"{terminated_limits:,} of {num_limits:,} time limits are also marked as terminations, so that nothing "
        "is bootstrapped there; if these trajectories were only truncated, set `masks` to 1 there"
    )


# -- ends of trajectories ---------------------------------------------------------------------------------------------


def _compact_ends(arrays: Arrays) -> Transitions:
    """Return the transitions of a dataset in OGBench's compact layout, after checking the ends of trajectories."""
    valid = arrays["valids"] > 0
    terminals = arrays["terminals"] > 0
    followed_by_end = np.append(~valid[1:], False)
    if not valid[0] or valid[-1] or not np.array_equal(valid & terminals, followed_by_end):
        raise ValueError(
            "in a compact dataset every trajectory ends with one row whose `valids` is 0, after a transition "
            "whose `terminals` is 1, got a different order; load OGBench's datasets with `compact_dataset=True`"
        )
    inner_timeouts = np.flatnonzero(
        (arrays.get("timeouts", terminals) > 0) & valid & ~followed_by_end
    )
    if len(inner_timeouts):
        raise ValueError(
            "in a compact dataset `valids` marks the ends of trajectories, got `timeouts` = 1 inside a trajectory, in "
            f"{len(inner_timeouts):,} rows, first in row {inner_timeouts[0]}; leave `timeouts` out, or correct one of "
            "the two"
        )
    return compact_transitions(arrays)


def compact_transitions(arrays: Arrays) -> Transitions:
    """Return the transitions of a compact dataset whose arrays have been checked.

    :param arrays: `STORED_ARRAYS` and ``valids``.
    :return: the transitions.
    """
    valid = arrays["valids"] > 0
    stored = {name: arrays[name] for name in STORED_ARRAYS}
    return Transitions(
        stored, valid, arrays["terminals"][valid] > 0, arrays["observations"][~valid]
    )


def _regular_ends(arrays: Arrays) -> Transitions:
    """Return the transitions of a dataset in the regular layout.

    A trajectory ends if `terminals` or `timeouts` is 1, or if a next observation is not the next row's observation.
    """
    marked = arrays["terminals"] > 0
    if "timeouts" in arrays:
        marked |= arrays["timeouts"] > 0
    marked[-1] = True
    ends = marked.copy()
    next_observations = arrays["next_observations"][:-1]
    following_observations = arrays["observations"][1:]
    for piece in pieces(len(following_observations)):
        # compared in single precision, in which both are stored
        differs = _single(next_observations[piece]) != _single(following_observations[piece])
        ends[piece] |= differs.reshape(len(differs), -1).any(1)
    stored = {name: arrays[name] for name in STORED_ARRAYS} | {"terminals": marked}
    return Transitions(stored, np.ones_like(ends), ends, arrays["next_observations"][ends])


def _require_chunks(transitions: Transitions, horizon_length: int) -> None:
    """Raise an error unless at least 1 in 100 rows starts a chunk within one trajectory."""
    lengths = np.diff(np.flatnonzero(transitions.ends), prepend=-1)
    rows = transitions.num_transitions
    starts = np.maximum(lengths - horizon_length + 1, 0).sum()
    if starts < MIN_CHUNK_FRACTION * rows:
        hint = ""
        if transitions.broken:
            hint = f". {_broken_message(transitions)}"
        raise ValueError(
            f"a chunk of `horizon_length` = {horizon_length} transitions must stay inside one trajectory, got "
            f"only {starts:,} of {rows:,} rows that start such a chunk: {count(len(lengths), 'trajectory')}, the "
            f"longest of {count(lengths.max(), 'transition')}. Correct `terminals` "
            f"and `timeouts` if they mark too many ends, or use a smaller `horizon_length`{hint}"
        )


def _broken_message(transitions: Transitions) -> str:
    """Return the warning about trajectory ends that neither `terminals` nor `timeouts` marks."""
    return (
        f"{transitions.broken:,} of {len(transitions.final_observations):,} trajectories end only because "
        "`next_observations` is not the next row's observation. Set `timeouts` to 1 in those rows if they do end "
        "there. If not, something is wrong. Likely causes: the transitions were shuffled; `next_observations` and "
        "`observations` differ in precision (one was made in float64, the other in float32); or only one of them was "
        "normalised. Give the transitions in the order they happened, or train on single transitions with "
        "`horizon_length=1`"
    )


# -- the range of actions ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ActionRange:
    """The bounds of a dataset's actions, in the dataset's units; scaling maps the bounds to -1 and 1.

    :param low: lower bounds, which become -1, (A,).
    :param high: upper bounds, which become 1, (A,).
    :param scales: whether actions are scaled; False if the bounds are -1 and 1 already.
    """

    low: Array
    high: Array
    scales: bool = True

    @classmethod
    def of(
        cls, space: spaces.Space[Any], action_range: tuple[ArrayLike, ArrayLike] | None = None
    ) -> ActionRange:
        """Return the range of a dataset's actions: the bounds of the action space, or ``action_range`` if it is given.

        ``action_range`` is the lowest and the highest action in the dataset's units, each a number or (A,). With
        ``action_range``, actions are scaled even if the range is [-1, 1].
        """
        assert isinstance(space, spaces.Box)
        size = int(np.prod(space.shape))
        bounds: Any = action_range
        if action_range is None:
            bounds = space.low.reshape(size), space.high.reshape(size)
        try:
            # adding 0.0 raises an error for anything but numbers, and does not change the precision of floats
            low, high = (np.broadcast_to(np.asarray(bound) + 0.0, (size,)) for bound in bounds)
            if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
                raise ValueError("each low must be less than its high, and both finite")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`action_range` must be a pair (low, high), each a number or an array of shape ({size},), got "
                f"{bounds!r} ({error}); give the range of the dataset's actions, e.g. `action_range=(-1.0, 1.0)`"
            ) from error
        is_unit = action_range is None and (low == -1).all() and (high == 1).all()
        return cls(low, high, scales=not is_unit)

    def scaled(self, actions: Array) -> Array:
        """Return actions (rows, A) scaled to [-1, 1]; rounding errors are clipped."""
        if self.scales:
            actions = 2.0 * ((actions - self.low) / (self.high - self.low)) - 1.0
        return np.clip(actions, -1.0, 1.0)

    def require_inside(self, name: str, actions: Array, valid: Flags | None = None) -> None:
        """Raise an error for actions out of bounds by more than rounding; values are compared in single precision.

        :param name: name of the array, for the message.
        :param actions: (rows, A).
        :param valid: which rows are checked, (rows,); None: all.
        :raises ValueError: if a checked row is out of bounds; the message names the first.
        """
        low, high = np.asarray([self.low, self.high], np.float32)
        # includes one rounding step of single precision, which dominates for narrow bounds far from zero
        tolerance = ROUNDING * (high - low) / 2 + np.spacing(np.maximum(np.abs(low), np.abs(high)))

        def is_outside(values: Array) -> Array:
            single = _single(values)
            return ~(np.maximum(low - single, single - high) <= tolerance)  # true for NaN too

        position = first_bad(actions, is_outside, valid)
        if position is not None:
            row, column = position
            value = actions[position]
            if valid is not None:
                actions = actions[valid]
            extremes = value, np.nanmin(actions), np.nanmax(actions)
            value, lowest, highest = (str(_single(np.asarray(number))) for number in extremes)
            raise ValueError(
                f"{name} must lie in [{low[column]:g}, {high[column]:g}], got {value} in row {row}, coordinate "
                f"{column}. The actions are between {lowest} and {highest}: if they are in other units, give the "
                f"actions that correspond to the environment's bounds, `action_range=({lowest}, {highest})` or "
                f"`--action-range {lowest},{highest}`; if not, correct those rows"
            )
