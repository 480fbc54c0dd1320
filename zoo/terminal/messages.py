"""Messages of a program: on standard error, and in the ``run.log`` of the runs that it trains."""

import contextlib
import functools
import io
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any, TextIO

import yaml

from zoo.terminal.errors import FAILED, SUCCEEDED

RUN_LOG = "run.log"
LOG_FILE_ONLY = logging.DEBUG
"""Level of messages that only a run's log shows."""

log = logging.getLogger("zoo")
log.setLevel(logging.INFO)
log.propagate = False


@functools.cache
def say_once(text: str) -> None:
    """Log a warning the first time that it is given."""
    log.warning(text)


@contextlib.contextmanager
def messages(verbose: int) -> Iterator[None]:
    """Show messages on standard error (errors only where ``verbose`` is 0), and keep them for the logs of runs."""
    level = log.level
    handlers = log.handlers
    log.setLevel(LOG_FILE_ONLY)
    log.handlers = [
        _Terminal(logging.INFO if verbose else logging.ERROR),
        BufferingHandler(sys.maxsize),
    ]
    try:
        yield
    finally:
        for handler in log.handlers:
            handler.close()
        log.setLevel(level)
        log.handlers = handlers


def log_to_folders(folders: Iterable[Path]) -> None:
    """Append the messages so far, and all later ones, to the ``run.log`` of run folders."""
    backlogs = [handler for handler in log.handlers if isinstance(handler, BufferingHandler)]
    records = [record for backlog in backlogs for record in backlog.buffer]
    for backlog in backlogs:
        log.removeHandler(backlog)
    for folder in folders:
        file = logging.FileHandler(folder / RUN_LOG, encoding="utf-8", errors="backslashreplace")
        file.setFormatter(_Text("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%SZ"))
        for record in records:
            file.handle(record)
        log.addHandler(file)


class _Text(logging.Formatter):
    """Writes "warning:" before warnings, and times in UTC."""

    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return a message as it is written."""
        if record.levelno == logging.WARNING:
            record.message = f"warning: {record.message}"
        return super().formatMessage(record)


_TEXT = _Text()


class _Terminal(logging.Handler):
    """Prints messages on the current standard error, which a progress bar replaces to stay below them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        print(_TEXT.format(record), file=sys.stderr, flush=True)


log.addHandler(_Terminal())  # outside a program too, e.g. where a script loads a dataset


def open_standard_streams() -> None:
    """Open closed standard streams on the null device, for children too, so that no other file gets their numbers.

    Standard output escapes characters that its encoding lacks, as standard error does; it would raise.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free
            os.set_inheritable(number, True)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


_reserved_output: TextIO | None = None


def standard_output() -> TextIO:
    """Return the stream of a program's result, whatever `print` writes to just now."""
    return _reserved_output or sys.stdout


@contextlib.contextmanager
def output_reserved() -> Iterator[None]:
    """Keep standard output for the result: what anything else prints meanwhile goes to standard error.

    Environments print, also in child processes and from C; who reads the result expects one line of JSON.
    """
    global _reserved_output
    output = sys.stdout
    output.flush()
    descriptor = os.dup(1)
    os.dup2(2, 1)
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(
            open(descriptor, "w", encoding=output.encoding, errors=output.errors)
        )
        stack.callback(os.dup2, descriptor, 1)
        # a test or a notebook may have put a stream in memory there
        _reserved_output = stream if output is sys.__stdout__ else output
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        finally:
            _reserved_output = None
            with contextlib.suppress(OSError):  # `write_out` has said why
                stream.flush()


def write_out(text: str) -> int:
    """Write a line to standard output, and return the exit code; say why that failed, unless the reader has gone."""
    output = standard_output()
    try:
        print(text, file=output, flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            log.error("standard output cannot be written: %s", error.strerror)
        # Python would try again at its exit to write what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
        return FAILED
    return SUCCEEDED


def as_yaml(result: Mapping[str, Any]) -> str:
    """Return a program's result for a person: as YAML, without None, rounded, with the next command to type.

    A pipe gets the whole result as JSON.
    """
    shown = {name: value for name, value in result.items() if value is not None}
    match result:
        case {"next": _}:
            pass
        case {"runs": [{"run": run}, *_]} | {"run": run}:
            shown["next"] = f"zoo compare {shlex.quote(str(Path(run).parent.parent))} -o report/"
    # Four digits are what a person compares.
    plain = json.loads(json.dumps(shown), parse_float=lambda text: float(f"{float(text):.4g}"))
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=1000)).rstrip()
