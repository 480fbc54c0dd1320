"""Start child processes, handle their signals, and end them when their parent ends."""

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.util
import os
import signal
import sys
import tempfile
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path

from agents.common.processor import STOP_SIGNALS
from zoo.terminal.errors import UsageError

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
CLOSE_SECONDS = 10.0
"""Time limit for a child to end; its environment may first have to finish a chunk, write files or end processes."""

# a socket's path has at most 103 characters (macOS) or 107 (Linux), of which multiprocessing appends 32 to `TMPDIR`
MAX_TEMP_PATH = 70


def temp_folder() -> str:
    """Return multiprocessing's temporary folder, which is removed when the main process ends.

    :raises UsageError: if ``TMPDIR`` is too long for the path of a socket, and ``/tmp`` cannot be used.
    """
    if len(tempfile.gettempdir()) <= MAX_TEMP_PATH:
        return multiprocessing.util.get_temp_dir()
    configured = tempfile.tempdir
    tempfile.tempdir = "/tmp"
    try:
        return multiprocessing.util.get_temp_dir()
    except OSError as error:
        raise UsageError(
            f"`TMPDIR` must have at most {MAX_TEMP_PATH} characters, because processes create sockets in it, got "
            f"{configured}; set a shorter one"
        ) from error
    finally:
        tempfile.tempdir = configured


def available_cores() -> int:
    """Return the number of CPU cores that this process or its container may use."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        cores = len(os.sched_getaffinity(0))
    try:
        # the file contains the CPU time per period and the period's length, in microseconds, or `max` for no limit
        quota, period = map(int, CPU_QUOTA.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return cores
    return min(cores, math.ceil(quota / period))


def start_server() -> None:
    """Start the server from which processes are forked, unless it is running."""
    with environment_of_children():
        multiprocessing.forkserver.ensure_running()


@contextlib.contextmanager
def environment_of_children(imports_main: bool = True, **variables: str) -> Iterator[None]:
    """Pass the import path of this process to processes that are started in the block.

    Python starts them with ``-c``, which would otherwise import from the current folder first.

    :param imports_main: whether the processes import the main module of this process.
    :param variables: other environment variables for the processes.
    """
    temp_folder()  # create the folder here for all children, because a killed child could not remove its own
    path = os.pathsep.join(filter(None, sys.path))
    changed = {"PYTHONSAFEPATH": "1", "PYTHONPATH": path, **variables}
    previous = {name: os.environ[name] for name in changed if name in os.environ}
    os.environ.update(changed)
    main = sys.modules["__main__"]
    if not imports_main:
        sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name in changed:
            del os.environ[name]
        os.environ.update(previous)


# -- in a child -------------------------------------------------------------------------------------------------------


def prepare_child() -> None:
    """Ignore signals that the parent handles, and end this process when the parent ends."""
    leave_to_parent(*STOP_SIGNALS)
    # a parent that is killed cannot end its children, which could continue for hours
    threading.Thread(target=_end_with_parent, daemon=True).start()


def leave_to_parent(*signals: int) -> None:
    """Ignore signals that the parent handles; programs and processes that this process starts have default handlers.

    The default handlers are needed because a simulator that ignores these signals could not be ended.
    """

    def restore() -> None:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)

    for number in signals:
        # unlike SIG_IGN, a handler is not inherited by executed programs
        signal.signal(number, lambda *_: None)
    os.register_at_fork(after_in_child=restore)


def _end_with_parent() -> None:
    """End this process when its parent has ended, even if this process is still working."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    time.sleep(CLOSE_SECONDS)  # time for the main thread to close its environments
    os._exit(1)  # `sys.exit` would end only this thread
