"""Evaluation of networks for speed: what `mlp.py` computes, up to rounding.

:func:`make_mlp` is the one place that chooses between the plain way and this one. What each optimisation gains is
measured in `benchmarks/results/history/network_evaluation.md`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from agents.common.nets import mlp, onednn
from agents.common.nets.mlp import Layer, StackedMLP

SMALLEST_MATRIX = 1 << 11  # entries; networks whose matrices all have fewer are evaluated plainly
GELU_SLOPE, GELU_CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715


def evaluate(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Evaluate layers one after the other as :func:`agents.common.nets.mlp.evaluate` does, in the fastest way known.

    Where oneDNN is the faster library, members are evaluated one by one, so that the values between two layers stay in
    the processor's cache.
    """
    layers = _in_low_precision(layers, x)
    # recorded bfloat16 gains nothing
    gains = layers and (layers[0].weight.dtype == torch.float32 or not torch.is_grad_enabled())
    if not gains or not any(onednn.is_preferred(x, layer.weight, layer.dtype) for layer in layers):
        return mlp.evaluate(layers, x, batched_linear)
    stack = layers[0].weight.shape[:-2]
    if stack.numel() == 1:
        return _evaluate_member(layers, x)
    rows = x.expand(*stack, *x.shape[len(stack) :]).flatten(0, len(stack) - 1).split(1)
    members = zip(*map(_members, layers), strict=True)
    return torch.cat(list(map(_evaluate_member, members, rows))).unflatten(0, stack)


def _evaluate_member(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Evaluate one network by oneDNN."""
    if torch.is_grad_enabled():
        return mlp.evaluate(layers, x, onednn.recorded_linear)
    for layer in layers:
        if layer.activation is gelu and onednn.is_preferred(x, layer.weight, layer.dtype):
            activated = onednn.linear(x, layer.weight, layer.bias, layer.dtype, with_gelu=True)
            x = layer._replace(activation=None).epilogue(activated)
        else:
            x = layer.epilogue(batched_linear(x, layer.weight, layer.bias, layer.dtype))
    return x


def _members(layer: Layer) -> list[Layer]:
    """Return the layer of every member of the stack, with one stack axis of size 1."""
    lead = layer.weight.ndim - 2
    tensors = {name: value for name, value in layer._asdict().items() if isinstance(value, Tensor)}
    split = {name: value.flatten(0, lead - 1).split(1) for name, value in tensors.items()}
    rows = zip(*split.values(), strict=True)
    return [layer._replace(**dict(zip(split, row, strict=True))) for row in rows]


def _in_low_precision(layers: Sequence[Layer], x: Tensor) -> Sequence[Layer]:
    """Return layers whose outputs stay in the precision of their products, to which the next one would round anyway."""
    # the compiler fuses the conversions with what lies between two products
    if mlp.device_type(x) != "cpu" or torch.compiler.is_compiling():
        return layers
    rounded = []
    for layer in layers:
        if layer.dtype is not None:
            layer = layer._replace(
                weight=layer.weight.to(layer.dtype), bias=layer.bias.to(layer.dtype), dtype=None
            )
        rounded.append(layer)
    return rounded


def batched_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Multiply rows by stacked matrices, as :func:`agents.common.nets.mlp.batched_linear` does."""
    stack, outputs = weight.shape[:-2], weight.shape[-1]
    on_cuda = mlp.device_type(x) == "cuda"
    if (
        stack.numel() == 1
        and on_cuda
        and bias is not None
        and (dtype or weight.dtype) == bias.dtype
    ):
        rows, matrix = x.flatten(0, -2).to(bias.dtype), weight.flatten(0, -2)
        product = torch.addmm(bias.flatten(), rows, matrix)  # one kernel, which adds the bias too
        return product.view(*stack, *x.shape[len(stack) : -1], outputs)
    return onednn.batched_linear(x, weight, bias, dtype)


# -- GELU -------------------------------------------------------------------------------------------------------------


def gelu(x: Tensor) -> Tensor:
    r"""Return the tanh approximation of GELU, elementwise.

    On a CPU it is computed as :math:`x\,\sigma(2\sqrt{2/\pi}\,(x + 0.044715x^3))`, the same function: PyTorch's sigmoid
    takes half the time of its tanh, in its own kernels and in compiled ones.
    """
    if mlp.device_type(x) != "cpu":
        return mlp.gelu(x)
    if torch.compiler.is_compiling():
        return x * torch.sigmoid(
            GELU_SLOPE * x * (1 + GELU_CUBIC * x * x)
        )  # the compiler makes one pass of it
    if torch.is_grad_enabled() and onednn.is_transformed(x):
        return mlp.gelu(x)
    if torch.is_grad_enabled() and x.requires_grad:
        return _RecordedGelu.apply(x)  # type: ignore[no-untyped-call]
    return _gelu_by_sigmoid(x)


def _gelu_by_sigmoid(x: Tensor) -> Tensor:
    full = (
        x.float() if x.dtype == torch.bfloat16 else x
    )  # bfloat16 is too coarse for intermediate results
    slope = torch.addcmul(full.new_full((), GELU_SLOPE), full, full, value=GELU_CUBIC * GELU_SLOPE)
    return slope.mul_(full).sigmoid_().mul_(full).to(x.dtype)


class _RecordedGelu(torch.autograd.Function):
    """GELU by the sigmoid, with PyTorch's gradient, which is one pass and can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _gelu_by_sigmoid(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.ops.aten.gelu_backward(gradient, ctx.saved_tensors[0], approximate="tanh")


def make_mlp(
    stack: Sequence[int], widths: Sequence[int], *arguments: Any, **settings: Any
) -> StackedMLP:
    """Return a `StackedMLP` of these arguments, evaluated fast unless it is so small that nothing is gained."""
    network = StackedMLP(stack, widths, *arguments, **settings)
    if any(inputs * outputs >= SMALLEST_MATRIX for inputs, outputs in itertools.pairwise(widths)):
        network.batched_linear, network.evaluate = batched_linear, evaluate
        if network.activation is mlp.gelu:
            network.activation = gelu
    return network


def use_reference_kernels(network: StackedMLP) -> None:
    """Compute with PyTorch's standard operations from now on, whatever the sizes."""
    network.batched_linear, network.evaluate = mlp.batched_linear, mlp.evaluate
    if network.activation is gelu:
        network.activation = mlp.gelu
