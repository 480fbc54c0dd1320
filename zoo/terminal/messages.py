"""What a program says, on standard error and in the ``run.log`` of the runs that it trains; texts made harmless."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import logging.handlers
import os
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

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


def open_standard_streams() -> None:
    """Open what is closed of standard input, output and error, here and in children: no other file gets its number.

    Standard output escapes characters that its encoding lacks, as standard error does; it would raise.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # which gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper) and not str(sys.stdout.encoding).lower().startswith("utf"):
        sys.stdout.reconfigure(errors="backslashreplace")


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
        self._has_failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Append a message, the time in front of each of its lines."""
        try:
            with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
                stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
                for line in _text_of(record).splitlines() or [""]:
                    file.write(f"{stamp} {line}\n")
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


def _text_of(record: logging.LogRecord) -> str:
    """Return a message as it is printed."""
    text = printable(record.getMessage(), keep="\n\t")
    return f"warning: {text}" if record.levelno == logging.WARNING else text


log.addHandler(_Terminal())  # outside a program too, e.g. where a script loads a dataset


# -- texts from labels, paths, files and messages, made harmless for where they are shown ------------------------------


MOST_PARTS = 8
"""The most parts of a list that a person is shown."""
_FORMULA_BEGINS = ("=", "+", "-", "@")
_LONGEST_LABEL = 200


def printable(text: str, keep: str = "") -> str:
    """Return a text whose control bytes, which a terminal would obey, are written as escapes.

    :param keep: characters that stay, e.g. newlines.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else ascii(sign)[1:-1] for sign in text)


def wrapped(text: str) -> str:
    """Return a text whose lines are broken between words where the terminal is narrower than they are."""
    columns = shutil.get_terminal_size().columns
    break_line = textwrap.TextWrapper(columns, break_long_words=False, break_on_hyphens=False).fill
    return "\n".join(break_line(line) if len(line) > columns else line for line in text.split("\n"))


def in_words(result: Mapping[str, Any]) -> str:
    """Return a program's result for a person: a line for each value that there is, and what to do next.

    A pipe gets all of it as JSON.
    """
    lines = [
        f"{name.replace('_', ' ')}: {_value_in_words(value)}" for name, value in result.items() if value is not None
    ]
    match result:
        case {"next": _}:
            pass
        case {"report": path} | {"video": str(path)} | {"url": path}:
            lines.append(f"next: open {path}")
        case {"study": study, "algo": algo, "env": env}:
            lines.append(f"next: zoo train --algo {algo} --env {env} --study {shlex.quote(study)}")
        case {"runs": [{"run": run}, *_]} | {"run": run}:
            lines.append(f"next: zoo compare {shlex.quote(str(Path(run).parent.parent))} -o report/")
    return "\n".join(lines)


def _value_in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_value_in_words(part)}" for name, part in value.items())
    if isinstance(value, list):
        shown = [_value_in_words(part) for part in value[:MOST_PARTS]]
        if len(value) > MOST_PARTS:
            shown.append(f"and {len(value) - MOST_PARTS} more, which a pipe gets as JSON")
        between = "\n  " if any(isinstance(part, dict) for part in value) else ", "
        return between.removeprefix(", ") + between.join(shown)
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def csv_cell(value: Any) -> Any:
    """Return a value for a cell of a CSV file, which a spreadsheet does not run and a terminal does not obey.

    What would be a formula gets a quote in front. Numbers stay numbers, negative ones and those that are texts too.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    if not text.startswith(_FORMULA_BEGINS):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def csv_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with every cell and heading as `csv_cell` makes it."""
    texts = {name: column.map(csv_cell) for name, column in table.items() if column.dtype.kind == "O"}
    return table.assign(**texts).rename(columns=csv_cell)


def check_label(label: str | None) -> None:
    """Raise UsageError for a label that a table cannot show on one line."""
    if label is not None and not (label.isprintable() and len(label) <= _LONGEST_LABEL):
        raise UsageError(
            f"a label must be at most {_LONGEST_LABEL} characters without line breaks or control bytes, got "
            f"{label[:_LONGEST_LABEL]!a}; it names a row of tables, give a shorter or plainer one"
        )
