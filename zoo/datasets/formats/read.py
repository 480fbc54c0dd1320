"""Find the format of a user's dataset and read its data; the formats of array files are defined here, too."""

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from agents.common.data.arrays import KNOWN_ARRAYS, Transitions, check_timeouts
from agents.common.files import DamagedFileError
from agents.common.files.npz import read_npz, read_npz_headers
from zoo.datasets.files import ARRAYS, RECORD, check_checksum, checksum_file
from zoo.datasets.formats.base import (
    Arrays,
    Format,
    Metadata,
    add_rewards,
    episode_of,
    joined,
    masks_of,
    require_flags,
    require_keys,
    transitions_of,
    transitions_of_rows,
    warn,
)
from zoo.datasets.formats.hdf5 import EXTENSIONS, opened, read_array
from zoo.datasets.formats.minari import MINARI, Minari, find_minari
from zoo.datasets.formats.parquet import Parquet
from zoo.datasets.formats.robomimic import Robomimic
from zoo.datasets.names import is_single_task
from zoo.terminal.errors import UsageError, as_usage_error

_EPISODE_ARRAYS = ("observations", "actions", "rewards", "terminated", "masks")


class ArrayFile(Format):
    """An npz or HDF5 file of arrays in any layout that `docs/data.md` describes."""

    has_success = True

    def read(self, path: Path, reward_from: str | None = None) -> Transitions:
        """Return the transitions."""
        name = str(path)
        if checksum_file(path).exists():  # computing a checksum takes seconds per gigabyte
            check_checksum(path)
        arrays = _read(path, KNOWN_ARRAYS, reward_from)
        if "next_observations" in arrays or "valids" in arrays:
            return transitions_of(name, arrays)
        advice = "they mark the ends of trajectories; add them, or add `next_observations`"
        require_keys(name, arrays, ("terminals", "timeouts"), advice)
        flags = {}
        for key in ("terminals", "timeouts", "masks"):
            if key in arrays:
                flags[key] = require_flags(name, key, arrays[key], len(arrays["actions"]))
        masks = flags.get("masks", ~flags["terminals"])
        with as_usage_error():
            doubt = check_timeouts(flags["timeouts"], masks, "masks" not in flags)
        if doubt:
            warn(name, doubt)
        return transitions_of_rows(name, arrays, flags["terminals"] | flags["timeouts"], masks)


class Episodes(Format):
    """A folder of npz files, one for each episode."""

    has_success = True

    def matches(self, path: Path) -> bool:
        """Return whether the folder contains npz files."""
        return bool(npz_files(path))

    def read(self, path: Path, reward_from: str | None = None) -> Transitions:
        """Return the transitions."""
        episodes = {}
        for file in npz_files(path):
            name = str(file)
            arrays = _read(file, _EPISODE_ARRAYS, reward_from)
            if "masks" not in arrays:
                advice = "add it, 1 if the task ended the episode and 0 if it was truncated, or add `masks`"
                require_keys(name, arrays, ["terminated"], advice)
                arrays["masks"] = masks_of(name, arrays["terminated"], len(arrays["actions"]))
            parts = (arrays[key] for key in ("observations", "actions", "rewards", "masks"))
            episodes[name] = episode_of(name, *parts)
        return joined(str(path), episodes)


def npz_files(path: Path) -> list[Path]:
    """Return the npz files in a folder, without hidden and validation files."""
    # a link to a missing file is kept, so that reading it raises an error
    files = [file for file in sorted(path.iterdir()) if file.suffix == ".npz" and not file.is_dir()]
    # When macOS copies files to other disks, it leaves hidden files such as `._000.npz` next to them.
    return [file for file in files if not (file.name.startswith(".") or file.stem.endswith("-val"))]


def _read(path: Path, names: Collection[str], reward_from: str | None) -> Arrays:
    """Return the arrays of a file whose names are in `names`; rewards are derived from success if requested."""
    name = str(path)
    if reward_from:
        names = (*names, reward_from)
    required = ("observations", "actions", reward_from or "rewards")
    if path.suffix.lower() in EXTENSIONS:
        with opened(path) as stored:
            require_keys(name, stored, required)
            arrays = {key: read_array(name, stored, key) for key in names if key in stored}
    else:
        require_keys(name, read_npz_headers(path), required)
        arrays = read_npz(path, names)
    for key in ("observations", "actions"):
        arrays[key] = np.atleast_1d(arrays[key])  # later checks reject a scalar for its shape
    add_rewards(name, arrays, reward_from)
    return arrays


FOLDER = "folder"
FORMATS: dict[str, tuple[Format, ...]] = {
    ".npz": (ArrayFile(),),
    ".parquet": (Parquet(),),
    # Minari before Parquet, because Minari's files may be parquet
    FOLDER: (Minari(), Parquet(), Episodes()),
    **dict.fromkeys(EXTENSIONS, (Robomimic(), ArrayFile())),
}
"""Extension of a file, or `FOLDER` -> possible formats; the first one that matches reads the dataset."""


@as_usage_error(OSError)
def require_format(source: str | Path) -> tuple[Path, Format]:
    """Return the path and the format of a dataset.

    :raises UsageError: if the dataset does not exist or cannot be read.
    """
    path = Path(os.path.expanduser(source))  # unlike pathlib's, it accepts an unknown home folder
    if str(source).startswith(MINARI):
        path = find_minari(str(source))
    if not path.exists():
        raise UsageError(
            f"there is no dataset at {path}; check the path, or pass `{MINARI}ID` or, for a benchmark's task, auto, "
            "download or generate"
        )
    if not (path.is_dir() or path.is_file()):  # reading a pipe could block forever
        raise UsageError(f"a dataset must be a file or a folder, got {path}, which is neither")
    kind = FOLDER if path.is_dir() else path.suffix.lower()
    for candidate in FORMATS.get(kind, ()):
        if candidate.matches(path):
            if isinstance(candidate, Parquet) and path.is_dir() and npz_files(path):
                raise UsageError(f"{path} has .npz and .parquet files; keep only one kind of them")
            return path, candidate
    raise UsageError(
        "a dataset must be an .npz, .hdf5 or .parquet file, a folder of .npz or .parquet files, or "
        f"`{MINARI}ID`, got {path}; save arrays with `np.savez(path, **arrays)`, a table with "
        "`pandas.read_csv(file).to_parquet(path)`"
    )


@as_usage_error(DamagedFileError, OSError)
def has_rewards(source: str | Path, env: str = "") -> bool:
    """Return whether a dataset has rewards; OGBench's files have none, because each file serves several tasks.

    :param env: the environment; for an OGBench task, rewards are computed and the file's rewards are ignored.
    :raises UsageError: if the dataset does not exist or its file is damaged.
    """
    if str(source).startswith(MINARI):
        return True
    # Converted arrays come from OGBench's files, which may have been deleted after the conversion.
    if any(Path(os.path.expanduser(source)).glob(f"{ARRAYS}/*/{RECORD}")):
        return False
    path, source_format = require_format(source)
    file = path
    if isinstance(source_format, Episodes):
        file = npz_files(path)[0]
    if file.suffix.lower() != ".npz":
        return True
    names = read_npz_headers(file)
    has_own = "rewards" in names or "success" in names
    return "qpos" not in names or (has_own and not is_single_task(env))


def name_of(source: str | Path) -> str:
    """Return the name under which a run records a dataset."""
    text = str(source)
    if text.startswith(MINARI):
        return text
    path = Path(text).expanduser()
    return path.name if path.is_dir() else path.stem


def metadata_of(source: str | Path) -> Metadata:
    """Return the metadata of a dataset."""
    path, source_format = require_format(source)
    return source_format.metadata(path)


@as_usage_error(DamagedFileError, OSError)
def read_source(source: str | Path, reward_from: str | None = None) -> Transitions:
    """Return a dataset's transitions, checked as far as possible without an environment.

    Nothing in the dataset is executed or unpickled, and no environment is created.

    :raises UsageError: if the dataset cannot be read or trained on; the message contains a remedy.
    """
    path, source_format = require_format(source)
    if reward_from and not source_format.has_success:
        raise UsageError(f"{path} has rewards; leave out `--reward-from`")
    return source_format.read(path, reward_from)
