"""Where a replay buffer's data live, on the training device or in host memory, and how much memory is left."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from agents.common.validation import one_of

STORAGES = ("auto", "device", "host")
GIB = 1 << 30
# of a GPU's memory, whichever is more: for networks, activations and graphs
KEPT_FREE = 2 * GIB
KEPT_SHARE = 0.1
_CGROUP = Path("/sys/fs/cgroup")


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

    On a GPU, ``"auto"`` leaves 2 GiB or a tenth of its memory free, whichever is more; on a CPU it is ``"device"``. A
    warning tells where host memory does not suffice.
    """
    one_of("storage", storage, STORAGES)
    in_host = storage == "host"
    if storage == "auto" and device.type == "cuda":
        free, total = device_memory(device)
        in_host = needed > free - max(KEPT_FREE, int(KEPT_SHARE * total))
    available = available_memory()
    # only a warning: parts that are never filled take no memory
    if needed > available and (in_host or device.type != "cuda"):
        warnings.warn(
            f"the replay buffer needs {needed / GIB:.2f} GiB when it is full, and {available / GIB:.2f} GiB of "
            "memory are free; use a smaller `buffer_size` or dataset",
            stacklevel=2,
        )
    where = f"on {device}"
    if in_host:
        where = "in host memory"
        device = torch.device("cpu")
    return Placement(not in_host, device, f"replay buffer: {needed / GIB:.2f} GiB {where}")


def device_memory(device: torch.device) -> tuple[int, int]:
    """Return a GPU's free and total memory in bytes; what PyTorch holds without using it counts as free."""
    free, total = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), total


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy values from host memory to a device; from page-locked memory the copy to a GPU is asynchronous."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def available_memory() -> int:
    """Return how many bytes this process can still take: what the machine has free and a container's limit allows.

    Page cache counts as free, because the kernel drops it for whoever needs memory.
    """
    try:
        free = 1024 * _table(Path("/proc/meminfo"))["MemAvailable:"]
    except OSError:  # another system than Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = int((_CGROUP / "memory.max").read_text(encoding="utf-8"))
        used = int((_CGROUP / "memory.current").read_text(encoding="utf-8"))
        cached = _table(_CGROUP / "memory.stat")
    except (OSError, ValueError):  # no limit, which reads "max"
        return free
    return min(free, limit - used + cached["inactive_file"] + cached["active_file"])


def _table(path: Path) -> dict[str, int]:
    """Return the numbers in a table of the system by their names."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return {row[0]: int(row[1]) for row in rows}
