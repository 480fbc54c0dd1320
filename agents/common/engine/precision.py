"""How exactly float32 products are computed on a GPU: a choice of each model, while it computes and no longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def float32_products(precision: str, device: torch.device) -> Iterator[None]:
    """Let float32 products take TF32 where a model's precision allows it, and not elsewhere.

    PyTorch has one switch for the process. With ``bf16`` the layers that stay in float32 take TF32 too. On a CPU the
    switch is left alone.

    :param precision: ``fp32``, ``tf32`` or ``bf16``.
    :param device: where the model is.
    """
    before = torch.get_float32_matmul_precision()
    wanted = "highest" if precision == "fp32" else "high"
    if device.type == "cpu" or wanted == before:
        yield
        return
    torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
