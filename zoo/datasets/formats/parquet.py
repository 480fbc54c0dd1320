"""Read parquet files as LeRobot writes them: one row for each step, a list for each vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.files import regular_file
from zoo.datasets.formats.episodes import Array, Arrays, faults_named, tell_memory
from zoo.datasets.formats.hdf5 import import_extra
from zoo.errors import UsageError

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "observations": ("observation.state", "observations", "observation", "state"),
    "actions": ("action", "actions"),
    "rewards": ("next.reward", "reward", "rewards"),
    "terminated": ("next.terminated", "terminated", "terminations"),
    "success": ("next.success", "success"),
    "done": ("next.done", "done", "dones"),
    "episode": ("episode_index", "episode"),
    "frame": ("frame_index", "frame"),
}
"""What is read -> the names of its column, the first that is there."""


_BATCH_ROWS = 1 << 14


def is_parquet(path: Path) -> bool:
    """Return whether a path is a parquet file, or a folder with some below it."""
    return path.suffix == ".parquet" if not path.is_dir() else any(path.rglob("*.parquet"))


def read_parquet(path: Path, columns: Mapping[str, str]) -> Arrays:
    """Return the columns of a parquet file, or of all below a folder in the order of their names.

    :param columns: names of columns that override `COLUMNS`.
    :return: those of `COLUMNS` that all files have, (rows, ...), and ``file``, the number of the file of each row.
    """
    files = [path] if not path.is_dir() else sorted(path.rglob("*.parquet"))
    parts = []
    for number, file in enumerate(file for file in files if "meta" not in file.relative_to(path).parts):
        arrow = import_extra("pyarrow", f"reading {file}")
        with faults_named(file, "parquet", arrow.lib.ArrowException):
            parts += [part | {"file": np.full(len(part["actions"]), number)} for part in _read_file(file, columns)]
    if not parts:
        raise UsageError(f"{path} must hold an episode with a transition, got no row; give another set")
    if missing := [name for name in COLUMNS if 0 < sum(name in part for part in parts) < len(parts)]:
        raise UsageError(f"{path}: every file must have a column for {missing[0]}, or none; add it to the others")
    widths = {name: {part[name].shape[1:] for part in parts} for name in parts[0]}
    if uneven := [name for name, found in widths.items() if len(found) > 1]:
        raise UsageError(f"{path}: `{uneven[0]}` must have one size in all rows, got {sorted(widths[uneven[0]])}")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _read_file(file: Path, columns: Mapping[str, str]) -> Iterator[Arrays]:
    """Yield the columns of one file, some rows at a time."""
    source = import_extra("pyarrow.parquet", f"reading {file}").ParquetFile(regular_file(file))
    chosen = _choose(file, source.schema_arrow.names, columns)
    # what a page claims is known only when it is decoded, so that memory is looked at for each batch
    for batch in source.iter_batches(_BATCH_ROWS, columns=sorted(set(chosen.values())), use_threads=False):
        tell_memory(str(file), 4 * batch.nbytes)
        yield {name: _as_array(file, column, batch.column(column)) for name, column in chosen.items()}


def _choose(file: Path, there: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return what is read -> its column."""
    chosen = {}
    for name, known in COLUMNS.items():
        wanted = (columns[name],) if name in columns else known
        found = [column for column in wanted if column in there]
        if found:
            chosen[name] = found[0]
        elif name in columns or name in ("observations", "actions"):
            raise UsageError(
                f"{file} must have a column `{wanted[0]}` for {name}, got {', '.join(there)[:300]}; name it with "
                f"`--columns {name}=NAME`"
            )
    return chosen


def _as_array(file: Path, name: str, column: Any) -> Array:
    """Return a column of numbers or of lists of numbers, all of one length, as an array."""
    types = import_extra("pyarrow.types", f"reading {file}")
    rows, width = len(column), None
    if column.null_count:
        raise UsageError(f"{file}: `{name}` must have a value in each row, got {column.null_count:,} nulls; fill them")
    if types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type):
        lengths = set(np.unique(column.value_lengths().to_numpy(zero_copy_only=False)).tolist()) if rows else {1}
        if len(lengths) > 1:
            raise UsageError(f"{file}: `{name}` must have lists of one length, got {sorted(lengths)[:5]}; correct them")
        width, column = lengths.pop(), column.flatten()
    kind = column.type
    if not (types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind)) or column.null_count:
        raise UsageError(f"{file}: `{name}` must hold numbers or lists of them, got {kind}; name another column")
    array: Array = column.to_numpy(zero_copy_only=False)
    return array if width is None else array.reshape(rows, width)
