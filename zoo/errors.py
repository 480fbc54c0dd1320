"""What ends a program before its work is done, and with which exit code."""


class UsageError(Exception):
    """Bad arguments, settings or data, found before any work starts; the program exits with code 2."""


class Interrupted(Exception):
    """The run was stopped by a signal after its checkpoint was written; the program exits with code 3."""
