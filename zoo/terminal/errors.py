"""Errors and signals that stop a program, and the exit codes of programs."""

import contextlib
import logging
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from agents.common.processor import STOP_SIGNALS

SUCCEEDED, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 3
"""Exit codes of every program."""
TRACEBACK_HINT = " (run with --verbose 2 for the traceback)"


@contextlib.contextmanager
def handling_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within the block, pass `STOP_SIGNALS` to a handler, but not SIGHUP in a process started with ``nohup``."""
    signals = set(STOP_SIGNALS)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # the program must outlive its terminal
        signals.discard(signal.SIGHUP)
    with contextlib.ExitStack() as stack:
        for number in signals:
            stack.callback(signal.signal, number, signal.signal(number, handler))
        yield


class StopSignal:
    """Turns the signals of `STOP_SIGNALS` into a request to stop after the current step.

    Ctrl-C after an earlier signal interrupts immediately. A second signal of another kind does not, because a cluster
    and the parent process may each send a signal for the same stop.

    :param message: logged once, when the program first finds that a signal was received.
    """

    def __init__(
        self, message: str = "stopping after this step; press Ctrl-C again to stop immediately"
    ) -> None:
        self.message = message
        self._is_received = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Record a signal, or interrupt at a second Ctrl-C; a handler for :func:`handling_signals`."""
        if self._is_received and number == signal.SIGINT:
            raise KeyboardInterrupt("stopped by Ctrl-C")
        self.record()

    def record(self, *_: Any) -> None:
        """Record that a signal was received, also a second Ctrl-C; a handler that never interrupts."""
        # log nothing here: the signal may interrupt the writing of a message, and logging is not re-entrant
        self._is_received = True

    @property
    def requested(self) -> bool:
        """Whether a signal was received."""
        if self._is_received and self.message:
            logging.getLogger("zoo").info(self.message)
            self.message = ""
        return self._is_received

    def check(self) -> None:
        """Raise Abandoned if a signal was received."""
        if self.requested:
            raise Abandoned


class UsageError(Exception):
    """Wrong arguments, settings or data, usually found before work starts; exit code 2."""


class CannotResume(UsageError):
    """No checkpoint of a run can be used; the run's folder is not changed."""


class Interrupted(Exception):
    """A signal stopped the command, which can be repeated or resumed; exit code 3."""


class Abandoned(Exception):
    """An evaluation was aborted by a signal; --resume repeats it."""


class EnvironmentFault(Exception):
    """An environment returned an invalid value, e.g. NaN; the message names the environment and the step."""


def describe_error(error: BaseException) -> str:
    """Return the type and text of a caught exception; without text, as from a bare `assert`, its location instead."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error) or f"raised by `{frame.name}` in {frame.filename}:{frame.lineno}"
    return f"{type(error).__name__}: {text}"


def one_line(error: BaseException) -> str:
    """Return the text of a library's exception on one line, or the exception's type if it has no text."""
    return " ".join(str(error).split()) or type(error).__name__


def shortened(phrases: Iterable[str], limit: int = 6) -> list[str]:
    """Return the first phrases, and ``and N more`` instead of the remaining ones."""
    phrases = list(phrases)
    rest_count = len(phrases) - limit
    if rest_count <= 1:  # listing one more phrase is as short as counting it
        return phrases
    return [*phrases[:limit], f"and {rest_count} more"]


@contextlib.contextmanager
def as_usage_error(*kinds: type[Exception]) -> Iterator[None]:
    """Convert exceptions of some types, by default TypeError and ValueError, to a UsageError with the same text."""
    caught = kinds or (TypeError, ValueError)
    try:
        yield
    except caught as error:
        raise UsageError(str(error)) from error
