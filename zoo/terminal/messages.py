"""Messages of `zoo` commands, on standard error and in the ``run.log`` of run folders."""

import contextlib
import functools
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from logging.handlers import BufferingHandler
from pathlib import Path

RUN_LOG = "run.log"
LOG_FILE_ONLY = logging.DEBUG
"""Level of messages that are written only to ``run.log``."""

log = logging.getLogger("zoo")
log.setLevel(logging.INFO)
log.propagate = False


@functools.cache
def say_once(text: str) -> None:
    """Log a warning, only once per text."""
    log.warning(text)


@contextlib.contextmanager
def messages(verbose: int) -> Iterator[None]:
    """Show messages on standard error (only errors if ``verbose`` is 0), and keep all messages for the logs of runs."""
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
    """Append all earlier and later messages to the ``run.log`` of run folders."""
    backlogs = [handler for handler in log.handlers if isinstance(handler, BufferingHandler)]
    records = [record for backlog in backlogs for record in backlog.buffer]
    for backlog in backlogs:
        log.removeHandler(backlog)
    for folder in folders:
        file = _RunLog(folder / RUN_LOG, encoding="utf-8", errors="backslashreplace")
        file.setFormatter(_Text("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%SZ"))
        for record in records:
            file.handle(record)
        log.addHandler(file)


class _Text(logging.Formatter):
    """Writes times in UTC, and puts "warning:" before warnings."""

    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the text of a message."""
        if record.levelno == logging.WARNING:
            record.message = f"warning: {record.message}"
        return super().formatMessage(record)


_TEXT = _Text()


class _Terminal(logging.Handler):
    """Prints messages on the current `sys.stderr`, which a progress bar replaces to stay below the messages."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message; a closed terminal is not an error."""
        with contextlib.suppress(OSError):
            print(_TEXT.format(record), file=sys.stderr, flush=True)


class _RunLog(logging.FileHandler):
    """Appends messages to a ``run.log``; on a full disk, messages are lost, and one warning reports this."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Report the first message that could not be written to the file."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.failed:
            self.failed = True  # set before the warning, which this handler also receives
            log.warning("%s could not be written: %s", self.baseFilename, error.strerror)

    def close(self) -> None:
        """Close the file."""
        # messages that could not be written have been reported already
        with contextlib.suppress(OSError):
            super().close()


log.addHandler(_Terminal())  # for scripts without a `zoo` command, e.g. one that loads a dataset
