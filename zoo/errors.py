"""What ends a program before its work is done, and with which exit code."""

import contextlib
from collections.abc import Iterator

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 3
"""Exit codes of every program."""
TRACEBACK_HINT = " (run with --verbose 2 for the traceback)"


class UsageError(Exception):
    """Bad arguments, settings or data, found before any work starts; the program exits with code 2."""


class CannotResume(UsageError):
    """No checkpoint of a run can be used; its folder stays as it is."""


class Interrupted(Exception):
    """The run was stopped by a signal after its checkpoint was written; the program exits with code 3."""


@contextlib.contextmanager
def as_usage_error(*kinds: type[Exception]) -> Iterator[None]:
    """Turn exceptions of some kinds, by default those of bad values, into a UsageError of the same text."""
    wanted = kinds or (TypeError, ValueError)
    try:
        yield
    except wanted as error:
        raise UsageError(str(error)) from error
