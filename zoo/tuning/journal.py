"""Where a study is kept: a journal file that any number of workers append to, and who of them is alive."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from zoo.errors import UsageError

STUDIES = "studies"
"""Folder of studies in a log folder."""
JOURNAL = "journal.log"


def study_folder(log_folder: Path, name: str) -> Path:
    """Return the folder of a study's trials and results."""
    return log_folder / STUDIES / name


def open_journal(path: Path, to_write: bool = False) -> JournalStorage:
    """Open a journal; raise UsageError if the file is something else.

    :param to_write: begin a new one if there is none, and repair one whose last writer was stopped in a line.
    """
    try:
        if to_write and path.exists():
            _drop_half_a_line(path)
        _require_first_line(path)
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError as error:
        raise UsageError(f"`{path}` cannot be a study's journal: {error.strerror}; choose another file") from error
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"expected `{path}` to be a journal that `zoo tune` has written, got a file of another kind; choose "
            "another with --storage"
        ) from error


def study_names(storage: JournalStorage) -> list[str]:
    """Return the names of the studies in a journal."""
    return sorted(optuna.get_all_study_names(storage))


def _require_first_line(path: Path) -> None:
    """Raise KeyError, TypeError or ValueError if a file begins with anything but an operation of a journal."""
    if path.exists() and path.stat().st_size:
        with open(path, encoding="utf-8") as file:
            json.loads(file.readline())["op_code"]


def _drop_half_a_line(path: Path) -> None:
    """Remove what a process wrote of its last line before it was killed, or before the disk was full."""
    lock = JournalFileSymlinkLock(str(path))  # of those who write
    lock.acquire()
    try:
        with open(path, "rb+") as file:
            content = file.read()
            if not content.endswith(b"\n") and b"\n" in content:
                file.truncate(content.rindex(b"\n") + 1)
    finally:
        lock.release()


class Workers:
    """The processes that work on the studies of a journal. Each holds a lock on a file of its own for its whole life.

    The operating system releases a lock when its process ends, however it ends. A worker is therefore dead exactly if
    its file is gone or its lock is free; no clock is involved. Files are beside the journal, so that all workers of a
    journal meet there, also from several machines if their file system passes locks on, as NFS does.
    """

    def __init__(self, journal: Path) -> None:
        self._folder = journal.with_name(f"{journal.name}.workers")
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> Workers:
        """Join the workers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self._folder / self.name, os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the workers."""
        (self._folder / self.name).unlink(missing_ok=True)
        os.close(self._handle)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other worker is in such a block, and keep the others out of theirs."""
        handle = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def is_alive(self, name: str) -> bool:
        """Return whether a worker still runs."""
        try:
            handle = os.open(self._folder / name, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        (self._folder / name).unlink(missing_ok=True)
        return False
