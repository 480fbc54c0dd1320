"""Signs of life of child processes, which tell one that hangs from one that is slow."""

from __future__ import annotations

import time
from ctypes import c_uint64
from typing import Any

LOOK_SECONDS = 0.25
"""Whoever waits for a process looks this often whether it is alive."""
PATIENCE = 600.0
"""How long a process may be quiet, in seconds: it may import, build environments or take a long step."""
LONGEST_GAP = 5.0
"""What a look counts at most: between two looks this process, or the whole machine, may have been suspended."""


class _Own:
    """The heartbeat of this process, if another one watches it."""

    count: Any = None


def beat_on(count: c_uint64 | None) -> None:
    """Show signs of life of this process from now on.

    :param count: shared with the process that watches; None: nobody does.
    """
    _Own.count = count


def beat() -> None:
    """Show that this process makes progress; costs nothing to speak of, so call it at every step."""
    if _Own.count is not None:
        _Own.count.value += 1


class Watch:
    """Tells how long a process has been quiet while something was expected of it.

    Time passes only from look to look, and a look counts `LONGEST_GAP` at most: a process that was suspended together
    with the one that watches it is not taken for one that hangs.

    :param count: the process's heartbeat.
    """

    def __init__(self, count: c_uint64) -> None:
        self._count = count
        self.expect()

    def expect(self) -> None:
        """Begin to expect signs of life, after one, or after a time in which there was nothing to do."""
        self._looked, self._seen = time.monotonic(), self._count.value
        self.quiet = 0.0
        """Seconds since the last sign of life."""

    def is_hanging(self) -> bool:
        """Count the time since the last look, unless there was a sign of life; return whether it is too much."""
        now = time.monotonic()
        if self._count.value != self._seen:
            self.expect()
        else:
            self.quiet += min(now - self._looked, LONGEST_GAP)
            self._looked = now
        return self.quiet > PATIENCE
