"""Read parquet files as LeRobot writes them: one row for each step, a list for each vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.data.arrays import Transitions
from zoo.datasets.formats.base import (
    COLUMNS,
    Array,
    Arrays,
    Format,
    ReadOptions,
    add_rewards,
    episodes_of_rows,
    explaining_damage,
    joined,
    require_flags,
    warn,
    warn_without_success,
)
from zoo.datasets.formats.hdf5 import import_extra
from zoo.terminal.errors import UsageError


class Parquet(Format):
    """A parquet file, or a folder with some below it."""

    supported = ("columns", "step_reward", "done", "reward_from")

    def matches(self, path: Path) -> bool:
        """Return whether it is a parquet file, or a folder that holds one."""
        return path.suffix == ".parquet" if not path.is_dir() else any(path.rglob("*.parquet"))

    def read(self, path: Path, options: ReadOptions) -> Transitions:
        """Return the transitions."""
        name, rows = str(path), _read_rows(path, options.columns)
        for key in ("observations", "actions"):
            if rows[key].ndim == 1:
                rows[key] = rows[key][:, None]
        number = rows.get("episode", rows["file"])
        ends = np.append(number[1:] != number[:-1], True)
        if "frame" not in rows:  # nothing says whether an episode goes on in the next file
            ends |= np.append(rows["file"][1:] != rows["file"][:-1], True)
        if "done" in rows and "episode" not in rows:
            ends |= require_flags(name, "done", rows["done"], len(ends))
        _require_in_order(name, rows, ends)
        add_rewards(name, rows, options)
        masks = rows["masks"] if options.reward_from else 1.0 - _terminated(name, rows, ends, options)
        return joined(name, episodes_of_rows(name, rows, ends, masks))


def _read_rows(path: Path, columns: Mapping[str, str]) -> Arrays:
    """Return the columns of a parquet file, or of all below a folder in the order of their names.

    :param columns: names of columns that override `COLUMNS`.
    :return: those of `COLUMNS` that the files have, (rows, ...), and ``file``, the number of the file of each row.
    """
    files = [path] if not path.is_dir() else sorted(path.rglob("*.parquet"))
    parts: list[Arrays] = []
    for number, file in enumerate(file for file in files if "meta" not in file.relative_to(path).parts):
        with explaining_damage(file, "parquet"):
            source = import_extra("pyarrow.parquet", f"reading {file}").ParquetFile(file)
            chosen = _choose(file, source.schema_arrow.names, columns)
            table = source.read(columns=sorted(set(chosen.values())), use_threads=False)
            part = {name: _as_array(file, column, table.column(column)) for name, column in chosen.items()}
        parts.append(part | {"file": np.full(len(part["actions"]), number)})
        if missing := ", ".join(parts[-1].keys() ^ parts[0].keys()):
            raise UsageError(f"{path}: every file must have a column for {missing}, or none; add it to the others")
    if not any(len(part["file"]) for part in parts):
        raise UsageError(f"{path} must hold an episode with a transition, got no row; give another set")
    with explaining_damage(path, "parquet"):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _choose(file: Path, there: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each array."""
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
    array: Array = column.to_numpy()
    if array.dtype.kind == "O" and len(array):  # lists
        array = np.stack(list(array))
    if array.dtype.kind not in "fiub":
        raise UsageError(f"{file}: `{name}` must hold numbers or lists of them, got {column.type}; name another column")
    return array


# -- episodes ---------------------------------------------------------------------------------------------------------


def _require_in_order(name: str, rows: Arrays, ends: Array) -> None:
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


def _terminated(name: str, rows: Arrays, ends: Array, options: ReadOptions) -> Array:
    """Return where an episode ends because its task did."""
    if options.done is not None:
        return ends if options.done == "terminated" else np.zeros_like(ends)
    flags = rows.get("terminated", rows.get("success"))
    if flags is None:
        raise UsageError(
            f"{name} does not say why its episodes end; add `--done terminated` if the task ends them, so that nothing "
            "comes after, or `--done truncated` if the recording was only cut off"
        )
    flags = flags > 0
    if "terminated" in rows:
        if flags[~ends].any():
            row = int(np.argmax(flags & ~ends))
            raise UsageError(f"{name}: an episode goes on after it has terminated in row {row}; split it there")
        return flags & ends
    warn_without_success(name, flags)
    episode = np.cumsum(ends) - ends
    lost = np.setdiff1d(episode[flags], episode[flags & ends])
    if len(lost):
        warn(
            name,
            f"{len(lost):,} of {int(ends.sum()):,} episodes succeed before their last row and not in it: they count as "
            "cut off there, and their successes are left out; end them at the success, or name the column of another "
            "flag with `--columns terminated=NAME`",
        )
    return flags & ends
