"""Read parquet files in LeRobot's layout: one row for each step, and vectors as lists."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agents.common.data.arrays import Array, Transitions
from agents.common.validation import count
from zoo.datasets.formats.base import (
    COLUMNS,
    NO_TRANSITION,
    Arrays,
    Format,
    add_rewards,
    explaining_damage,
    require_flags,
    transitions_of_rows,
    warn,
)
from zoo.datasets.formats.hdf5 import import_extra
from zoo.terminal.errors import UsageError


class Parquet(Format):
    """A parquet file, or a folder with parquet files at any depth."""

    has_success = True

    def matches(self, path: Path) -> bool:
        """Return whether the path is a parquet file, or a folder with parquet files at any depth."""
        return bool(_parquet_files(path))

    def read(self, path: Path, reward_from: str | None = None) -> Transitions:
        """Return the transitions."""
        name = str(path)
        rows = _read_rows(path, reward_from or "rewards")
        for key in ("observations", "actions"):  # a column of numbers is a vector of one number
            rows[key] = rows[key].reshape(len(rows[key]), -1)
        for key in ("episode", "frame"):
            if key in rows and rows[key].size != rows["file"].size:
                raise UsageError(
                    f"{name}: the {key} index must be one number, got rows of shape {rows[key].shape[1:]}; "
                    "rename the column"
                )
        # LeRobot 2 writes one episode per file, LeRobot 3 several, so only the episode index separates episodes.
        ends = _last_rows(rows.get("episode", rows["file"]))
        # without frame indices, an episode is assumed not to continue in the next file
        if "frame" not in rows:
            ends |= _last_rows(rows["file"])
        if "done" in rows and "episode" not in rows:
            ends |= require_flags(name, "done", rows["done"], len(ends))
        episode = pd.Series(np.cumsum(ends) - ends)
        # If the rows of episodes are mixed, there are more runs of equal indices than distinct indices.
        if "episode" in rows and len(np.unique(rows["episode"])) <= episode.iloc[-1]:
            raise UsageError(
                f"{name}: the rows of an episode must be consecutive, but episodes are mixed or share an index; sort "
                "the rows, and use a unique index for each episode"
            )
        expected = episode.groupby(episode).cumcount().to_numpy()
        frames = rows.get("frame", expected).ravel()
        wrong = np.flatnonzero(frames != expected)
        if wrong.size:
            raise UsageError(
                f"{name}: the frames of an episode must be 0, 1, 2, ..., got {frames[wrong[0]]} instead of "
                f"{expected[wrong[0]]} in row {wrong[0]}; sort the rows, and split an episode where frames are missing"
            )
        add_rewards(name, rows, reward_from)
        if reward_from is None:
            rows["masks"] = 1.0 - _terminated(name, rows, ends)
        return transitions_of_rows(name, rows, ends, rows["masks"])


def _last_rows(numbers: Array) -> Array:
    """Return whether each number differs from the next one, bool (rows,); the last element is True."""
    return np.append(numbers[1:] != numbers[:-1], True)


def _parquet_files(path: Path) -> list[Path]:
    """Return the parquet file at a path, or all below a folder, sorted; hidden files and metadata are left out."""
    if not path.is_dir():
        return [path]
    files = []
    for file in sorted(path.rglob("*")):
        names = file.relative_to(path).parts
        # LeRobot's folder `meta` contains parquet files about episodes; other programs leave hidden files behind.
        is_data = not any(name == "meta" or name.startswith((".", "_")) for name in names)
        # a link to a missing file is kept, so that reading it raises an error
        if is_data and file.suffix.lower() == ".parquet" and not file.is_dir():
            files.append(file)
    return files


def _read_rows(path: Path, reward: str) -> Arrays:
    """Return the columns of a parquet file, or the joined columns of all parquet files below a folder.

    :param reward: field from which rewards are read: ``rewards`` or ``success``.
    :return: the columns in `COLUMNS` that the files have, (rows, ...), and ``file``, the number of each row's file.
    """
    parts: list[Arrays] = []
    # Read one file at a time, so that errors can name the damaged file.
    for number, file in enumerate(_parquet_files(path)):
        arrow = import_extra("pyarrow.dataset", f"reading {file}")
        with explaining_damage(file, "parquet"):
            # Without verification, a damaged page would be read as wrong numbers.
            checked = arrow.ParquetFileFormat(
                default_fragment_scan_options=arrow.ParquetFragmentScanOptions(
                    page_checksum_verification=True
                )
            )
            source = arrow.dataset(file, format=checked)
            if not source.count_rows():  # columns without rows may lack a type
                warn(str(file), "it has no rows and is left out")
                continue
            names = source.schema.names
            chosen = {}
            for name, usual_names in COLUMNS.items():
                present = [column for column in usual_names if column in names]
                if present:
                    chosen[name] = present[0]
                elif name in ("observations", "actions", reward):
                    advice = "rename or add it with pandas (docs/data.md)"
                    if name == "rewards":
                        advice += "; `--reward-from success` computes rewards from `next.success`"
                    raise UsageError(
                        f"{file} must have a column `{usual_names[0]}` for {name}, got {', '.join(names)[:300]}; "
                        f"{advice}"
                    )
            table = source.to_table(sorted(set(chosen.values())), use_threads=False)
            part = {}
            for name, column in chosen.items():
                part[name] = _as_array(file, column, table.column(column))
        parts.append(part | {"file": np.full(len(table), number)})
        differing = parts[-1].keys() ^ parts[0].keys()
        if differing:
            raise UsageError(
                f"{path}: either every file or none must have a column for {', '.join(differing)}; add it where it "
                "is missing"
            )
    if not parts:
        raise UsageError(f"{path} {NO_TRANSITION}")
    with explaining_damage(path, "parquet"):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _as_array(file: Path, name: str, column: Any) -> Array:
    """Return a column of numbers, or of equally long lists of numbers, as an array."""
    compute = import_extra("pyarrow.compute", f"reading {file}")
    kind = column.type
    if column.null_count:
        raise UsageError(
            f"{file}: `{name}` must have a value in each row, got {count(column.null_count, 'row')} without one; add "
            "the values"
        )
    array: Array
    if hasattr(kind, "value_field"):  # all kinds of lists
        lengths = compute.unique(compute.list_value_length(column)).to_pylist()
        if len(lengths) > 1:
            raise UsageError(
                f"{file}: `{name}` must hold lists of one length, got {min(lengths)} to {max(lengths)} numbers; "
                "correct or rename the column"
            )
        array = compute.list_flatten(column).to_numpy().reshape(len(column), *lengths)
    else:
        array = column.to_numpy()
    if array.dtype.kind not in "fiub":
        raise UsageError(
            f"{file}: `{name}` must hold numbers or lists of them, got {kind}; convert or rename the column"
        )
    return array


def _terminated(name: str, rows: Arrays, ends: Array) -> Array:
    """Return whether each step terminates its episode, (rows,)."""
    key = "terminated" if "terminated" in rows else "success"
    if key not in rows:
        raise UsageError(
            f"{name} does not record why its episodes end; add a column `next.terminated`, 1 if the task ends the "
            "episode and 0 if it was truncated"
        )
    flags = require_flags(name, key, rows[key], len(ends))
    # Success may be flagged at every step after it is first achieved, a termination only in the last row.
    early = np.flatnonzero(flags & ~ends)
    if key == "terminated" and early.size:
        raise UsageError(
            f"{name}: an episode continues after it terminated in row {early[0]}; split the episode there"
        )
    episode = np.cumsum(ends) - ends
    lost = np.setdiff1d(episode[early], episode[flags & ends])
    if lost.size:
        warn(
            name,
            f"{len(lost):,} of {int(ends.sum()):,} episodes succeed before their last row but not in it, so they count "
            "as truncated without success; end them at the success, or add a column `next.terminated`",
        )
    return flags & ends
