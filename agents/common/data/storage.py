"""Where a replay buffer's data live: on the training device or in host memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.common.validation import one_of

STORAGES = ("auto", "device", "host")
GIB = 1 << 30
# of a GPU's memory, whichever is more: for networks, activations and graphs
KEPT_FREE = 2 * GIB
KEPT_SHARE = 0.1


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

    On a GPU, ``"auto"`` leaves 2 GiB or a tenth of its memory free, whichever is more; on a CPU it is ``"device"``.
    """
    one_of("storage", storage, STORAGES)
    in_host = storage == "host"
    if storage == "auto" and device.type == "cuda":
        free, total = device_memory(device)
        in_host = needed > free - max(KEPT_FREE, int(KEPT_SHARE * total))
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
