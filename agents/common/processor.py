"""Signals that request a stop, and the contents of /proc/cpuinfo."""

import signal
from pathlib import Path

STOP_SIGNALS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU,
)  # fmt: skip
"""Signals that request a stop, sent by Ctrl-C, a scheduler, a closing terminal or a limit on CPU time."""


def cpuinfo(key: str) -> str:
    """Return the first value of a key in /proc/cpuinfo; empty if there is none, e.g. on macOS."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
