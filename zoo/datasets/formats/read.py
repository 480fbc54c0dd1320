"""Sets of one's own: which format they are in, and what is read of them."""

from __future__ import annotations

from pathlib import Path

from agents.common.data.arrays import Transitions
from agents.common.files import DamagedFile
from agents.common.files.npz import read_npz_headers
from zoo.datasets.formats.base import Format, ReadOptions, reject_options
from zoo.datasets.formats.hdf5 import Hdf5
from zoo.datasets.formats.minari import MINARI, Minari, find_minari
from zoo.datasets.formats.npz import Episodes, Npz, Ocbench, npz_files
from zoo.datasets.formats.parquet import Parquet
from zoo.terminal.errors import UsageError, as_usage_error

FORMATS: tuple[Format, ...] = (Ocbench(), Npz(), Minari(), Parquet(), Hdf5(), Episodes())
"""All formats; the first that matches reads a set."""


def find_format(source: str | Path) -> tuple[Path, Format | None]:
    """Return where a set is, and its format if it has one that is known."""
    path = find_minari(str(source)) if str(source).startswith(MINARI) else Path(source).expanduser()
    return path, next((each for each in FORMATS if each.matches(path)), None)


def has_rewards(source: str | Path) -> bool:
    """Return whether a set has rewards of its own; OGBench's files have none, since they serve several tasks."""
    if str(source).startswith(MINARI):
        return True
    path, found = find_format(source)
    if not isinstance(found, Npz | Episodes):
        return found is not None and (isinstance(found, Hdf5) or path.exists())
    try:
        return "qpos" not in read_npz_headers(npz_files(path)[0])
    except (DamagedFile, OSError):
        return False  # OGBench's own check says more


def name_of(source: str | Path) -> str:
    """Return the name of a set in a run's record."""
    text = str(source)
    return text if text.startswith(MINARI) else Path(text).expanduser().stem


def environment_of(source: str | Path) -> str | None:
    """Return the id of the environment that a set was recorded in, where it says so."""
    path, found = find_format(source)
    return None if found is None else found.environment(path)


@as_usage_error(DamagedFile)
def read_source(source: str | Path, options: ReadOptions | None = None) -> Transitions:
    """Return a set's transitions, checked for what any set must be.

    Nothing in it is executed or unpickled, and no environment is made.

    :raises UsageError: if it cannot be read or trained on, with what to do.
    """
    path, found = find_format(source)
    if not path.exists():
        raise UsageError(f"expected a dataset at {path}, got nothing; check the path, or give `{MINARI}ID`")
    if found is None:
        raise UsageError(
            f"a dataset must be an .npz, .hdf5 or .parquet file, a folder of such files or `{MINARI}ID`, got {path}; "
            "save arrays with `np.savez(path, **arrays)`"
        )
    options = options or ReadOptions()
    reject_options(path, options, found.supported)
    return found.read(path, options)
