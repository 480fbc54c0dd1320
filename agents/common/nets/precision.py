"""In which precision tensors are made and multiplied, whatever the process has set PyTorch to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Make new tensors in float32 inside the block.

    PyTorch's default is one for the process, and modules of other libraries follow it.
    """
    outside = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(outside)
