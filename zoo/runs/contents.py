"""What the files of many runs say, those of finished runs read once.

Reading a run takes a hundred times as long as asking for size and time of change of its files. So what the files of
runs that have ended say is kept in a database in the user's cache folder. An entry counts as long as size and time of
change of each file are those of the file that was read. The cache holds plain data. It can be deleted at any time, and
a user without a writable home does without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from zoo.datasets.files import user_cache
from zoo.runs.folder import READ_FILES, RunFolder, UnreadableRun
from zoo.settings.record import RunRecord

EVALUATION = np.dtype(
    [
        ("phase", np.int8),
        ("step", np.int64),
        ("episodes", np.int64),
        ("successes", np.int64),
        ("return", np.float64),
        ("length", np.float64),
    ]
)
"""An evaluation: phase, step, numbers of episodes and of successes, mean return and mean length."""
NO_SUCCESS = -1
"""The successes of an evaluation that is not scored by success."""
MIN_NEW_RUNS = 100
"""How many runs must have ended since the last reading to write them; fewer are read in no time."""
SETTLED_SECONDS = 2.0
"""Age from which a file's time of change tells it from later ones; some storage has times of whole seconds."""
LOCK_SECONDS = 1.0
"""How long to wait for another program, or for a network drive that knows no locks, before doing without the cache."""
_FILE = "runs5.sqlite"
"""The cache. A release with another form of it has a file of its own."""

Stamps = list[tuple[int, int]]
"""Time of change and size of a run's three files."""
Row = tuple[str | np.ndarray, ...]
"""Of the cache: path, stamps, status, record and evaluations of a run."""


@dataclass(frozen=True, slots=True)
class RunContents:
    """What the files of a run say.

    :param status: ``status.json``.
    :param record: ``config.yml`` as `RunFolder.read_config_of_seeds` returns it.
    :param evaluations: rows of `EVALUATION`; None before the first one; or what is wrong with their file.
    """

    status: dict[str, Any]
    record: RunRecord
    evaluations: np.ndarray | UnreadableRun | None


def read_contents(paths: Iterable[Path]) -> list[RunContents | UnreadableRun]:
    """Return what the files of run folders say, or why they cannot be read, in the order of the folders."""
    result: list[RunContents | UnreadableRun] = []
    new_rows: list[Row] = []
    latest = time.time_ns() - int(SETTLED_SECONDS * 1e9)
    file = user_cache() / "flow-rl-zoo" / _FILE
    database = file if os.access(file, os.R_OK) else ":memory:"
    with contextlib.closing(sqlite3.connect(database, timeout=LOCK_SECONDS)) as cache:
        for path in paths:
            stamps = _stamps(path)
            contents: RunContents | UnreadableRun | None = _find(cache, path, stamps)
            if contents is None:
                contents = _read(path)
                if stamps and max(stamps)[0] < latest:
                    new_rows += _row(path, stamps, contents)
            result.append(contents)
    if len(new_rows) >= MIN_NEW_RUNS:
        _save(file, new_rows)
    return result


def _read(path: Path) -> RunContents | UnreadableRun:
    folder = RunFolder(path)
    try:
        status = folder.read_status()
        record = folder.read_config_of_seeds()
    except UnreadableRun as error:
        return error
    evaluations: np.ndarray | UnreadableRun | None = None
    if status["state"] == "done" or folder.evaluations.exists():
        try:
            evaluations = _summarise(folder.read_evaluations())
        except UnreadableRun as error:  # what the other files say is shown all the same
            evaluations = error
    return RunContents(status, record, evaluations)


def _summarise(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the evaluations of a run as rows of `EVALUATION`, without the single episodes."""
    summary = np.empty(len(arrays["results"]), EVALUATION)
    summary["phase"] = arrays["phase"]
    summary["step"] = arrays["timesteps"]
    summary["episodes"] = arrays["results"].shape[1]
    summary["successes"] = NO_SUCCESS
    if "successes" in arrays:
        summary["successes"] = arrays["successes"].sum(axis=1)
    summary["return"] = arrays["results"].mean(axis=1)
    summary["length"] = arrays["ep_lengths"].mean(axis=1)
    return summary


# -- the cache --------------------------------------------------------------------------------------------------------


def _stamps(path: Path) -> Stamps:
    """Return what tells a run's files from later ones; empty where one is missing."""
    try:
        # By name, since making the paths of a `RunFolder` takes longer than all of this.
        files = [os.stat(f"{path}/{name}") for name in READ_FILES]
    except OSError:
        return []
    return [(file.st_mtime_ns, file.st_size) for file in files]


def _find(cache: sqlite3.Connection, path: Path, stamps: Stamps) -> RunContents | None:
    """Return what the cache says of a run; None where it does not know these files, or cannot be read."""
    try:
        if not cache.in_transaction:
            cache.execute("BEGIN")  # one lock for all runs
        query = "SELECT status, record, evaluations FROM runs WHERE path = ? AND stamps = ?"
        for status, record, rows in cache.execute(query, (os.path.abspath(path), str(stamps))):
            evaluations = np.frombuffer(rows, EVALUATION)
            return RunContents(json.loads(status), _record(record), evaluations)
    except sqlite3.Error:
        cache.close()  # there is none yet, or it is locked: no other run waits for it
    except (ValueError, LookupError, TypeError):
        pass  # the row is damaged
    return None


@lru_cache(maxsize=4096)  # runs of a method and environment share it
def _record(text: str) -> RunRecord:
    return RunRecord.read(json.loads(text))


def _row(path: Path, stamps: Stamps, contents: RunContents | UnreadableRun) -> Iterator[Row]:
    """Yield the row of the cache for a run that has ended, unless its record is one that JSON cannot hold."""
    if isinstance(contents, UnreadableRun) or contents.status["state"] == "running":
        return
    record = contents.record.plain()
    with contextlib.suppress(TypeError):  # YAML has more kinds of values and of names
        text = sys.intern(json.dumps(record))  # runs of a method and environment share it
        if json.loads(text) == record and isinstance(contents.evaluations, np.ndarray):
            status = json.dumps(contents.status)
            rows = contents.evaluations.view(np.uint8)
            yield os.path.abspath(path), str(stamps), status, text, rows


def _save(file: Path, rows: Sequence[Row]) -> None:
    """Add rows to the cache, drop those of deleted runs, and remove a cache that is damaged."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(file, timeout=LOCK_SECONDS)) as cache, cache:
            cache.execute(
                "CREATE TABLE IF NOT EXISTS runs (path PRIMARY KEY, stamps, status, record, evaluations)"
            )
            cache.executemany("REPLACE INTO runs VALUES (?, ?, ?, ?, ?)", rows)
            cache.create_function("is_folder", 1, os.path.isdir)
            cache.execute("DELETE FROM runs WHERE NOT is_folder(path)")
    except (OSError, sqlite3.OperationalError):
        pass  # no home, a full or read-only one, or a program that writes for long
    except sqlite3.DatabaseError:
        file.unlink()
