"""Evaluation of networks for speed: what `mlp.py` computes, up to rounding.

:func:`make_mlp` is the one place that chooses between the plain way and this one. What each optimisation gains is
measured in `benchmarks/results/history/network_evaluation.md`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.common.nets import mlp, onednn
from agents.common.nets.mlp import Layer, StackedMLP

SMALLEST_MATRIX = 1 << 11  # entries; networks whose matrices all have fewer are evaluated plainly
GELU_SLOPE, GELU_CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715
# made once: on a single row that takes as long as one of the operations
SLOPES = {
    dtype: torch.tensor(GELU_SLOPE, dtype=dtype, device="cpu")
    for dtype in (torch.float32, torch.float64)
}


def evaluate(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Evaluate layers one after the other as :func:`agents.common.nets.mlp.evaluate` does, in the fastest way known.

    Where oneDNN is the faster library, members are evaluated one by one, so that the values between two layers stay in
    the processor's cache.
    """
    # the compiler fuses conversions with what lies between two products
    if not layers or mlp.device_type(x) != "cpu" or torch.compiler.is_compiling():
        return mlp.evaluate(layers, x, batched_linear)
    if layers[0].dtype is not None:
        layers = list(map(_in_low_precision, layers))
    # recorded bfloat16 gains nothing
    gains = layers[0].weight.dtype == torch.float32 or not torch.is_grad_enabled()
    # asked once and not for each layer: on a single row the question takes as long as an operation
    gains = gains and onednn.is_faster()
    if not gains or not any(onednn.is_preferred(x, layer.weight) for layer in layers):
        return mlp.evaluate(layers, x)
    stack = layers[0].weight.shape[:-2]
    if stack.numel() == 1:
        return _evaluate_member(layers, x)
    rows = x.expand(*stack, *x.shape[len(stack) :]).flatten(0, len(stack) - 1).split(1)
    members = zip(*map(_members, layers), strict=True)
    return torch.cat(list(map(_evaluate_member, members, rows))).unflatten(0, stack)


def _in_low_precision(layer: Layer) -> Layer:
    """Return a layer whose output stays in the precision of its product, to which the next one would round anyway."""
    if layer.dtype is None:
        return layer
    weight = layer.weight.to(layer.dtype)
    return layer._replace(weight=weight, bias=layer.bias.to(layer.dtype), dtype=None)


def _members(layer: Layer) -> Iterable[Layer]:
    """Return the layer of every member of the stack, with one stack axis of size 1."""
    columns: list[Iterable[Any]] = []
    for value in layer:
        if isinstance(value, Tensor):
            columns.append(value.flatten(0, layer.weight.ndim - 3).split(1))
        else:
            columns.append(itertools.repeat(value))
    return [Layer(*of_member) for of_member in zip(*columns, strict=False)]


def _evaluate_member(layers: Iterable[Layer], x: Tensor) -> Tensor:
    """Evaluate one network by oneDNN."""
    if torch.is_grad_enabled():
        return mlp.evaluate(layers, x, recorded_linear)
    for layer in layers:
        if layer.activation is gelu and onednn.is_preferred(x, layer.weight, layer.dtype):
            activated = onednn.linear(x, layer.weight, layer.bias, layer.dtype, with_gelu=True)
            x = layer._replace(activation=None).epilogue(activated)
        else:
            x = layer.epilogue(batched_linear(x, layer.weight, layer.bias, layer.dtype))
    return x


def batched_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Multiply rows by stacked matrices as :func:`agents.common.nets.mlp.batched_linear` does, one in a single pass."""
    stack = weight.shape[:-2]
    if stack.numel() > 1:
        return mlp.batched_linear(x, weight, bias, dtype)
    if not torch.is_grad_enabled() and onednn.is_preferred(x, weight, dtype):
        return onednn.linear(x, weight, bias, dtype)
    if bias is None or bias.dtype != (dtype or weight.dtype) or mlp.device_type(x) != "cuda":
        return mlp.batched_linear(x, weight, bias, dtype)
    rows = x.flatten(0, -2).to(bias.dtype)
    product = torch.addmm(bias.flatten(), rows, weight.flatten(0, -2))  # one kernel with the bias
    return product.view(*stack, *x.shape[len(stack) : -1], -1)


class _RecordedProduct(torch.autograd.Function):
    """One matrix's product with gradients by oneDNN: rows (1, B, in), weight (1, in, out) and bias (1, out).

    Where gradients are to be differentiated again (``create_graph``), they are PyTorch's products, which record that.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return batched_linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        gradient = gradient.contiguous()
        of_x = of_weight = of_bias = None
        if needs_x:
            of_x = batched_linear(gradient, weight.transpose(-2, -1))
        if needs_weight and onednn.is_faster(of_weights=True) and not torch.is_grad_enabled():
            of_weight = onednn.product_of(x[0].t(), gradient[0].t()).unsqueeze(0)
        elif needs_weight:
            of_weight = (x[0].t() @ gradient[0]).unsqueeze(0)
        if needs_bias:
            of_bias = gradient.sum(1)
        return of_x, of_weight, of_bias


def recorded_linear(x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Multiply rows by one matrix so that the gradients are computed by oneDNN too; ``dtype`` is None."""
    stack = weight.shape[:-2]
    rows = x.reshape(1, -1, x.shape[-1])
    product: Tensor = _RecordedProduct.apply(rows, weight.flatten(0, -3), bias.flatten(0, -2))  # type: ignore[no-untyped-call]
    return product.view(*stack, *x.shape[len(stack) : -1], -1)


# -- GELU -------------------------------------------------------------------------------------------------------------


def gelu(x: Tensor) -> Tensor:
    r"""Return the tanh approximation of GELU, elementwise.

    On a CPU it is computed as :math:`x\,\sigma(2\sqrt{2/\pi}\,(x + 0.044715x^3))`, the same function: PyTorch's sigmoid
    takes half the time of its tanh, in its own kernels and in compiled ones.
    """
    if mlp.device_type(x) != "cpu":
        return mlp.gelu(x)
    if torch.compiler.is_compiling():  # which makes one pass of it
        return x * torch.sigmoid(GELU_SLOPE * x * (1 + GELU_CUBIC * x * x))
    if not torch.is_grad_enabled():
        return _gelu_by_sigmoid(x)
    if onednn.is_transformed(x):
        return mlp.gelu(x)
    return _RecordedGelu.apply(x)  # type: ignore[no-untyped-call]


def _gelu_by_sigmoid(x: Tensor) -> Tensor:
    # bfloat16 is too coarse for intermediate results
    full = x.float() if x.dtype == torch.bfloat16 else x
    slope = torch.addcmul(SLOPES[full.dtype], full, full, value=GELU_CUBIC * GELU_SLOPE)
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
