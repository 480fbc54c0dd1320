"""How much memory this process can still take."""

from __future__ import annotations

import os
import resource
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Return how many bytes this process can still take: what the machine has free, its cgroup and its limits allow.

    Page cache counts as free, because the kernel drops it for whoever needs memory.

    :return: bytes, at least 0.
    """
    left = [_free_on_machine(), _left_in_cgroup(), _left_of_address_space()]
    return max(0, min(number for number in left if number is not None))


def _free_on_machine() -> int:
    """Return the memory that is free, or all there is where the system does not say."""
    found = _numbers(Path("/proc/meminfo")).get("MemAvailable:")
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if found is None else 1024 * found


def _left_in_cgroup() -> int | None:
    """Return what is left of a container's memory, in version 2 of cgroups or in version 1; None without a limit."""
    folders = {"memory.max": _CGROUPS, "memory.limit_in_bytes": _CGROUPS / "memory"}
    used = {"memory.max": "memory.current", "memory.limit_in_bytes": "memory.usage_in_bytes"}
    for name, folder in folders.items():
        limit, usage = _number(folder / name), _number(folder / used[name])
        if limit is not None and usage is not None:
            numbers = _numbers(folder / "memory.stat")
            return limit - usage + numbers.get("inactive_file", 0) + numbers.get("active_file", 0)
    return None


def _left_of_address_space() -> int | None:
    """Return what is left of the limit of ``ulimit -v``; None without one."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _number(Path("/proc/self/statm"))
    if limit == resource.RLIM_INFINITY or pages is None:
        return None
    return limit - pages * os.sysconf("SC_PAGE_SIZE")


def _number(path: Path) -> int | None:
    """Return the number at the beginning of a file of the system; None if there is no such file or number."""
    try:
        return int(path.read_text(encoding="utf-8").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _numbers(path: Path) -> dict[str, int]:
    """Return the numbers in a table of the system by their names; empty if there is no such table."""
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
