"""What the files of many runs say, those of finished runs read once.

Reading a run takes a hundred times as long as asking for size and time of change of its files. So what the files of
runs that have ended say is kept in the user's cache folder, one file for each folder of many runs (``logs/qam``). An
entry counts as long as size and time of change of each file are those of the file that was read. The cache holds plain
data. It can be deleted at any time, and a user without a writable home does without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.files import atomic_path
from agents.common.files.npz import read_npz
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
"""How many runs of a folder must have ended since its file was written to write it again; fewer are read in no time."""
SETTLED_SECONDS = 2.0
"""Age from which a file's time of change tells it from later ones; some storage has times of whole seconds."""
_FORMAT = 4
"""Of the cache's files. A release with another one finds files of its own."""

Stamps = list[list[int]]
"""Time of change and size of a run's three files."""


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

    @property
    def is_final(self) -> bool:
        """Whether the run has ended, and all of its files can be read."""
        return self.status["state"] != "running" and isinstance(self.evaluations, np.ndarray)


Entries = dict[str, tuple[Stamps, RunContents]]
"""Name of a run folder -> its files when they were read, and what they said."""


def read_contents(paths: Iterable[Path]) -> list[RunContents | UnreadableRun]:
    """Return what the files of run folders say, or why they cannot be read, in the order of the folders.

    :param paths: of the folders, sorted, so that those of one parent follow each other.
    """
    result: list[RunContents | UnreadableRun] = []
    for folder, siblings in itertools.groupby(paths, os.path.dirname):
        parent = Path(folder)
        file = _cache_file(parent)
        entries = _load(file)
        latest = time.time_ns() - int(SETTLED_SECONDS * 1e9)
        new_runs = 0
        for path in siblings:
            stamps = _stamps(path)
            entry = entries.get(path.name)
            if entry is not None and entry[0] == stamps:
                result.append(entry[1])
                continue
            contents = _read(path)
            result.append(contents)
            if (
                isinstance(contents, RunContents)
                and contents.is_final
                and stamps
                and max(stamps)[0] < latest
            ):
                entries[path.name] = stamps, contents
                new_runs += 1
        if new_runs >= MIN_NEW_RUNS:
            # Other runs of the folder may have been left out of this reading, and some may be gone.
            entries = {name: entry for name, entry in entries.items() if (parent / name).is_dir()}
            with contextlib.suppress(OSError):  # no home, or a full or read-only one
                file.parent.mkdir(parents=True, exist_ok=True)
                _save(file, entries)
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


def _cache_file(parent: Path) -> Path:
    digest = hashlib.sha256(f"{_FORMAT} {parent.resolve()}".encode()).hexdigest()
    return user_cache() / "flow-rl-zoo" / "runs" / f"{digest[:16]}.npz"


def _stamps(path: Path) -> Stamps | None:
    """Return what tells a run's files from later ones; None where one is missing."""
    try:
        # By name, since making the paths of a `RunFolder` takes longer than all of this.
        files = [os.stat(f"{path}/{name}") for name in READ_FILES]
    except OSError:
        return None
    return [[file.st_mtime_ns, file.st_size] for file in files]


def _load(file: Path) -> Entries:
    """Return the entries of a file; none where it is missing or damaged."""
    try:
        return dict(_parse(file, file.stat().st_mtime_ns))
    except (OSError, ValueError, LookupError, TypeError):
        return {}


@lru_cache(maxsize=64)  # who watches runs looks again every few seconds
def _parse(file: Path, changed: int) -> Entries:
    """Return the entries of a file, given its time of change."""
    arrays = read_npz(file)
    index = json.loads(arrays["index"].tobytes())
    records = {key: RunRecord.read(config) for key, config in index["configs"].items()}
    entries = {}
    begin = 0
    for name, stamps, status, key, count in index["runs"]:
        evaluations = arrays["evaluations"][begin : begin + count]
        entries[name] = stamps, RunContents(status, records[key], evaluations)
        begin += count
    return entries


def _save(file: Path, entries: Entries) -> None:
    """Write entries; those whose record JSON cannot hold are left out."""
    # runs of a method and environment share a record
    records = {str(id(contents.record)): contents.record for _, contents in entries.values()}
    configs = {}
    for key, record in records.items():
        config = record.plain()
        with contextlib.suppress(TypeError):  # YAML has more kinds of values and of names
            if json.loads(json.dumps(config)) == config:
                configs[key] = config
    runs = []
    evaluations = [np.empty(0, EVALUATION)]
    for name, (stamps, contents) in entries.items():
        key = str(id(contents.record))
        if key in configs and isinstance(contents.evaluations, np.ndarray):
            runs.append([name, stamps, contents.status, key, len(contents.evaluations)])
            evaluations.append(contents.evaluations)
    index = json.dumps({"configs": configs, "runs": runs}).encode()
    with atomic_path(file) as temporary:
        # As bytes, since NumPy's texts have four bytes a letter.
        np.savez(
            temporary, index=np.frombuffer(index, np.uint8), evaluations=np.concatenate(evaluations)
        )
