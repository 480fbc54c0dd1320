"""Where a replay buffer's data live: on the training device while they fit, else in host memory."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from agents.common.files.memory import available_memory
from agents.common.validation import one_of

STORAGES = ("auto", "device", "host")
GIB = 1 << 30
KEPT_FREE, KEPT_SHARE = 2 * GIB, 0.1  # of a GPU's memory, whichever is more: for networks, activations and graphs


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
    size = f"replay buffer: {_show(needed)}"
    on_host = Placement(False, torch.device("cpu"), f"{size} in host memory")
    on_device = Placement(True, device, f"{size} on {device}")
    if storage == "host" or device.type != "cuda":
        _warn_if_too_large(needed)
        return on_host if storage == "host" else on_device
    free, total = device_memory(device)
    if storage == "device":
        if needed > free:
            raise ValueError(
                f"`storage` is 'device', but the replay buffer needs {_show(needed)} and {device} has {_show(free)} "
                "free; use `storage='host'` or 'auto', or a smaller `buffer_size`"
            )
        return on_device
    kept = max(KEPT_FREE, int(KEPT_SHARE * total))
    why = f"{_show(free)} of {_show(total)} are free on {device}, {_show(kept)} of which are kept for training"
    if needed <= free - kept:
        return replace(on_device, text=f"{on_device.text} ({why})")
    _warn_if_too_large(needed)
    return replace(on_host, text=f"{on_host.text} ({why})")


def _warn_if_too_large(needed: int) -> None:
    """Warn of data that host memory has no room for; parts of the buffer that are never filled take none."""
    free = available_memory()
    if needed > free:
        warnings.warn(
            f"the replay buffer needs {_show(needed)} when it is full, and {_show(free)} of memory are free; use a "
            "smaller `buffer_size` or dataset",
            stacklevel=2,
        )


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
