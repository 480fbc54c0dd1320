"""The machine: the signals that stop a program on it, and the processor as Linux describes it."""

import signal
from pathlib import Path

STOP_SIGNALS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU,
)  # fmt: skip
"""Signals that ask a program to stop: Ctrl-C, a cluster, a closed terminal, and a queue before a time limit."""


def cpuinfo(key: str) -> str:
    """Return the first value of a key in Linux's description of the processor, empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
