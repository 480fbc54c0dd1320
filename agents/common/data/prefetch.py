"""The next batch, prepared in the background while the current one is used."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.common.batch import Batch

Draw = Callable[[int, torch.Generator], Batch]


@dataclass(frozen=True)
class _Prepared:
    """A batch in host memory."""

    batch: Batch
    block: Tensor | None  # the bytes of all of the batch, if it is to be copied to another device
    state: Tensor  # of the generator, after the batch


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
        self._next: Future[_Prepared] | None = None
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
            prepared = self._next.result()
            generator.set_state(prepared.state)
        else:
            self.discard()
            prepared = self._prepare(draw, size, generator)
        self._last, self._next = (size, prepared.state), None
        if undisturbed:  # where other draws or new data come between batches, guessing ahead would be wasted
            self._next = self._thread.submit(self._prepare, draw, size, generator.clone_state())
        return self._sent(prepared)

    def discard(self) -> None:
        """Forget what was prepared; call it before the data change."""
        if self._next is not None and not self._next.cancel():
            self._next.exception()  # it reads the data: wait for its end
        self._next = self._last = None

    def _prepare(self, draw: Draw, size: int, generator: torch.Generator) -> _Prepared:
        """Make a batch, in one block if it is to be copied to a device; page-locked if that is a CUDA GPU."""
        batch = draw(size, generator)
        state = generator.get_state()
        if self.device.type == "cpu":
            return _Prepared(batch, None, state)
        values = [value.reshape(-1).contiguous().view(torch.uint8) for value in _by_precision(batch)]
        size = sum(len(value) for value in values)
        block = torch.empty(size, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        torch.cat(values, out=block)
        return _Prepared(batch, block, state)

    def _sent(self, prepared: _Prepared) -> Batch:
        """Return a batch on the device; the copy is one, and nothing waits for it."""
        if prepared.block is None:
            return prepared.batch
        there = prepared.block.to(self.device, non_blocking=True)
        values = _by_precision(prepared.batch)
        parts = there.split([value.nbytes for value in values])
        found = {id(v): part.view(v.dtype).view(v.shape) for v, part in zip(values, parts, strict=True)}
        return prepared.batch.map(lambda value: found[id(value)])


def _by_precision(batch: Batch) -> list[Tensor]:
    """Return a batch's tensors, those of uint8 last: in a block of bytes, numbers begin where their size divides."""
    return sorted(batch.tensors().values(), key=lambda value: -value.itemsize)
