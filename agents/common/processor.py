"""What Linux says of the processor; empty on other systems."""

from pathlib import Path


def cpuinfo(key: str) -> str:
    """Return the first value of a key in Linux's description of the processor, empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
