"""Where a study is kept: a journal file that any number of workers append to, and who of them is alive."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import socket
import uuid
from pathlib import Path
from typing import IO, Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from agents.common.files import DamagedFile, open_file
from zoo.errors import UsageError

STUDIES = "studies"
"""Folder of studies in a log folder."""
JOURNAL = "journal.log"
CHECKSUM = "sha256"


def study_folder(log_folder: Path, name: str) -> Path:
    """Return the folder of a study's trials and results."""
    return log_folder / STUDIES / name


def open_journal(path: Path) -> JournalStorage:
    """Open a journal, which begins with what is written first; raise UsageError if the file is something else."""
    try:
        return JournalStorage(JournalFile(path))
    except (OSError, DamagedFile, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UsageError(
            f"the study's journal {path} cannot be read: {error}; choose another with --storage"
        ) from error


def study_names(storage: JournalStorage) -> list[str]:
    """Return the names of the studies in a journal."""
    return sorted(optuna.get_all_study_names(storage))


class JournalFile(BaseJournalBackend):
    """A file of Optuna's operations, one a line, each with the SHA-256 of itself and all lines before it.

    A line that was changed, added or removed is found by whoever reads the file. What a killed writer left of its last
    line does not count, and the next writer removes it. Optuna's own `JournalFileBackend` reads the file too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ends = [(0, "")]  # after 0, 1, 2, ... lines: the position in the file, and the checksum

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """Return the operations from a number on."""
        if not self._path.exists():
            return []
        with open_file(self._path) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return self._read(file, log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add operations to the end of the file."""
        with self._path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed, or the process is killed
            self._read(file, len(self._ends) - 1)
            end, checksum = self._ends[-1]
            file.truncate(end)
            for log in logs:
                checksum = _chain(checksum, log)
                file.write(json.dumps({**log, CHECKSUM: checksum}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self, file: IO[bytes], first: int) -> list[dict[str, Any]]:
        """Return the operations from a number on, each compared with its checksum."""
        logs: list[dict[str, Any]] = []
        del self._ends[first + 1 :]
        (end, checksum), size = self._ends[first], os.fstat(file.fileno()).st_size
        if size < end:
            raise UsageError(
                f"{self._path} has lost its end: it had {end:,} bytes, got {size:,}; put a copy of it back"
            )
        file.seek(end)
        for line in file:
            if not line.endswith(b"\n") and end:
                break
            try:
                log = json.loads(line)
                claimed = log.pop(CHECKSUM)
            except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
                claimed = None
            if claimed is None or claimed != _chain(checksum, log):
                raise UsageError(
                    f"expected `{self._path}` to be a journal that `zoo tune` has written, got line "
                    f"{first + len(logs) + 1} that does not follow those before it, so some were changed or removed; "
                    "put a copy of the file back, or choose another with --storage"
                )
            end, checksum = end + len(line), claimed
            self._ends.append((end, checksum))
            logs.append(log)
        return logs


def _chain(checksum: str, log: dict[str, Any]) -> str:
    """Return the checksum of an operation that follows those of another checksum."""
    return hashlib.sha256(f"{checksum}{json.dumps(log)}".encode()).hexdigest()


class Workers:
    """The processes that work on the studies of a journal. Each holds a lock on a file of its own for its whole life.

    The operating system releases a lock when its process ends, however it ends. A worker is therefore dead exactly if
    its file is gone or its lock is free; no clock is involved. Files are beside the journal, so that all workers of a
    journal meet there, also from several machines if their file system passes locks on, as NFS does.
    """

    def __init__(self, journal: Path) -> None:
        self._folder = journal.with_name(f"{journal.name}.workers")
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._own = FileLock(self._folder / self.name)
        self.alone = FileLock(self._folder / "lock")
        """Only one worker at a time is in a ``with`` block of it; the others wait."""

    def __enter__(self) -> Workers:
        """Join the workers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._own.acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the workers."""
        (self._folder / self.name).unlink(missing_ok=True)
        self._own.release()

    def is_alive(self, name: str) -> bool:
        """Return whether a worker still runs; the name is what a journal says, which may be anything."""
        if not isinstance(name, str) or not re.fullmatch(r"[^/\0]+-\d+-\w+", name):
            raise UsageError(f"a trial's worker must be a name beside the journal, got {name!r}; begin another study")
        try:
            with FileLock(self._folder / name, timeout=0):
                (self._folder / name).unlink()
        except Timeout:
            return True
        return False
