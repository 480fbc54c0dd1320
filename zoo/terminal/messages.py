"""What a program says: on standard error, and in the ``run.log`` of the runs that it trains."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import logging.handlers
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from zoo.terminal.texts import printable, wrapped

RUN_LOG = "run.log"
FILE_ONLY = logging.DEBUG
"""Level of what a run's log keeps and the terminal does not show."""

log = logging.getLogger("zoo")
log.setLevel(logging.INFO)
log.propagate = False


@functools.cache
def say_once(text: str) -> None:
    """Say what would otherwise be said again and again."""
    log.warning("%s", text)


@contextlib.contextmanager
def messages(verbose: int) -> Iterator[None]:
    """Show messages on standard error (errors only where ``verbose`` is 0), and keep them for the logs of runs."""
    level, handlers = log.level, log.handlers
    log.setLevel(FILE_ONLY)
    log.handlers = [_Terminal(logging.INFO if verbose else logging.ERROR), _Backlog(capacity=sys.maxsize)]
    try:
        yield
    finally:
        log.setLevel(level)
        log.handlers = handlers


def keep_in(folders: Iterable[Path]) -> None:
    """Append what was said so far, and what will be said, to the ``run.log`` of run folders."""
    backlogs = [handler for handler in log.handlers if isinstance(handler, _Backlog)]
    for folder in folders:
        handler = RunLog(folder)
        for backlog in backlogs:
            for record in backlog.buffer:
                handler.handle(record)
        log.addHandler(handler)
    for backlog in backlogs:
        log.removeHandler(backlog)


def show_what_cannot_be_encoded() -> None:
    """Make standard output escape characters that its encoding lacks, as standard error does; it would raise."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not str(sys.stdout.encoding).lower().startswith("utf"):
        sys.stdout.reconfigure(errors="backslashreplace")


def open_standard_streams() -> None:
    """Open what is closed of standard input, output and error, here and in children: no other file gets its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # which gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def write_out(text: str) -> bool:
    """Write a line to standard output; return False where that fails, and say why unless the reader has gone."""
    try:
        print(text, flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            log.error("standard output cannot be written: %s", error.strerror)
        with contextlib.suppress(OSError, ValueError):  # what is left would be tried again at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


class RunLog(logging.Handler):
    """Appends messages to a run's ``run.log``; where that fails, it says so once and the run continues."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / RUN_LOG
        self.setFormatter(_Stamped())
        self._has_failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Append a message."""
        try:
            with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(self.format(record) + "\n")
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                log.warning("%s is incomplete, because it cannot be written: %s", self.path, error.strerror)


class _Backlog(logging.handlers.BufferingHandler):
    """Keeps messages until there is a run folder."""


class _Terminal(logging.Handler):
    """Prints messages on the current standard error, which a progress bar replaces to stay below them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message, followed by its ``hint``, which no log needs."""
        try:
            text = _text_of(record) + getattr(record, "hint", "")
            print(wrapped(text) if sys.stderr.isatty() else text, file=sys.stderr, flush=True)
        except Exception:  # as in logging's own handlers: a message that cannot be shown stops nothing
            self.handleError(record)


class _Stamped(logging.Formatter):
    """Puts the time in front of every line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a message."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        return "\n".join(f"{stamp} {line}" for line in _text_of(record).splitlines() or [""])


def _text_of(record: logging.LogRecord) -> str:
    """Return a message as it is printed."""
    text = printable(record.getMessage(), keep="\n\t")
    return f"warning: {text}" if record.levelno == logging.WARNING else text


log.addHandler(_Terminal())  # outside a program too, e.g. where a script loads a dataset
