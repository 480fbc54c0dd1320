"""Where a replay buffer's data live: on the training device while they fit, else in host memory.

From there the next batch is prepared in the background while the current one is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from agents.common.batch import Batch
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
    the data do not fit. On a CPU ``"auto"`` is ``"device"``, and ``"host"`` still prepares batches in the background.
    A warning tells where host memory does not suffice.
    """
    one_of("storage", storage, STORAGES)
    size = f"replay buffer: {_show(needed)}"
    on_host = Placement(False, torch.device("cpu"), f"{size} in host memory, the next batch prepared in the background")
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


def _show(size: int) -> str:
    return f"{size / GIB:.2f} GiB"


Draw = Callable[[int, torch.Generator], Batch]
Prepared = tuple[Batch, Tensor]
"""A batch in host memory, and the generator's state after it."""


class Prefetcher:
    """Hands out batches from host memory, and prepares the next one ahead of time where it can be foreseen.

    The next batch is drawn from a copy of the generator, and used only if the generator has not moved and
    :meth:`discard` was not called in the meantime. So batches and random streams are the same as without it, and a
    checkpoint need not know about it.

    :param device: where batches go.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="next-batch")  # starts with the first batch
        self._next: Future[Prepared] | None = None
        self._last: tuple[int, Tensor] | None = None  # size of the last batch, and the generator's state after it

    def batch(self, draw: Draw, size: int, generator: torch.Generator | None = None) -> Batch:
        """Return the next batch.

        :param draw: makes a batch on the CPU from a size and a generator; the same at each call.
        :param size: B.
        :param generator: on the CPU; None uses PyTorch's global one.
        :return: the batch, on the device.
        """
        generator = torch.default_generator if generator is None else generator
        last = self._last
        undisturbed = last is not None and last[0] == size and torch.equal(last[1], generator.get_state())
        if self._next is not None and undisturbed:
            batch, state = self._next.result()
            generator.set_state(state)
        else:
            self.discard()
            batch, state = self._prepare(draw, size, generator)
        self._last, self._next = (size, state), None
        if undisturbed:  # where other draws or new data come between batches, guessing ahead would be wasted
            self._next = self._thread.submit(self._prepare, draw, size, generator.clone_state())
        return batch.map(lambda value: value.to(self.device, non_blocking=True))

    def discard(self) -> None:
        """Forget what was prepared; call it before the data change."""
        if self._next is not None and not self._next.cancel():
            self._next.exception()  # it reads the data: wait for its end
        self._next = self._last = None

    def _prepare(self, draw: Draw, size: int, generator: torch.Generator) -> Prepared:
        """Make a batch, page-locked if it is to be copied to a CUDA GPU, so that nothing waits for the copy."""
        batch = draw(size, generator)
        if self.device.type == "cuda":
            batch = batch.map(Tensor.pin_memory)
        return batch, generator.get_state()
