"""A user's dataset as arrays: converted, checked, and read for where its trajectories end.

`observations`, `actions`, `rewards`, `masks` and `terminals` hold all transitions in the order they happened, together
with `next_observations` (OGBench's regular layout) or `valids` (its compact one). Large arrays are copied only where
they must be converted.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from agents.common.files.npz import read_npz, read_npz_headers
from agents.common.observations import channels_first

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]
Flags: TypeAlias = NDArray[np.bool_]
Shape: TypeAlias = tuple[int, ...]

STORED_ARRAYS = ("observations", "actions", "rewards", "masks", "terminals")
KNOWN_ARRAYS = (*STORED_ARRAYS, "next_observations", "valids", "timeouts")
FLAGS = ("terminals", "timeouts", "valids")
ZERO_OR_ONE, FINITE = "0 or 1", "finite numbers"

# names in other libraries' datasets that look too little like ours to be recognised
OTHER_NAMES = {
    "obs": "observations", "next_obs": "next_observations", "acts": "actions",
    "done": "terminals", "dones": "terminals", "terminated": "terminals", "terminations": "terminals",
    "truncated": "timeouts", "truncations": "timeouts",
}  # fmt: skip

ROUNDING = 1e-5  # an action this far outside its box, in halves of the box's width, is a rounding error and is clipped
PIECE_ROWS = 1 << 16  # rows that are looked at together, so that temporary arrays stay small
LEAST_SHARE = 0.01  # of the rows must begin a chunk that stays inside its trajectory

WHAT_MASKS_ARE = (
    "`terminals` is 1 where a trajectory ends for any reason; `masks` is 0 where the task terminates, so that the "
    "value after it is zero, and 1 elsewhere, at a time limit too. If `terminals` is 1 only where the task terminates, "
    "make `masks = 1 - terminals`, or add `timeouts`, which is 1 at the time limits, and that is done for you"
)


@dataclass(frozen=True)
class Transitions:
    """A dataset that can be stored: n transitions in k trajectories.

    :param arrays: the arrays of `STORED_ARRAYS`, (rows, ...); actions in the dataset's units.
    :param valid: which rows are transitions, (rows,).
    :param ends: which transitions end a trajectory, (n,); the last one does.
    :param final_observations: what follows each of them, (k, ...).
    :param description: what was found, in one line.
    :param warnings: what is probably a mistake, one text each.
    :param broken: ends that no array marks.
    """

    arrays: Arrays
    valid: Flags
    ends: Flags
    final_observations: Array
    description: str
    warnings: tuple[str, ...] = ()
    broken: int = 0


ArraySource: TypeAlias = Mapping[str, ArrayLike] | Transitions | str | os.PathLike[str]


def prepare(
    dataset: ArraySource,
    obs_shape: Shape,
    action_range: ActionRange,
    horizon_length: int = 1,
    images: bool = False,
) -> Transitions:
    """Return a dataset ready to be stored.

    :param dataset: arrays by name, anything that `np.asarray` takes, the path of an ``.npz`` file of them, or what
        :func:`read_transitions` returned.
    :param obs_shape: shape of one observation.
    :param action_range: what the actions lie in.
    :param horizon_length: H, the transitions of a chunk.
    :param images: whether observations are images: uint8, with the channels first or last.
    :return: the transitions.
    :raises FileNotFoundError: if there is no such file.
    :raises ValueError: if an array is missing or has the wrong shape, a value is not finite or out of range, or no
        chunk of H transitions stays inside a trajectory.
    """
    size = len(action_range.low)
    if isinstance(dataset, Transitions):
        arrays = dict(dataset.arrays)
        ends = {"observations": dataset.final_observations}
        if images:
            _arrange_images(arrays, obs_shape)
            _arrange_images(ends, obs_shape)
        _require_shapes(arrays, obs_shape, size)
        found = replace(dataset, arrays=arrays, final_observations=ends["observations"])
    else:
        found = read_transitions(dataset, obs_shape, size, images)
    notes = list(found.warnings)
    outside = action_range.find_outside(in_pieces(found.arrays["actions"]), found.valid)
    if outside is not None:
        if outside.refused:
            raise outside.error("dataset array `actions`")
        notes.append(clipped_message(outside.clipped, outside.rows, outside.excess))
    mostly_broken = 2 * found.broken > int(found.ends.sum())
    require_chunks(found.ends, horizon_length, _broken_message(found) if mostly_broken else None)
    return replace(found, warnings=tuple(notes))


def read_transitions(dataset: ArraySource, obs_shape: Shape, action_size: int, images: bool = False) -> Transitions:
    """Return the transitions of a dataset, checked for what does not depend on an environment.

    :param dataset: arrays by name, anything that `np.asarray` takes, or the path of an ``.npz`` file of them.
    :param obs_shape: shape of one observation.
    :param action_size: A.
    :param images: whether observations are images: uint8, with the channels first or last.
    :return: the transitions.
    :raises FileNotFoundError: if there is no such file.
    :raises ValueError: if an array is missing or has the wrong shape, or a value is not finite.
    """
    arrays, others = _read(dataset)
    _require_arrays(arrays, others)
    if images:
        _arrange_images(arrays, obs_shape)
    _require_shapes(arrays, obs_shape, action_size)
    for name in FLAGS:
        if name in arrays:
            refuse_bad(name, arrays[name], ZERO_OR_ONE)
    is_derived = "masks" not in arrays
    if is_derived:
        arrays["masks"] = ~(arrays["terminals"] > 0)
    found = _compact_ends(arrays) if "valids" in arrays else _regular_ends(arrays)
    stored = {name: found.valid for name in ("actions", "rewards", "masks")}
    stored["observations"] = np.ones_like(found.valid)  # those after a trajectory's last transition too
    if "valids" not in arrays:
        stored["next_observations"] = found.ends  # the others were found equal to the next row
    for name, rows in stored.items():
        refuse_bad(name, arrays[name], FINITE, rows)
    refuse_bad("masks", arrays["masks"], ZERO_OR_ONE, found.valid)
    notes = [
        f"the dataset's array `{name}` is ignored; if it is meant as `{known}`, give it that name"
        for name, known in _close_names(arrays, others).items()
    ]
    if "timeouts" in arrays and (doubt := doubt_of_limits(arrays["timeouts"], arrays["masks"], is_derived)):
        notes.append(doubt)
    if found.broken:
        notes.append(_broken_message(found))
    return replace(
        found,
        arrays={name: arrays[name] for name in STORED_ARRAYS},
        description=found.description + "; masks are 1 - terminals" * is_derived,
        warnings=tuple(notes),
    )


def rows_of(array: Array, valid: Flags) -> Iterator[Array]:
    """Return copies of the valid rows of an array piece by piece, so that no second full copy ever exists."""
    return (piece[kept] for piece, kept in zip(in_pieces(array), in_pieces(valid), strict=True))


# -- reading ----------------------------------------------------------------------------------------------------------


def _read(dataset: ArraySource) -> tuple[dict[str, Array], list[str]]:
    """Return the known arrays of a dataset, and the names of its other ones, which are not read from a file."""
    if isinstance(dataset, str | os.PathLike):
        path = Path(dataset).expanduser()
        if path.suffix != ".npz":
            raise ValueError(
                f"a dataset's path must name an .npz file, got {path}; save the arrays with `np.savez(path, **arrays)`"
            )
        if not path.exists():
            raise FileNotFoundError(f"expected a dataset at {path}, got nothing; check the path")
        names = list(read_npz_headers(path))
        found: Mapping[str, ArrayLike] = read_npz(path, KNOWN_ARRAYS)
    elif isinstance(dataset, Mapping):
        names, found = list(dataset), dataset
    else:
        raise TypeError(
            f"a dataset must be a mapping of names to arrays, the path of an .npz file or `Shards`, got "
            f"{type(dataset).__name__}; give e.g. a dict with {', '.join(STORED_ARRAYS)} and next_observations"
        )
    arrays = {name: _as_array(name, found[name]) for name in KNOWN_ARRAYS if name in found}
    return arrays, [name for name in names if name not in KNOWN_ARRAYS]


def _as_array(name: str, values: ArrayLike) -> Array:
    """Return values as an array of numbers, without a copy if they are one already."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"dataset array `{name}` must be an array of numbers, got a {type(values).__name__} that NumPy cannot turn "
            f"into one ({error}); make all its rows equally long, or convert it first"
        ) from error
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"dataset array `{name}` must hold numbers, got dtype {array.dtype}; convert it, e.g. to np.float32"
        )
    return array


# -- names ------------------------------------------------------------------------------------------------------------


def _require_arrays(arrays: Mapping[str, Any], others: Collection[str]) -> None:
    """Refuse a dataset in which an array is missing that cannot be derived."""
    derived = {"masks"} if "timeouts" in arrays and "terminals" in arrays else set()
    missing = [name for name in STORED_ARRAYS if name not in arrays and name not in derived]
    close = "".join(f"; `{name}` may be meant as `{known}`" for name, known in _close_names(arrays, others).items())
    if "rewards" in missing and "qpos" in others and not close:
        raise ValueError(
            "a dataset needs `rewards`, got OGBench's raw arrays (`qpos`, no `rewards`): rewards belong to a task. "
            "Load them for one with `zoo.datasets.load.load_dataset(env_name).content`, or with "
            "`ogbench.make_env_and_datasets(env_name)`, where `env_name` is e.g. "
            "'cube-double-play-singletask-task2-v0'"
        )
    if missing:
        meaning = f". {WHAT_MASKS_ARE}" if "masks" in missing else ""
        raise ValueError(
            f"a dataset needs the arrays {', '.join(STORED_ARRAYS)}; missing: {', '.join(missing)}{close}{meaning}"
        )
    if "next_observations" not in arrays and "valids" not in arrays:
        raise ValueError(
            f"a dataset needs `next_observations` (regular layout) or `valids` (compact layout), got neither{close}"
        )


def _close_names(arrays: Mapping[str, Any], others: Collection[str]) -> dict[str, str]:
    """Return the unknown names that look like the name of an array that is missing: {unknown: known}."""
    layout = {"next_observations", "valids"}
    missing = {name for name in KNOWN_ARRAYS if name not in arrays and not (name in layout and layout & arrays.keys())}
    closest = {
        name: OTHER_NAMES.get(name) or next(iter(difflib.get_close_matches(name, missing, 1, 0.75)), "")
        for name in others
    }
    return {name: known for name, known in closest.items() if known in missing}


# -- shapes and values ------------------------------------------------------------------------------------------------


def _require_shapes(arrays: Arrays, obs_shape: Shape, action_dim: int) -> None:
    """Refuse arrays whose shapes do not fit together, or the environment."""
    rows = len(arrays["observations"]) if arrays["observations"].ndim else 0
    row_shapes = {"observations": obs_shape, "next_observations": obs_shape, "actions": (action_dim,)}
    for name, array in arrays.items():
        shape = (rows, *row_shapes.get(name, ()))
        if array.shape != shape or rows == 0:
            raise ValueError(f"dataset array `{name}` must have shape {shape} with at least one row, got {array.shape}")


def _arrange_images(arrays: dict[str, Array], shape: Shape) -> None:
    """Put the channels of images first, as they are stored; refuse images that are not uint8."""
    for name in {"observations", "next_observations"} & arrays.keys():
        if arrays[name].dtype != np.uint8:
            raise ValueError(
                f"dataset array `{name}` must hold images as uint8 from 0 to 255, got {arrays[name].dtype}; convert "
                "them, e.g. `(255 * images).round().astype(np.uint8)` where they are from 0 to 1"
            )
        arrays[name] = channels_first(arrays[name], shape)


def refuse_bad(name: str, array: Array, wanted: str, rows: Flags | None = None) -> None:
    """Refuse an array with an entry that is not what is `wanted`, in some rows (None: in all), naming the first."""
    if array.dtype.kind == "b" or (wanted == FINITE and array.dtype.kind != "f"):
        return
    begin = 0
    for piece in in_pieces(array):
        piece = piece.reshape(len(piece), -1)
        bad = ~np.isfinite(_single(piece)) if wanted == FINITE else (piece != 0) & (piece != 1)
        if rows is not None:
            bad &= rows[begin : begin + len(piece), None]
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise ValueError(
                f"dataset array `{name}` must hold {wanted}, got {piece[row, column]} in row {begin + row}; correct "
                "that row, or leave its trajectory out"
            )
        begin += len(piece)


def _single(piece: Array) -> Array:
    """Return values as they are stored; those that are too large become infinite."""
    if piece.dtype == np.uint8:  # single precision has all of these numbers
        return piece
    with np.errstate(over="ignore"):
        return np.asarray(piece, dtype=np.float32)


def doubt_of_limits(timeouts: Array, masks: Array, is_derived: bool) -> str:
    """Return a warning about time limits at which the task is said to terminate; empty if there are none.

    :param timeouts: 1 where a trajectory ends at a time limit, (n,).
    :param masks: 0 where the task terminates, (n,).
    :param is_derived: whether masks are 1 - terminals.
    :return: the warning.
    :raises ValueError: if that is so at every time limit, and `terminals` alone say it.
    """
    limits = timeouts > 0
    both, count = int((limits & (masks == 0)).sum()), int(limits.sum())
    if is_derived and 0 < both == count:
        raise ValueError(
            "`masks` can be derived as 1 - terminals only where `terminals` leaves out the time limits, got "
            "`terminals` = 1 in every row whose `timeouts` is 1; give `masks`, e.g. "
            f"`masks = 1 - terminals * (1 - timeouts)` if those {count:,} trajectories were only cut off"
        )
    if not both:
        return ""
    return (
        f"{both:,} of {count:,} time limits are marked as terminations too, so that no value follows them; correct "
        "that if these trajectories were only cut off"
    )


# -- where trajectories end -------------------------------------------------------------------------------------------


def _compact_ends(arrays: Arrays) -> Transitions:
    """Read the ends of OGBench's compact layout from `valids`."""
    valid, terminals = arrays["valids"] > 0, arrays["terminals"] > 0
    followed_by_end = np.append(~valid[1:], False)
    if not valid[0] or valid[-1] or not np.array_equal(valid & terminals, followed_by_end):
        raise ValueError(
            "in a compact dataset every trajectory ends with one row whose `valids` is 0, after a transition "
            "whose `terminals` is 1; this one does not, load it with `compact_dataset=True`"
        )
    if "timeouts" in arrays:
        wrong = np.flatnonzero((arrays["timeouts"] > 0) & valid & ~followed_by_end)
        if len(wrong):
            raise ValueError(
                "in a compact dataset `valids` says where trajectories end, got `timeouts` = 1 inside a trajectory, "
                f"in {len(wrong):,} rows, first in row {wrong[0]}; leave `timeouts` out, or correct one of the two"
            )
    return compact_transitions(arrays)


def compact_transitions(arrays: Arrays) -> Transitions:
    """Return the transitions of a compact dataset that is known to be sound.

    :param arrays: those of `STORED_ARRAYS`, and ``valids``.
    :return: the transitions.
    """
    valid = arrays["valids"] > 0
    ends = arrays["terminals"][valid] > 0
    count, terminated = int(ends.sum()), int((ends & (arrays["masks"][valid] == 0)).sum())
    description = f"{_size_text(ends)}; ends by terminals: {terminated:,}, by timeouts: {count - terminated:,}"
    stored = {name: arrays[name] for name in STORED_ARRAYS}
    return Transitions(stored, valid, ends, arrays["observations"][~valid], description)


def _regular_ends(arrays: Arrays) -> Transitions:
    """Read the ends of the regular layout: by `terminals`, by `timeouts`, and where the next row does not follow."""
    ends = arrays["terminals"] > 0
    clauses = [f"ends by terminals: {int(ends.sum()):,}"]
    if "timeouts" in arrays:
        limits = (arrays["timeouts"] > 0) & ~ends
        clauses.append(f"by timeouts: {int(limits.sum()):,}")
        ends |= limits
    following = zip(in_pieces(arrays["next_observations"][:-1]), in_pieces(arrays["observations"][1:]), strict=True)
    # in single precision, as both are stored
    differ = [(_single(after) != _single(row)).reshape(len(row), -1).any(1) for after, row in following]
    broken = np.concatenate([*differ, [False]]) & ~ends
    count = int(broken.sum())
    clauses.append(f"where the next row does not follow: {count:,}")
    ends |= broken
    if not ends[-1]:
        clauses.append("at the last row: 1")
        ends[-1] = True
    description = f"{_size_text(ends)}; {', '.join(clauses)}"
    return Transitions(arrays, np.ones_like(ends), ends, arrays["next_observations"][ends], description, broken=count)


def require_chunks(ends: Flags, horizon_length: int, likely_cause: str | None = None) -> None:
    """Refuse data in which hardly any chunk stays inside a trajectory.

    :param ends: which transitions end a trajectory, (n,).
    :param horizon_length: H, the transitions of a chunk.
    :param likely_cause: what to say instead of how long the trajectories are.
    :raises ValueError: if fewer than a hundredth of the rows begin a chunk that stays inside its trajectory.
    """
    lengths = np.diff(np.flatnonzero(ends), prepend=-1)
    rows, starts = len(ends), int(np.maximum(lengths - horizon_length + 1, 0).sum())
    if horizon_length == 1 or starts >= LEAST_SHARE * rows:
        return
    why = likely_cause or (
        f"there are {len(lengths):,} trajectories, the longest of {lengths.max(initial=0):,} transitions. Correct "
        "`terminals` and `timeouts` if there should be fewer, or use a smaller `horizon_length`"
    )
    raise ValueError(
        f"a chunk of `horizon_length` = {horizon_length} transitions must stay inside one trajectory, got {starts:,} "
        f"of {rows:,} rows that begin such a chunk: {why}"
    )


def _broken_message(found: Transitions) -> str:
    """Return what is said about ends that neither `terminals` nor `timeouts` mark."""
    return (
        f"{found.broken:,} of {int(found.ends.sum()):,} trajectories end only because `next_observations` is not the "
        "next row's observation. Set `timeouts` to 1 in those rows if they do end there. If not, something is wrong. "
        "Likely causes: the transitions were shuffled; the two arrays differ in precision (one was made in float64, "
        "the other in float32); or only one of them was normalised. Give the transitions in the order they happened, "
        "or train on single ones with `horizon_length=1`"
    )


def _size_text(ends: Flags) -> str:
    """Return how large a dataset is, given which transitions end a trajectory."""
    return f"dataset: {len(ends):,} transitions, {int(ends.sum()):,} trajectories"


# -- the range of actions ---------------------------------------------------------------------------------------------


def in_pieces(array: Array) -> Iterator[Array]:
    """Return views of an array, (rows, ...), of `PIECE_ROWS` rows each."""
    return (array[begin : begin + PIECE_ROWS] for begin in range(0, len(array), PIECE_ROWS))


def clipped_message(clipped: int, rows: int, excess: float) -> str:
    """Return the warning about actions that will be clipped; ``excess`` is how far out the furthest of them is."""
    return (
        f"`actions` that a rounding error took out of their range are clipped: {clipped:,} of {rows:,} rows, by up to "
        f"{excess:.2g}"
    )


@dataclass
class Outside:
    """The actions of a dataset that lie outside their range; values are compared in single precision.

    :param low: of the range, (A,).
    :param high: of the range, (A,).
    :param rows: how many were looked at.
    :param refused: rows too far outside to be rounding errors.
    :param clipped: rows outside by a rounding error.
    :param excess: how far outside the furthest of these is, in the actions' units.
    :param first: row and coordinate of what is refused first.
    :param value: which is there.
    :param span: the lowest and the highest action.
    """

    low: Array
    high: Array
    rows: int = 0
    refused: int = 0
    clipped: int = 0
    excess: float = 0.0
    first: tuple[int, int] | None = None
    value: float = 0.0
    span: tuple[float, float] = float("inf"), float("-inf")

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

    low: Array
    high: Array
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

    def scaled(self, actions: Array) -> Array:
        """Return actions (rows, A) in [-1, 1], clipping rounding errors; Stable-Baselines3 calls them scaled."""
        if self.scales:
            actions = 2.0 * ((actions - self.low) / (self.high - self.low)) - 1.0
        return np.clip(actions, -1.0, 1.0)

    def find_outside(self, pieces: Iterable[Array], kept: Flags | None = None) -> Outside | None:
        """Return what lies outside the range, or None if nothing does.

        :param pieces: the actions, (rows, A) each.
        :param kept: which rows count, over all pieces; None: all.
        :return: what was found.
        """
        low, high = (np.asarray(bound, np.float32) for bound in (self.low, self.high))
        # plus one step of single precision, which dominates for a narrow box far from zero
        tolerance = ROUNDING * (high - low) / 2 + np.spacing(np.maximum(np.abs(low), np.abs(high)))
        found, begin = Outside(low, high), 0
        for piece in pieces:
            rows = np.arange(begin, begin + len(piece))
            begin += len(piece)
            if kept is not None:
                piece, rows = piece[kept[rows]], rows[kept[rows]]
            if not len(piece):
                continue
            found.rows += len(piece)
            actions = _single(piece)
            lowest, highest = (float(extreme.reduce(actions, axis=None)) for extreme in (np.fmin, np.fmax))
            found.span = min(found.span[0], lowest), max(found.span[1], highest)
            excess = np.maximum(low - actions, actions - high)
            if np.max(excess) <= 0:  # not where one is NaN
                continue
            far = ~(excess <= tolerance)
            refused = far.any(1)
            clipped = (excess > 0).any(1) & ~refused
            found.refused += int(refused.sum())
            found.clipped += int(clipped.sum())
            found.excess = max(found.excess, float(excess[clipped].max(initial=0)))
            if found.first is None and refused.any():
                row, coordinate = np.argwhere(far)[0]
                found.first, found.value = (int(rows[row]), int(coordinate)), float(actions[row, coordinate])
        return found if found.refused or found.clipped else None


def _as_bounds(action_range: tuple[ArrayLike, ArrayLike], size: int) -> tuple[Array, Array]:
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


def _text(value: float | Array) -> str:
    """Return numbers as short as single precision allows."""
    return str(np.asarray(value, dtype=np.float32)[()])
