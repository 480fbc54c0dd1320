"""Products of rows with stacked matrices: the one place where the networks' matrix products happen.

Shapes: ``stack`` stands for the leading axes of the parameters, (S,) or (S, E). On a CPU large products go to oneDNN
where that is the faster library.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

ALIGNMENT = 8  # columns; CUDA's fast kernels want rows of a multiple of 16 bytes
ONEDNN_ROWS = 32  # fewer rows gain nothing
ONEDNN_WORK = 1 << 24  # multiplications; smaller products gain less than the call costs


def dense(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None, keep: bool = False
) -> Tensor:
    """Multiply rows by stacked matrices.

    :param x: (*stack, ..., in); stack axes of size 1 broadcast.
    :param weight: (*stack, in, out).
    :param bias: (*stack, out), or None.
    :param dtype: lower precision for the factors, e.g. bfloat16; None keeps theirs.
    :param keep: whether the result stays in that precision.
    :return: (*stack, ..., out), otherwise in full precision.
    """
    lead = weight.ndim - 2
    if dtype is None and x.dtype != weight.dtype:
        x = x.to(weight.dtype)
    if x.ndim > weight.ndim:  # several row axes: fold them into one
        return dense(x.flatten(lead, -2), weight, bias, dtype, keep).unflatten(lead, x.shape[lead:-1])
    if is_single(weight) and not torch.is_grad_enabled() and prefers_onednn(x, weight):
        product = by_onednn(x, weight, bias, dtype)
        return product if keep else product.float()
    if dtype is not None:
        product = _padded_matmul(x.to(dtype), weight.to(dtype))
        if not keep:
            product = product.float()
        return product if bias is None else product + bias.to(product.dtype).unsqueeze(-2)
    if lead == 1 and is_single(weight):  # one network: skip the batched form
        if x.device.type == "cpu":
            return F.linear(x[0], weight[0].t(), None if bias is None else bias[0]).unsqueeze(0)
        product = _padded_matmul(x[0], weight[0]).unsqueeze(0)
    else:
        product = _padded_matmul(x, weight)
    return product if bias is None else product + bias.unsqueeze(-2)


def _padded_matmul(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply; on CUDA with zero columns added where odd sizes would fall back to slow kernels."""
    aligned = all(size % ALIGNMENT == 0 for size in weight.shape[-2:]) or weight.shape[-1] == 1
    return torch.matmul(x, weight) if aligned or x.device.type != "cuda" else _zero_padded_matmul(x, weight)


def _zero_padded_matmul(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply with inputs and outputs filled up with zeros to a multiple of the alignment."""
    inputs, outputs = weight.shape[-2:]
    more_inputs, more_outputs = -inputs % ALIGNMENT, -outputs % ALIGNMENT
    product = torch.matmul(F.pad(x, (0, more_inputs)), F.pad(weight, (0, more_outputs, 0, more_inputs)))
    return product[..., :outputs]


# -- oneDNN -----------------------------------------------------------------------------------------------------------


@functools.cache
def processor() -> tuple[str, int]:
    """Return the processor's maker and family, as Linux tells them, or empty ones.

    What is decided by them is decided alike on every run; measuring at start would let a run's numbers depend on how
    busy the machine was.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return "", 0
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return found.get("vendor_id", ""), int(found.get("cpu family", 0))


def onednn_is_faster(of_weights: bool = False) -> bool:
    """Return whether oneDNN's products are faster than MKL's.

    On AMD processors MKL does without AVX-512. Up to Zen 4 (family 25) that costs a tenth to a third of its speed, but
    nothing in the gradient of a weight; since Zen 5 it halves the speed of every product.

    :param of_weights: whether the product is the gradient of a weight.
    :return: whether they are.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    vendor, family = processor()
    return vendor == "AuthenticAMD" and (family >= 26 or not of_weights)


def prefers_onednn(x: Tensor, weight: Tensor) -> bool:
    """Return whether a product, of each member by itself, should go to oneDNN.

    :param x: (*stack, ..., in).
    :param weight: (*stack, in, out).
    :return: True on a CPU where it is the faster library, if there are enough rows and work.
    """
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    rows = x.shape[weight.ndim - 2 : -1].numel()
    return (
        onednn_is_faster()
        and x.dtype in (torch.float32, torch.bfloat16)
        and rows >= ONEDNN_ROWS
        and rows * weight.shape[-2:].numel() >= ONEDNN_WORK
    )


def is_single(weight: Tensor) -> bool:
    """Return whether there is one matrix, its stack axes being of size 1.

    :param weight: (*stack, in, out).
    :return: whether it stands alone.
    """
    return weight.shape[:-2].numel() == 1


def by_onednn(
    x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype | None, activated: bool = False
) -> Tensor:
    """Multiply rows by one matrix, in one pass with the bias and with GELU; no gradient is recorded.

    :param x: (*stack, ..., in), stack axes of size 1.
    :param weight: (*stack, in, out).
    :param bias: (*stack, out), or None.
    :param dtype: lower precision of the factors and of the result, or None.
    :param activated: whether GELU (tanh form) follows.
    :return: (*stack, ..., out).
    """
    rows, matrix = x.flatten(0, -2), weight.flatten(0, -2).t()
    offset = None if bias is None else bias.flatten()
    if dtype is not None:
        rows, matrix, offset = rows.to(dtype), matrix.to(dtype), None if offset is None else offset.to(dtype)
    name, form = ("gelu", "tanh") if activated else ("none", "")
    product = torch.ops.mkldnn._linear_pointwise(rows, matrix, offset, name, [], form)
    return product.view(*weight.shape[:-2], *x.shape[weight.ndim - 2 : -1], weight.shape[-1])


def weight_gradient(x: Tensor, cotangent: Tensor, out: Tensor) -> None:
    """Write the gradient of a matrix that rows were multiplied by.

    :param x: the rows, (N, in).
    :param cotangent: of their products, (N, out).
    :param out: gets the gradient, (in, out).
    """
    if onednn_is_faster(of_weights=True):
        out.copy_(torch.ops.mkldnn._linear_pointwise(x.t(), cotangent.t(), None, "none", [], ""))
    else:
        torch.mm(x.t(), cotangent, out=out)
