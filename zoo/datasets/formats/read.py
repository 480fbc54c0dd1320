"""Sets of one's own: which format they are in, and what is read of them."""

from __future__ import annotations

from pathlib import Path

from agents.common.data.arrays import Transitions
from agents.common.files import DamagedFileError
from agents.common.files.npz import read_npz_headers
from zoo.datasets.files import ARRAYS
from zoo.datasets.formats.base import Format, ReadOptions, reject_options, warn
from zoo.datasets.formats.hdf5 import Hdf5
from zoo.datasets.formats.minari import MINARI, Minari, find_minari
from zoo.datasets.formats.npz import Episodes, Npz, Ocbench, npz_files
from zoo.datasets.formats.parquet import Parquet
from zoo.datasets.names import is_single_task
from zoo.terminal.errors import UsageError, as_usage_error

FORMATS: tuple[Format, ...] = (Ocbench(), Npz(), Minari(), Parquet(), Hdf5(), Episodes())
"""All formats; the first that matches reads a set."""


def find_format(source: str | Path) -> tuple[Path, Format | None]:
    """Return where a set is, and its format if it has one that is known."""
    path = find_minari(str(source)) if str(source).startswith(MINARI) else Path(source).expanduser()
    return path, next((each for each in FORMATS if each.matches(path)), None)


def require_format(source: str | Path) -> tuple[Path, Format]:
    """Return where a dataset is, and its format.

    :raises UsageError: if there is nothing, or nothing that can be read.
    """
    path, found = find_format(source)
    if not path.exists():
        raise UsageError(
            f"expected a dataset at {path}, got nothing; check the path, or give `{MINARI}ID`, or, for a task of a "
            "benchmark, auto, download or generate"
        )
    if found is None:
        content = ""
        if path.is_dir():
            extensions = sorted({file.suffix for file in path.iterdir() if file.suffix})
            content = f" with {', '.join(extensions[:9]) or 'no'} files"
        raise UsageError(
            "a dataset must be an .npz, .hdf5 or .parquet file, a folder of .npz or .parquet files or "
            f"`{MINARI}ID`, got {path}{content}; save arrays with `np.savez(path, **arrays)`, a table with "
            "`pandas.read_csv(file).to_parquet(path)`"
        )
    return path, found


@as_usage_error(DamagedFileError, OSError)
def has_rewards(source: str | Path, env: str = "") -> bool:
    """Return whether a dataset has rewards; OGBench's files have none, since they serve several tasks.

    :param env: in a task of OGBench, the rewards are those of the task, whatever else is in a file of its states.
    :raises UsageError: if there is no dataset, or its file is damaged.
    """
    if str(source).startswith(MINARI):
        return True
    if (Path(source).expanduser() / ARRAYS).is_dir():  # converted from OGBench's files, which may be gone since
        return False
    path, found = require_format(source)
    if not isinstance(found, Npz | Episodes):
        return True
    names = read_npz_headers(npz_files(path)[0])
    return "qpos" not in names or ("rewards" in names and not is_single_task(env))


def name_of(source: str | Path) -> str:
    """Return the name of a set in a run's record."""
    text = str(source)
    return text if text.startswith(MINARI) else Path(text).expanduser().stem


def environment_of(source: str | Path) -> str | None:
    """Return the id of the environment that a set was recorded in, where it says so."""
    path, found = find_format(source)
    return None if found is None else found.environment(path)


@as_usage_error(DamagedFileError, OSError)
def read_source(source: str | Path, options: ReadOptions | None = None) -> Transitions:
    """Return a set's transitions, checked for what any set must be.

    Nothing in it is executed or unpickled, and no environment is made.

    :raises UsageError: if it cannot be read or trained on, with what to do.
    """
    path, found = require_format(source)
    if isinstance(found, Parquet) and npz_files(path):
        warn(str(path), "its .npz files are not read beside its .parquet files; keep them in folders apart")
    options = options or ReadOptions()
    reject_options(path, options, found.supported)
    return found.read(path, options)
