"""How exactly float32 products are computed on a GPU: a choice of each model, while it computes and no longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def float32_products(precision: str, device: torch.device) -> Iterator[None]:
    """Let float32 products and convolutions take TF32 where a model's precision allows it, and not elsewhere.

    PyTorch has one switch of each for the process; that of convolutions is on by default. With ``bf16`` the layers that
    stay in float32 take TF32 too. On a CPU the switches are left alone.

    :param precision: ``fp32``, ``tf32`` or ``bf16``.
    :param device: where the model is.
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    wanted = ("highest", False) if precision == "fp32" else ("high", True)
    if device.type == "cpu" or wanted == before:
        yield
        return
    _switch(*wanted)
    try:
        yield
    finally:
        _switch(*before)


def _switch(products: str, convolutions: bool) -> None:
    """Set PyTorch's switches."""
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions
