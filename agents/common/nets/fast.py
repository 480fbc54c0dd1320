"""Evaluation of networks for speed: what `mlp.py` computes, up to rounding.

:func:`make_mlp` is the one place that chooses between the plain way and this one. What each optimisation gains is
measured in `benchmarks/results/history/network_evaluation.md`.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from agents.common.nets import mlp
from agents.common.nets.mlp import Layer, StackedMLP

ONEDNN_ROWS = 32  # fewer rows gain nothing
ONEDNN_WORK = 1 << 24  # multiplications; smaller products gain less than the call costs
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
    if not gains or not any(prefers_onednn(x, layer.weight, layer.dtype) for layer in layers):
        return mlp.evaluate(layers, x, dense)
    stack = layers[0].weight.shape[:-2]
    if stack.numel() == 1:
        return _evaluate_member(layers, x)
    rows = x.expand(*stack, *x.shape[len(stack) :]).flatten(0, len(stack) - 1).split(1)
    members = zip(*map(_members, layers), strict=True)
    return torch.cat(list(map(_evaluate_member, members, rows))).unflatten(0, stack)


def _evaluate_member(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Evaluate one network by oneDNN."""
    if torch.is_grad_enabled():
        return mlp.evaluate(layers, x, _recorded_onednn)
    for layer in layers:
        if layer.activation is gelu and prefers_onednn(x, layer.weight, layer.dtype):
            activated = _by_onednn(x, layer.weight, layer.bias, layer.dtype, with_gelu=True)
            x = layer._replace(activation=None).finish(activated)
        else:
            x = layer.finish(dense(x, layer.weight, layer.bias, layer.dtype))
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
    if device_type(x) != "cpu" or torch.compiler.is_compiling():
        return layers
    return [
        layer
        if layer.dtype is None
        else layer._replace(weight=layer.weight.to(layer.dtype), bias=layer.bias.to(layer.dtype), dtype=None)
        for layer in layers
    ]


def dense(x: Tensor, weight: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Multiply rows by stacked matrices, as :func:`agents.common.nets.mlp.dense` does."""
    stack, outputs = weight.shape[:-2], weight.shape[-1]
    if stack.numel() == 1 and device_type(x) == "cuda" and bias is not None and (dtype or weight.dtype) == bias.dtype:
        rows, matrix = x.flatten(0, -2).to(bias.dtype), weight.flatten(0, -2)
        product = torch.addmm(bias.flatten(), rows, matrix)  # one kernel, which adds the bias too
        return product.view(*stack, *x.shape[len(stack) : -1], outputs)
    if stack.numel() == 1 and not torch.is_grad_enabled() and prefers_onednn(x, weight, dtype):
        return _by_onednn(x, weight, bias, dtype)
    return mlp.dense(x, weight, bias, dtype)


def device_type(x: Tensor) -> str:
    """Return where a tensor is, ``cpu`` or ``cuda``: this decides how networks are evaluated."""
    return x.device.type


# -- GELU -------------------------------------------------------------------------------------------------------------


def gelu(x: Tensor) -> Tensor:
    r"""Return the tanh approximation of GELU, elementwise.

    On a CPU it is computed as :math:`x\,\sigma(2\sqrt{2/\pi}\,(x + 0.044715x^3))`, the same function: PyTorch's sigmoid
    takes half the time of its tanh, in its own kernels and in compiled ones.
    """
    if device_type(x) != "cpu":
        return mlp.gelu(x)
    if torch.compiler.is_compiling():
        return x * torch.sigmoid(GELU_SLOPE * x * (1 + GELU_CUBIC * x * x))  # the compiler makes one pass of it
    if torch.is_grad_enabled() and is_transformed(x):
        return mlp.gelu(x)
    if torch.is_grad_enabled() and x.requires_grad:
        return _RecordedGelu.apply(x)  # type: ignore[no-untyped-call]
    return _gelu_by_sigmoid(x)


def _gelu_by_sigmoid(x: Tensor) -> Tensor:
    full = x.float() if x.dtype == torch.bfloat16 else x  # bfloat16 is too coarse for intermediate results
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


def make_mlp(stack: Sequence[int], widths: Sequence[int], *arguments: Any, **settings: Any) -> StackedMLP:
    """Return a `StackedMLP` of these arguments, evaluated fast unless it is so small that nothing is gained."""
    made = StackedMLP(stack, widths, *arguments, **settings)
    if any(inputs * outputs >= SMALLEST_MATRIX for inputs, outputs in itertools.pairwise(widths)):
        made.dense, made.evaluate = dense, evaluate
        if made.activation is mlp.gelu:
            made.activation = gelu
    return made


def evaluate_plainly(made: StackedMLP) -> None:
    """Compute with PyTorch's standard operations from now on, whatever the sizes."""
    made.dense, made.evaluate = mlp.dense, mlp.evaluate
    if made.activation is gelu:
        made.activation = mlp.gelu


# -- vector-Jacobian products -----------------------------------------------------------------------------------------


def linearise(layers: Sequence[Layer], first: Tensor) -> Callable[[int, Tensor], Tensor]:
    """Evaluate layers once at many points, for vector-Jacobian products there, point by point.

    A chain of such products along the points, such as a lean adjoint, then needs only this one forward pass, which
    covers all points at once. Parameters are constants here.

    :param layers: of one stack.
    :param first: products of the first layer with their bias, (*stack, K, N, width) for K points of every row.
    :return: function that pulls a cotangent of the output at one of the points, (*stack, N, out), back to the first
        layer's product, given the point's index and the cotangent.
    """
    hidden, products = layers[:-1], [first][: len(layers) - 1]
    weights = [layer.weight.detach().to(layer.dtype or layer.weight.dtype) for layer in layers[1:]]
    for layer, following in itertools.pairwise(hidden):
        x = layer.finish(products[-1])
        products.append(dense(x, following.weight, following.bias, following.dtype))

    def pull_back(point: int, cotangent: Tensor) -> Tensor:
        for layer, product, weight in zip(hidden[::-1], products[::-1], weights[::-1], strict=True):
            cotangent = dense(cotangent, weight.transpose(-2, -1)).to(cotangent.dtype)
            cotangent = _pull_back(layer, product.select(-3, point), cotangent)
        return cotangent

    return pull_back


def _pull_back(layer: Layer, product: Tensor, cotangent: Tensor) -> Tensor:
    """Return a cotangent of a layer's output as one of its product."""
    if layer.activation is gelu and not (device_type(product) == "cpu" and torch.compiler.is_compiling()):
        if layer.norm_scale is None:
            return torch.ops.aten.gelu_backward(cotangent, product, approximate="tanh")
        layer = layer._replace(activation=mlp.gelu)
    found: Tensor = torch.func.vjp(layer.finish, product)[1](cotangent)[0]
    return found


# -- derivatives along a direction ------------------------------------------------------------------------------------


@torch.no_grad()
def push_forward(layers: Sequence[Layer], product: Tensor, tangent: Tensor) -> Tensor:
    """Carry a derivative through layers; nothing is recorded, and parameters are constants.

    :param layers: of one stack.
    :param product: of the first layer with its bias, (*stack, N, width).
    :param tangent: its derivative, of the same shape.
    :return: the output's derivative, (*stack, N, out).
    """
    for layer, following in itertools.pairwise(layers):
        tangent = _push_forward(layer, product, tangent)
        product = dense(layer.finish(product), following.weight, following.bias, following.dtype)
        tangent = dense(tangent, following.weight, None, following.dtype)
    return _push_forward(layers[-1], product, tangent)


def _push_forward(layer: Layer, product: Tensor, tangent: Tensor) -> Tensor:
    """Return a derivative of a layer's product as one of its output."""
    plain = layer._replace(norm_scale=None, norm_bias=None)
    if layer.activation is not None:  # elementwise: its Jacobian is its own transpose
        tangent = _pull_back(plain, product, tangent)
    if layer.norm_scale is None:
        return tangent
    x = plain.finish(product)
    variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    factor = (variance + mlp.LAYER_NORM_EPS).rsqrt()
    normal = (x - mean) * factor
    tangent = tangent - tangent.mean(-1, keepdim=True) - normal * (normal * tangent).mean(-1, keepdim=True)
    return tangent * factor * layer.norm_scale.unsqueeze(-2)


# -- oneDNN -----------------------------------------------------------------------------------------------------------


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


@functools.cache
def processor() -> tuple[str, int]:
    """Return the processor's maker and family as Linux reports them, or ``("", 0)``.

    Decisions based on them are the same in every run; with a measurement at the start, a run's numbers would depend on
    how busy the machine was.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "", 0
    found = dict(re.findall(r"^(vendor_id|cpu family)\s*: (.*)$", text, re.MULTILINE))
    return found.get("vendor_id", ""), int(found.get("cpu family", 0))


def onednn_is_faster(of_weights: bool = False) -> bool:
    """Return whether oneDNN's products are faster than MKL's; ``of_weights``: those that give a weight's gradient.

    On AMD processors MKL does not use AVX-512. Up to Zen 4 (family 25) that costs a tenth to a third of its speed, but
    nothing in the gradient of a weight; since Zen 5 it halves the speed of every product.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    vendor, family = processor()
    return vendor == "AuthenticAMD" and (family >= 26 or not of_weights)


def is_transformed(x: Tensor) -> bool:
    """Return whether `torch.func` is at work (`grad`, `vmap`, ...), or a derivative is carried forwards (`jvp`).

    Operations of our own, and oneDNN's, would refuse the one and silently drop the other.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad.unpack_dual(x).tangent is not None


@functools.cache
def multiplies_bfloat16() -> bool:
    """Return whether oneDNN has products in bfloat16 for this processor: on AMD since Zen 4."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def prefers_onednn(x: Tensor, weight: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Return whether oneDNN should multiply, member by member: where it is faster, given enough rows and work.

    ``dtype`` is that of the factors, None for the weight's.
    """
    if torch.compiler.is_compiling() or device_type(x) != "cpu":
        return False
    rows = x.shape[weight.ndim - 2 : -1].numel()
    return (
        onednn_is_faster()
        and not is_transformed(x)
        and x.dtype in (torch.float32, torch.bfloat16)
        and ((dtype or weight.dtype) == torch.float32 or multiplies_bfloat16())
        and rows >= ONEDNN_ROWS
        and rows * weight.shape[-2:].numel() >= ONEDNN_WORK
    )


def _by_onednn(
    x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype | None = None, with_gelu: bool = False
) -> Tensor:
    """Multiply rows by one matrix, in one pass with the bias and with GELU; no gradient is recorded."""
    factors = dtype or weight.dtype
    rows, matrix = x.flatten(0, -2).to(factors), weight.flatten(0, -2).t().to(factors)
    product = _linear(rows, matrix, None if bias is None else bias.flatten().to(factors), with_gelu)
    return product.view(*weight.shape[:-2], *x.shape[weight.ndim - 2 : -1], weight.shape[-1]).to(weight.dtype)


def _linear(rows: Tensor, matrix: Tensor, bias: Tensor | None = None, with_gelu: bool = False) -> Tensor:
    """Return rows (N, in) times a matrix (out, in)."""
    name, form = ("gelu", "tanh") if with_gelu else ("none", "")
    return torch.ops.mkldnn._linear_pointwise(rows, matrix, bias, name, [], form)


class _RecordedProduct(torch.autograd.Function):
    """One matrix's product with gradients by oneDNN: rows (1, N, in), weight (1, in, out) and bias (1, out).

    Where gradients are to be differentiated again (``create_graph``), they are PyTorch's products, which record that.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return dense(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (of_x, of_weight, of_bias) = ctx.saved_tensors, ctx.needs_input_grad
        gradient = gradient.contiguous()
        by_onednn = onednn_is_faster(of_weights=True) and not torch.is_grad_enabled()
        rows, cotangent = x[0].t(), gradient[0]
        return (
            dense(gradient, weight.transpose(-2, -1)) if of_x else None,
            (_linear(rows, cotangent.t()) if by_onednn else rows @ cotangent).unsqueeze(0) if of_weight else None,
            gradient.sum(1) if of_bias else None,
        )


def _recorded_onednn(x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Multiply rows by one matrix so that the gradients are computed by oneDNN too; ``dtype`` is None."""
    stack = weight.shape[:-2]
    rows = x.reshape(1, -1, x.shape[-1])
    product: Tensor = _RecordedProduct.apply(rows, weight.flatten(0, -3), bias.flatten(0, -2))  # type: ignore[no-untyped-call]
    return product.view(*stack, *x.shape[len(stack) : -1], -1)
