"""Locks between processes; the operating system releases a lock when the process that holds it ends or is killed."""

import datetime
import errno
import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from agents.common.files import explaining_write_errors
from zoo.terminal.messages import say_once

HOST = socket.gethostname()
SECONDS_TO_TRY = 0.2
"""Seconds to retry, because :meth:`Lock.is_held` in another process takes the lock for an instant."""
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
"""Error numbers of storage that does not support locks."""


class Lock:
    """A lock on a regular file, which records the lock's holder.

    On some network storage, the lock works across machines. On storage that does not support locks, every process gets
    the lock, with a warning.

    :param path: path of the file, which is kept when the lock is released.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptors: list[int] = []
        """File descriptors to pass to a child, which then also holds the lock until it ends; empty if not locked."""
        # one lock for all threads; no fallback to a soft lock file, which a killed process would leave behind
        self._lock = FileLock(
            path, thread_local=False, fallback_to_soft=False, on_acquired=self.descriptors.append
        )

    def take(self, seconds: float = SECONDS_TO_TRY) -> bool:
        """Take the lock unless this object has it already; return False if another process has it.

        :param seconds: how long to retry; -1 to wait until the lock is free.
        """
        if self._lock.is_locked:
            return True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=seconds, poll_interval=SECONDS_TO_TRY / 10)
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            say_once(
                f"the storage of {self.path.parent} has no locks ({error.strerror}), so two processes may train "
                "the same run; start only one"
            )
        # other processes read this record; it cannot be written atomically, because the lock is on the file itself
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        text = json.dumps({"host": HOST, "pid": os.getpid(), "since": since})
        with explaining_write_errors(self.path):
            self.path.write_text(text + "\n", encoding="utf-8")
        return True

    def release(self) -> None:
        """Release the lock if this process holds it."""
        self._lock.release(force=True)
        self.descriptors.clear()

    def __enter__(self) -> Self:
        """Take the lock, waiting until it is free."""
        self.take(-1)
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def is_held(self) -> bool | None:
        """Return whether a process has the lock; None if the storage cannot tell."""
        try:
            handle = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        except OSError:
            return None
        try:
            # take a shared lock, so that several processes can test the lock at the same time
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
        finally:
            os.close(handle)
        return False

    def describe_holder(self) -> str:
        """Return the last holder of the lock as text."""
        try:
            holder = json.loads(self.path.read_bytes())
            return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
        except (OSError, ValueError):
            return "another process"
