"""Signs of life of child processes, which tell one that hangs from one that is slow."""

from __future__ import annotations

import time
from ctypes import c_uint64
from typing import Any

LOOK_SECONDS = 0.25
"""Whoever waits for a process looks this often whether it is alive."""
FIRST_PATIENCE = 600.0
"""How long a process may be quiet until its first answer, in seconds: it imports, and builds environments."""
LEAST_PATIENCE = 120.0
"""How long it may be quiet after that, however fast it was before."""
PATIENCE_FACTOR = 20.0
"""How many times as long as ever before it may be quiet."""
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
        self._count, self._seen = count, count.value
        self._looked = time.monotonic()
        self._slowest: float | None = None  # None: no answer yet
        self.quiet = 0.0
        """Seconds since the last sign of life."""

    @property
    def patience(self) -> float:
        """How long the process may be quiet now, in seconds; follows from how long it was before."""
        if self._slowest is None:
            return FIRST_PATIENCE
        return max(LEAST_PATIENCE, PATIENCE_FACTOR * self._slowest)

    @property
    def is_hanging(self) -> bool:
        """Whether the process was quiet for too long when it was last looked at."""
        return self.quiet > self.patience

    def expect(self) -> None:
        """Begin to expect signs of life, after a time in which there was nothing to do."""
        self._looked, self._seen, self.quiet = time.monotonic(), self._count.value, 0.0

    def look(self) -> None:
        """Count the time since the last look, unless there was a sign of life."""
        now = time.monotonic()
        self.quiet += min(now - self._looked, LONGEST_GAP)
        self._looked = now
        if self._count.value != self._seen:
            self._seen = self._count.value
            self._learn()

    def answered(self) -> None:
        """Note that the process has answered."""
        self._learn()
        self._slowest = self._slowest or 0.0

    def _learn(self) -> None:
        """Remember how long the process was quiet, unless it was building."""
        if self._slowest is not None:
            self._slowest = max(self._slowest, self.quiet)
        self.quiet = 0.0
