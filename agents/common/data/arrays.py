"""A user's dataset as arrays: converted, checked, and read for where its trajectories end.

`observations`, `actions`, `rewards`, `masks` and `terminals` hold all transitions in the order they happened, together
with `next_observations` (OGBench's regular layout) or `valids` (its compact one). Large arrays are copied only where
they must be converted.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agents.common.data.action_range import ActionRange, clipped_message, in_pieces
from agents.common.files.npz import read_npz, read_npz_headers
from agents.common.observations import channels_first

Arrays: TypeAlias = Mapping[str, ArrayLike]
Flags: TypeAlias = NDArray[np.bool_]

STORED_ARRAYS = ("observations", "actions", "rewards", "masks", "terminals")
KNOWN_ARRAYS = (*STORED_ARRAYS, "next_observations", "valids", "timeouts")
FLAGS = ("terminals", "timeouts", "valids")

# names in other libraries' datasets that look too little like ours to be recognised
OTHER_NAMES = {
    "obs": "observations", "next_obs": "next_observations", "acts": "actions",
    "done": "terminals", "dones": "terminals", "terminated": "terminals", "terminations": "terminals",
    "truncated": "timeouts", "truncations": "timeouts",
}  # fmt: skip

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

    arrays: Mapping[str, NDArray[Any]]
    valid: Flags
    ends: Flags
    final_observations: NDArray[Any]
    description: str
    warnings: tuple[str, ...] = ()
    broken: int = 0


ArraySource: TypeAlias = Arrays | Transitions | str | os.PathLike[str]


def prepare(
    dataset: ArraySource,
    obs_shape: tuple[int, ...],
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


def read_transitions(
    dataset: Arrays | str | os.PathLike[str], obs_shape: tuple[int, ...], action_size: int, images: bool = False
) -> Transitions:
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
        _require_flags(arrays, name)
    is_derived = "masks" not in arrays
    if is_derived:
        arrays["masks"] = ~(arrays["terminals"] > 0)
    found = _compact_ends(arrays) if "valids" in arrays else _regular_ends(arrays)
    _require_finite(arrays, found)
    _require_flags(arrays, "masks", found.valid)
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


def rows_of(array: NDArray[Any], valid: Flags) -> Iterator[NDArray[Any]]:
    """Return copies of the valid rows of an array piece by piece, so that no second full copy ever exists."""
    return (piece[kept] for piece, kept in zip(in_pieces(array), in_pieces(valid), strict=True))


# -- reading ----------------------------------------------------------------------------------------------------------


def _read(dataset: Any) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the known arrays of a dataset, and the names of its other ones."""
    if isinstance(dataset, str | os.PathLike):
        return _read_file(Path(dataset).expanduser())
    if not isinstance(dataset, Mapping):
        raise TypeError(
            f"a dataset must be a mapping of names to arrays, the path of an .npz file or `Shards`, got "
            f"{type(dataset).__name__}; give e.g. a dict with {', '.join(STORED_ARRAYS)} and next_observations"
        )
    arrays = {name: _as_array(name, dataset[name]) for name in KNOWN_ARRAYS if name in dataset}
    return arrays, [name for name in dataset if name not in KNOWN_ARRAYS]


def _read_file(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the known arrays of an ``.npz`` file, and the names of its other ones, which are not read."""
    if path.suffix != ".npz":
        raise ValueError(
            f"a dataset's path must name an .npz file, got {path}; save the arrays with `np.savez(path, **arrays)`"
        )
    if not path.exists():
        raise FileNotFoundError(f"expected a dataset at {path}, got nothing; check the path")
    names = list(read_npz_headers(path))
    found = read_npz(path, KNOWN_ARRAYS)
    arrays = {name: _as_array(name, found.pop(name)) for name in KNOWN_ARRAYS if name in found}
    return arrays, [name for name in names if name not in KNOWN_ARRAYS]


def _as_array(name: str, values: ArrayLike) -> NDArray[Any]:
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


def _require_shapes(arrays: Mapping[str, NDArray[Any]], obs_shape: tuple[int, ...], action_dim: int) -> None:
    """Refuse arrays whose shapes do not fit together, or the environment."""
    rows = len(arrays["observations"]) if arrays["observations"].ndim else 0
    row_shapes = {"observations": obs_shape, "next_observations": obs_shape, "actions": (action_dim,)}
    for name, array in arrays.items():
        shape = (rows, *row_shapes.get(name, ()))
        if array.shape != shape or rows == 0:
            raise ValueError(f"dataset array `{name}` must have shape {shape} with at least one row, got {array.shape}")


def _arrange_images(arrays: dict[str, NDArray[Any]], shape: tuple[int, ...]) -> None:
    """Put the channels of images first, as they are stored; refuse images that are not uint8."""
    for name in {"observations", "next_observations"} & arrays.keys():
        if arrays[name].dtype != np.uint8:
            raise ValueError(
                f"dataset array `{name}` must hold images as uint8 from 0 to 255, got {arrays[name].dtype}; convert "
                "them, e.g. `(255 * images).round().astype(np.uint8)` where they are from 0 to 1"
            )
        arrays[name] = channels_first(arrays[name], shape)


def _require_flags(arrays: Mapping[str, NDArray[Any]], name: str, rows: Flags | None = None) -> None:
    """Refuse values other than 0 and 1 in an array, if it is there."""
    if name in arrays and arrays[name].dtype.kind != "b":
        _refuse_bad(name, arrays[name], "0 or 1", lambda piece: (piece != 0) & (piece != 1), rows)


def _require_finite(arrays: Mapping[str, NDArray[Any]], found: Transitions) -> None:
    """Refuse values that single precision has no finite number for, in the rows that will be stored."""
    stored = {name: found.valid for name in ("actions", "rewards", "masks")}
    stored["observations"] = np.ones_like(found.valid)  # those after a trajectory's last transition too
    if "valids" not in arrays:
        stored["next_observations"] = found.ends  # the others were found equal to the next row
    for name, rows in stored.items():
        if arrays[name].dtype.kind == "f":
            _refuse_bad(name, arrays[name], "finite numbers", lambda piece: ~np.isfinite(_single(piece)), rows)


def _refuse_bad(
    name: str, array: NDArray[Any], wanted: str, is_bad: Callable[[NDArray[Any]], Flags], rows: Flags | None
) -> None:
    """Refuse an array with a bad entry in some rows (None: in all), naming the first."""
    begin = 0
    for piece in in_pieces(array):
        bad = is_bad(piece).reshape(len(piece), -1)
        if rows is not None:
            bad &= rows[begin : begin + len(piece), None]
        if bad.any():
            row, column = np.argwhere(bad)[0]
            value = piece.reshape(len(piece), -1)[row, column]
            raise ValueError(
                f"dataset array `{name}` must hold {wanted}, got {value} in row {begin + row}; correct that row, or "
                "leave its trajectory out"
            )
        begin += len(piece)


def _single(piece: NDArray[Any]) -> NDArray[Any]:
    """Return values as they are stored; those that are too large become infinite."""
    if piece.dtype == np.uint8:  # single precision has all of these numbers
        return piece
    with np.errstate(over="ignore"):
        return np.asarray(piece, dtype=np.float32)


def doubt_of_limits(timeouts: NDArray[Any], masks: NDArray[Any], is_derived: bool) -> str:
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


def _compact_ends(arrays: Mapping[str, NDArray[Any]]) -> Transitions:
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


def compact_transitions(arrays: Mapping[str, NDArray[Any]]) -> Transitions:
    """Return the transitions of a compact dataset that is known to be sound.

    :param arrays: those of `STORED_ARRAYS`, and ``valids``.
    :return: the transitions.
    """
    valid = arrays["valids"] > 0
    ends = arrays["terminals"][valid] > 0
    count, terminated = int(ends.sum()), int((ends & (arrays["masks"][valid] == 0)).sum())
    size = _size_text(len(ends), count)
    description = f"{size}; {_number(terminated)} by terminals, {count - terminated:,} by timeouts"
    stored = {name: arrays[name] for name in STORED_ARRAYS}
    return Transitions(stored, valid, ends, arrays["observations"][~valid], description)


def _number(count: int) -> str:
    return f"{count:,} {'ends' if count == 1 else 'end'}"


def _regular_ends(arrays: Mapping[str, NDArray[Any]]) -> Transitions:
    """Read the ends of the regular layout: by `terminals`, by `timeouts`, and where the next row does not follow."""
    ends = arrays["terminals"] > 0
    count = int(ends.sum())
    clauses = [f"{_number(count)} by terminals"]
    if "timeouts" in arrays:
        limits = (arrays["timeouts"] > 0) & ~ends
        clauses.append(f"{int(limits.sum()):,} by timeouts")
        ends |= limits
    broken = _broken_rows(arrays["observations"], arrays["next_observations"]) & ~ends
    count = int(broken.sum())
    clauses.append(f"{count:,} where the next row does not follow")
    ends |= broken
    if not ends[-1]:
        clauses.append("1 at the last row")
        ends[-1] = True
    description = f"{_size_text(len(ends), int(ends.sum()))}; {', '.join(clauses)}"
    return Transitions(arrays, np.ones_like(ends), ends, arrays["next_observations"][ends], description, broken=count)


def _broken_rows(observations: NDArray[Any], next_observations: NDArray[Any]) -> Flags:
    """Find the rows whose next observation is not the next row's, in single precision as both are stored."""
    pairs = zip(in_pieces(next_observations[:-1]), in_pieces(observations[1:]), strict=True)
    differ = [(_single(after) != _single(row)).reshape(len(row), -1).any(1) for after, row in pairs]
    return np.concatenate([*differ, [False]])


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


def _size_text(transitions: int, trajectories: int) -> str:
    """Return how large a dataset is."""
    return (
        f"dataset: {transitions:,} transition{'' if transitions == 1 else 's'} in "
        f"{trajectories:,} {'trajectory' if trajectories == 1 else 'trajectories'}"
    )
