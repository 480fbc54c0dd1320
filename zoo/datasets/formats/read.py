"""Sets of one's own, in any format that is read: Minari, parquet, D4RL's and robomimic's HDF5, OCBench's, npz files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agents.common.data.action_range import ActionRange
from agents.common.data.arrays import KNOWN_ARRAYS, prepare
from agents.common.files import DamagedFile
from agents.common.files.bounded import read_npz, read_npz_headers
from agents.common.validation import unknown_name_message
from zoo.datasets.check import check_checksum, error_messages
from zoo.datasets.formats.episodes import (
    Arrays,
    Episode,
    checked_episode,
    join,
    masks_of,
    require_continuous,
    require_flags,
    require_keys,
    require_observations,
    require_rows,
)
from zoo.datasets.formats.hdf5 import (
    MINARI,
    find_minari,
    minari_environment,
    minari_references,
    read_hdf5,
    read_minari,
    robomimic_environment,
)
from zoo.datasets.formats.ocbench import is_ocbench_format, read_ocbench
from zoo.datasets.formats.parquet import COLUMNS, is_parquet, read_parquet
from zoo.errors import UsageError, as_usage_error
from zoo.terminal.messages import log

HDF5_SUFFIXES = (".hdf5", ".h5")
_EPISODE_ARRAYS = ("observations", "actions", "rewards", "terminated", "masks")
_WIDEST = np.float32(1e38)


@dataclass(frozen=True)
class Reading:
    """What a format leaves open.

    :param columns: what is read -> its name in the files, see `zoo.datasets.formats.parquet.COLUMNS`.
    :param step_reward: the reward of every step of a set that has none.
    :param done: what ends the episodes of a set that does not say: ``terminated`` or ``truncated``.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    step_reward: float | None = None
    done: str | None = None

    def __post_init__(self) -> None:
        for name in self.columns:
            if name not in COLUMNS:
                raise UsageError(unknown_name_message("name in `--columns`", name, COLUMNS))


PLAIN = Reading()


def is_own(source: str | Path) -> bool:
    """Return whether a set has rewards of its own; OGBench's files have none, since they serve several tasks."""
    if str(source).startswith(MINARI):
        return True
    path = Path(source).expanduser()
    if path.suffix in HDF5_SUFFIXES or (path.exists() and is_parquet(path)):
        return True
    files = _npz_files(path)
    if not files:
        return find_minari(path) is not None
    try:
        return "qpos" not in read_npz_headers(files[0]) or is_ocbench_format(files)
    except (DamagedFile, OSError):
        return False  # OGBench's own check says more


def name_of(source: str | Path) -> str:
    """Return the name of a set in a run's record."""
    text = str(source)
    return text if text.startswith(MINARI) else Path(text).expanduser().stem


def environment_of(source: str | Path) -> str | None:
    """Return the id of the environment that a set was recorded in, where it says so."""
    if folder := find_minari(source):
        return minari_environment(folder)
    path = Path(source).expanduser()
    return robomimic_environment(path)[0] if path.suffix in HDF5_SUFFIXES and path.is_file() else None


def references_of(source: str | Path) -> tuple[float, float] | None:
    """Return the returns of a random and of an expert policy, where a set says them."""
    folder = find_minari(source)
    return None if folder is None else minari_references(folder)


@as_usage_error(DamagedFile)
def read_source(source: str | Path, reading: Reading = PLAIN) -> Arrays:
    """Return a set in OGBench's compact layout, checked for what any set must be.

    Nothing in it is executed or unpickled, and no environment is made.

    :raises UsageError: if it cannot be read or trained on, with what to do.
    """
    path, folder = Path(source).expanduser(), find_minari(source)
    if folder is None and not path.exists():
        raise UsageError(f"expected a dataset at {path}, got nothing; check the path, or give `{MINARI}ID`")
    if folder is None and is_parquet(path):
        return _from_rows(str(path), read_parquet(path, reading.columns), reading)
    found: Arrays | Sequence[Episode] | Iterator[Episode]
    if path.suffix in HDF5_SUFFIXES:
        found = read_hdf5(path, {*KNOWN_ARRAYS, *reading.columns.values()})
        if isinstance(found, dict):
            return _from_d4rl(str(path), found, reading)
        _warn_of_earlier_simulator(path)
    elif folder is not None:
        found = read_minari(folder)
    else:
        found = _read_npz_files(path)
    if reading != PLAIN:
        raise UsageError(
            f"{source} is in a format whose arrays have fixed names and meanings; leave out `--columns`, "
            "`--step-reward` and `--done`"
        )
    return _from_arrays(str(source), found if isinstance(found, dict) else join(str(source), found))


def _warn_of_earlier_simulator(path: Path) -> None:
    version = robomimic_environment(path)[1]
    if version is not None and not version.startswith("1.5"):
        warnings.warn(
            f"{path} was recorded with robosuite {version}, whose controllers and sensors differ from those of "
            "1.5, which is used here; get low_dim_v15.hdf5 instead",
            stacklevel=4,
        )


# -- npz --------------------------------------------------------------------------------------------------------------


def _npz_files(path: Path) -> list[Path]:
    """Return the npz files of a folder, except those for validation; or a file, if it is one."""
    if not path.is_dir():
        return [path] * (path.suffix == ".npz")
    return sorted(file for file in path.glob("*.npz") if not file.stem.endswith("-val"))


def _read_npz_files(path: Path) -> Arrays | Iterator[Episode]:
    """Return the arrays of an npz file, or the episodes of a folder of npz files or of OCBench's."""
    files = _npz_files(path)
    if not files:
        raise UsageError(
            f"a dataset must be an .npz, .hdf5 or .parquet file, a folder of such files or `{MINARI}ID`, got {path}; "
            "save arrays with `np.savez(path, **arrays)`"
        )
    if is_ocbench_format(files) or not path.is_dir():
        for file in files:
            if damaged := error_messages(check_checksum(file)[1]):
                what = "; ".join(damaged)
                raise UsageError(f"{file} cannot be used: {what}; make it again, or remove {file.name}.sha256")
    if is_ocbench_format(files):
        return read_ocbench(files)
    return _read_episodes(files) if path.is_dir() else _read_npz(path, KNOWN_ARRAYS)


def _read_npz(path: Path, names: Sequence[str]) -> Arrays:
    require_keys(str(path), read_npz_headers(path), ("observations", "actions", "rewards"))
    return read_npz(path, names)


def _read_episodes(files: Sequence[Path]) -> Iterator[Episode]:
    for path in files:
        arrays = _read_npz(path, _EPISODE_ARRAYS)
        if "masks" not in arrays:
            if "terminated" not in arrays:
                raise UsageError(
                    f"{path} must have `terminated`, 1 if the task ended the episode and 0 if it was cut off, or "
                    "`masks`; add it"
                )
            arrays["masks"] = masks_of(str(path), arrays["terminated"], len(arrays["actions"]))
        yield checked_episode(str(path), *(arrays[name] for name in ("observations", "actions", "rewards", "masks")))


def _from_arrays(name: str, arrays: Arrays) -> Arrays:
    """Return arrays in any layout that `docs/datasets.md` describes in the compact one."""
    observations = arrays["observations"]
    require_observations(name, observations)
    require_continuous(name, arrays["actions"])
    is_image, size = observations.ndim == 4, arrays["actions"].shape[1]
    box = ActionRange(np.full(size, -_WIDEST), np.full(size, _WIDEST), scales=False)
    try:
        found = prepare(arrays, observations.shape[1:], box, images=is_image)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} cannot be used: {error}") from error
    for note in found.warnings:
        warnings.warn(f"{name}: {note}", stacklevel=3)
    kinds = {"observations": np.uint8} if is_image else {}
    stored = {key: np.asarray(array, kinds.get(key, np.float32)) for key, array in found.arrays.items()}
    if "valids" in arrays:
        return stored | {"valids": found.valid.astype(np.float32)}
    index = np.repeat(np.arange(len(found.ends)), 1 + found.ends)
    last = np.append(index[1:] != index[:-1], True) & found.ends[index]
    compact = {key: array[index] for key, array in stored.items()}
    compact["observations"][last] = found.final_observations.reshape(-1, *observations.shape[1:])
    for key, value in (("actions", 0.0), ("rewards", 0.0), ("masks", 1.0)):
        compact[key][last] = value
    compact["terminals"] = found.ends[index].astype(np.float32)
    return compact | {"valids": (~last).astype(np.float32)}


# -- rows without a next observation ----------------------------------------------------------------------------------


def _from_d4rl(name: str, arrays: Arrays, reading: Reading) -> Arrays:
    """Return D4RL's arrays in the compact layout."""
    for key, column in reading.columns.items():
        if column not in arrays:
            raise UsageError(unknown_name_message("array", column, arrays))
        arrays[{"terminated": "terminals"}.get(key, key)] = arrays.pop(column)
    require_keys(name, arrays, ("observations", "actions", "terminals"))
    _add_rewards(name, arrays, reading)
    if reading.done is not None:
        if "timeouts" in arrays:
            raise UsageError(f"{name} has `timeouts`, which say where trajectories were cut off; leave out `--done`")
        ended, none = arrays["terminals"], np.zeros(len(arrays["terminals"]), bool)
        arrays["terminals"], arrays["timeouts"] = (ended, none) if reading.done == "terminated" else (none, ended)
    if "next_observations" in arrays and len(arrays["next_observations"]) == len(arrays["observations"]):
        arrays.setdefault("timeouts", np.zeros(len(arrays["actions"]), bool))
        return _from_arrays(name, {key: array for key, array in arrays.items() if key in KNOWN_ARRAYS})
    if "timeouts" not in arrays:
        raise UsageError(
            f"{name} must have `timeouts`, 1 where a trajectory was cut off, or `next_observations`: without them "
            "trajectories run into one another; add one of them, or `--done` if `terminals` marks every end"
        )
    terminated, cut = (
        require_flags(name, key, arrays[key], len(arrays["actions"])) for key in ("terminals", "timeouts")
    )
    return _from_ends(name, arrays, terminated | cut, terminated)


def _from_rows(name: str, rows: Arrays, reading: Reading) -> Arrays:
    """Return rows of episodes, as LeRobot has them, in the compact layout."""
    for key in ("observations", "actions"):
        if rows[key].ndim == 1:
            rows[key] = rows[key][:, None]
    steps = len(rows["actions"])
    if steps == 0:
        raise UsageError(f"{name} must hold an episode with a transition, got no row; give another set")
    number = rows.get("episode", rows["file"])
    ends = np.append(number[1:] != number[:-1], True)
    if "frame" not in rows:  # nothing says whether an episode goes on in the next file
        ends |= np.append(rows["file"][1:] != rows["file"][:-1], True)
    if "done" in rows and "episode" not in rows:
        ends |= require_flags(name, "done", rows["done"], steps)
    _require_in_order(name, rows, ends)
    _add_rewards(name, rows, reading)
    return _from_ends(name, rows, ends, _terminated(name, rows, ends, reading))


def _require_in_order(name: str, rows: Arrays, ends: np.ndarray) -> None:
    """Refuse episodes that are mixed or have gaps."""
    begins = np.flatnonzero(np.append(True, ends[:-1]))
    if "episode" in rows and len(np.unique(rows["episode"])) < len(begins):
        raise UsageError(
            f"{name}: the rows of an episode must follow one another, got them mixed, or in several files; sort them, "
            "and give each episode an index of its own"
        )
    if "frame" in rows:
        number = np.arange(len(ends)) - np.repeat(begins, np.diff(np.append(begins, len(ends))))
        wrong = np.flatnonzero(rows["frame"] != number)
        if len(wrong):
            raise UsageError(
                f"{name}: the frames of an episode must be 0, 1, 2, ..., got {rows['frame'][wrong[0]]} instead of "
                f"{number[wrong[0]]} in row {wrong[0]}; sort them, and keep frames that are missing out of an episode"
            )


def _terminated(name: str, rows: Arrays, ends: np.ndarray, reading: Reading) -> np.ndarray:
    """Return where an episode ends because its task did."""
    if reading.done is not None:
        return ends if reading.done == "terminated" else np.zeros_like(ends)
    flags = rows.get("terminated", rows.get("success"))
    if flags is None:
        raise UsageError(
            f"{name} does not say why its episodes end; add `--done terminated` if the task ends them, so that nothing "
            "comes after, or `--done truncated` if the recording was only cut off"
        )
    if "terminated" in rows and (flags[~ends] > 0).any():
        row = int(np.argmax((flags > 0) & ~ends))
        raise UsageError(f"{name}: an episode goes on after it has terminated in row {row}; split it there")
    return (flags > 0) & ends


def _add_rewards(name: str, rows: Arrays, reading: Reading) -> None:
    """Give each step the same reward where there is none."""
    if "rewards" in rows:
        if reading.step_reward is not None:
            raise UsageError(f"{name} has rewards; leave out `--step-reward`")
        return
    if reading.step_reward is None:
        raise UsageError(
            f"{name} has no rewards; name their column with `--columns rewards=NAME`, or give each step the same one "
            "with `--step-reward -1`"
        )
    rows["rewards"] = np.full(len(rows["actions"]), reading.step_reward, np.float32)


def _from_ends(name: str, rows: Arrays, ends: np.ndarray, terminated: np.ndarray) -> Arrays:
    """Return trajectories whose last observations are missing, given where they end, in the compact layout.

    Where a trajectory terminates nothing is bootstrapped from what follows, so its last observation is repeated. Where
    it was cut off its last action and reward are dropped, and the observation before them is the last one.
    """
    for key in ("observations", "rewards"):
        require_rows(name, key, rows[key], len(rows["actions"]))
    is_cut = np.append(ends[:-1], True) & ~terminated
    kept = np.flatnonzero(~is_cut)
    if not len(kept):
        raise UsageError(f"{name} must hold an episode with a transition, got none; give another set")
    arrays = {key: rows[key][kept] for key in ("observations", "actions", "rewards")}
    arrays["next_observations"] = rows["observations"][kept + ~terminated[kept]]
    arrays["masks"] = 1.0 - terminated[kept]
    arrays["terminals"] = (terminated | np.append(is_cut[1:], False))[kept]
    log.info(
        "%s has no observation after the last action: repeated in %d trajectories, which terminate; in the others, "
        "which were cut off, the last transition is dropped",
        *(name, int(terminated.sum())),
    )
    return _from_arrays(name, arrays)
