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
    process_dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(process_dtype)


@contextmanager
def matmul_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Let float32 products and convolutions take TF32 where a model's precision allows it, and not elsewhere.

    PyTorch has one switch of each for the process; that of convolutions is on by default. With ``bf16`` the layers that
    stay in float32 take TF32 too. On a CPU the switches are left alone.

    :param precision: ``fp32``, ``tf32`` or ``bf16``.
    :param device: where the model is.
    """
    if device.type == "cpu":
        yield
        return
    process_switches = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    model_switches = ("highest", False) if precision == "fp32" else ("high", True)
    if model_switches == process_switches:
        yield
        return
    _switch(*model_switches)
    try:
        yield
    finally:
        _switch(*process_switches)


def _switch(matmul: str, tf32_convolutions: bool) -> None:
    """Set PyTorch's switches, which are those of the whole process."""
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = tf32_convolutions
