"""Products of oneDNN, where that library is faster than the one that PyTorch uses.

What it gains is measured in `benchmarks/results/history/network_evaluation.md`.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.autograd import forward_ad

from agents.common.nets import mlp
from agents.common.processor import cpuinfo

ROWS = 32  # fewer rows gain nothing
WORK = 1 << 24  # multiplications; smaller products gain less than the call costs


@functools.cache
def is_faster(of_weights: bool = False) -> bool:
    """Return whether oneDNN's products are faster than MKL's; ``of_weights``: those that give a weight's gradient.

    On AMD processors MKL does not use AVX-512. Up to Zen 4 (family 25) that costs a tenth to a third of its speed, but
    nothing in the gradient of a weight; since Zen 5 it halves the speed of every product.
    """
    # by the processor's maker: after a measurement, a run's numbers would depend on how busy the machine was
    if cpuinfo("vendor_id") != "AuthenticAMD":
        return False
    if of_weights and int(cpuinfo("cpu family")) < 26:
        return False
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def is_transformed(x: Tensor) -> bool:
    """Return whether `torch.func` is at work (`grad`, `vmap`, ...), or a derivative is carried forwards (`jvp`).

    Operations of our own, and oneDNN's, would refuse the one and silently drop the other.
    """
    is_dual = forward_ad.unpack_dual(x).tangent is not None
    return is_dual or torch._C._are_functorch_transforms_active()


@functools.cache
def supports_bf16() -> bool:
    """Return whether oneDNN has products in bfloat16 for this processor: on AMD since Zen 4."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def is_preferred(x: Tensor, weight: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Return whether oneDNN should multiply, member by member: where it is faster, given enough rows and work.

    ``dtype`` is that of the factors, None for the weight's.
    """
    # first what is checked fastest, since small networks ask as often as large ones
    if torch.compiler.is_compiling() or not is_faster():
        return False
    rows = x.shape[weight.ndim - 2 : -1].numel()
    if rows < ROWS or rows * weight.shape[-2:].numel() < WORK:
        return False
    return (
        mlp.device_type(x) == "cpu"
        and not is_transformed(x)
        and x.dtype in (torch.float32, torch.bfloat16)
        and ((dtype or weight.dtype) == torch.float32 or supports_bf16())
    )


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype | None = None,
    with_gelu: bool = False,
) -> Tensor:
    """Multiply rows by one matrix, in one pass with the bias and with GELU; no gradient is recorded."""
    factors = dtype or weight.dtype
    rows = x.flatten(0, -2).to(factors)
    matrix = weight.flatten(0, -2).t().to(factors)
    bias = None if bias is None else bias.flatten().to(factors)
    product = product_of(rows, matrix, bias, with_gelu).to(weight.dtype)
    return product.view(*weight.shape[:-2], *x.shape[weight.ndim - 2 : -1], -1)


def product_of(
    rows: Tensor, matrix: Tensor, bias: Tensor | None = None, with_gelu: bool = False
) -> Tensor:
    """Return rows (B, in) times a matrix (out, in)."""
    name, form = ("gelu", "tanh") if with_gelu else ("none", "")
    return torch.ops.mkldnn._linear_pointwise(rows, matrix, bias, name, [], form)
