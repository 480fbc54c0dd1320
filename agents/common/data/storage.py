"""Where a replay buffer's data live, on the training device or in host memory, and how much memory is left."""

from __future__ import annotations

import os
import resource
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from agents.common.validation import one_of

STORAGES = ("auto", "device", "host")
GIB = 1 << 30
KEPT_FREE, KEPT_SHARE = 2 * GIB, 0.1  # of a GPU's memory, whichever is more: for networks, activations and graphs
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Placement:
    """Where data live, and why.

    :param on_device: whether they live on the training device.
    :param device: the device of the tensors.
    :param text: one line for the log.
    """

    on_device: bool
    device: torch.device
    text: str


def place(storage: str, device: torch.device, needed: int) -> Placement:
    """Decide where data of ``needed`` bytes live when ``device`` trains; ``storage`` is one of `STORAGES`.

    On a GPU, ``"auto"`` leaves 2 GiB or a tenth of its memory free, whichever is more, and ``"device"`` is refused if
    the data do not fit. On a CPU ``"auto"`` is ``"device"``. A warning tells where host memory does not suffice.
    """
    one_of("storage", storage, STORAGES)
    in_host, why = storage == "host", ""
    if not in_host and device.type == "cuda":
        free, total = device_memory(device)
        if storage == "device" and needed > free:
            raise ValueError(
                f"`storage` is 'device', but the replay buffer needs {_show(needed)} and {device} has {_show(free)} "
                "free; use `storage='host'` or 'auto', or a smaller `buffer_size`"
            )
        if storage == "auto":
            kept = max(KEPT_FREE, int(KEPT_SHARE * total))
            in_host = needed > free - kept
            why = (
                f" ({_show(free)} of {_show(total)} are free on {device}, {_show(kept)} of which are kept for training)"
            )
    left = available_memory()
    if needed > left and (in_host or device.type != "cuda"):  # parts that are never filled take no memory
        warnings.warn(
            f"the replay buffer needs {_show(needed)} when it is full, and {_show(left)} of memory are free; use a "
            "smaller `buffer_size` or dataset",
            stacklevel=2,
        )
    where = "in host memory" if in_host else f"on {device}"
    text = f"replay buffer: {_show(needed)} {where}{why}"
    return Placement(not in_host, torch.device("cpu") if in_host else device, text)


def device_memory(device: torch.device) -> tuple[int, int]:
    """Return a GPU's free and total memory in bytes; what PyTorch holds without using it counts as free."""
    free, total = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), total


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Copy values from host memory to a device; to a GPU page-locked, so that nothing waits for what it does."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def _show(size: int) -> str:
    return f"{size / GIB:.2f} GiB"


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
