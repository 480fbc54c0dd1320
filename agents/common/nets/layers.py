"""Dense layers with stacked parameters, and the ways to evaluate them.

Many independent networks live in one set of tensors. Parameters have leading axes, called ``stack`` below: (S,) for one
network per replica, (S, E) for an ensemble of E members per replica. Inputs have the same leading axes; one of size 1
broadcasts.

All :class:`Kernels` compute the same up to rounding. Which of them a network uses is chosen once, by
:func:`kernels_of_updates` where updates are prepared, and by :func:`kernels_of_plans` for acting. What each gains is
measured in `benchmarks/results/history/network_evaluation.md`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from agents.common.processor import cpuinfo

LAYER_NORM_EPS = 1e-6  # Flax's default; PyTorch's 1e-5 is another network
GELU_SLOPE, GELU_CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715
# made once: on a single row that takes as long as one of the operations
SLOPES = {
    dtype: torch.tensor(GELU_SLOPE, dtype=dtype, device="cpu")
    for dtype in (torch.float32, torch.float64)
}
is_transforming = torch._C._are_functorch_transforms_active
"""Whether `torch.func` is at work (`grad`, `vmap`, `jvp`, ...), which refuses functions of our own."""
ONEDNN_WORK = 1 << 24
"""Multiplications of a network's largest product from which oneDNN gains more than a call of it costs."""


class Layer(NamedTuple):
    """One dense layer, and what is done to its output.

    :param weight: ``(*stack, in, out)``.
    :param bias: ``(*stack, out)``.
    :param activation: elementwise function; None for a plain output.
    :param dtype: lower precision of the product's factors, or None.
    :param norm_scale: of the LayerNorm after the activation, ``(*stack, out)``, or None.
    :param norm_bias: likewise.
    """

    weight: Tensor
    bias: Tensor
    activation: Callable[[Tensor], Tensor] | None = None
    dtype: torch.dtype | None = None
    norm_scale: Tensor | None = None
    norm_bias: Tensor | None = None

    def epilogue(self, product: Tensor) -> Tensor:
        """Apply activation and LayerNorm to the product, bias included, ``(*stack, ..., out)``."""
        x = product
        if self.activation is not None:
            x = self.activation(product)
        if self.norm_scale is None or self.norm_bias is None:
            return x
        scale = self.norm_scale.to(x.dtype)
        bias = self.norm_bias.to(x.dtype)
        width = x.shape[-1:]
        if bias.numel() == width.numel():
            # one network: scale and shift are part of PyTorch's kernel
            return F.layer_norm(x, width, scale.flatten(), bias.flatten(), LAYER_NORM_EPS)
        over_rows = [1] * (x.ndim - scale.ndim) + [-1]  # so that (*stack, out) broadcasts
        normalised = F.layer_norm(x, width, eps=LAYER_NORM_EPS)
        return torch.addcmul(
            bias.unflatten(-1, over_rows), normalised, scale.unflatten(-1, over_rows)
        )


# -- products ---------------------------------------------------------------------------------------------------------


def batched_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Multiply rows by stacked matrices.

    :param x: ``(*stack, ..., in)``.
    :param weight: ``(*stack, in, out)``.
    :param bias: ``(*stack, out)``, or None.
    :param dtype: lower precision of the factors, e.g. bfloat16; None: that of the weight.
    :return: ``(*stack, ..., out)``, in the precision of the weight.
    """
    if x.ndim > weight.ndim:  # several row axes are folded into one
        lead = weight.ndim - 2
        product = batched_linear(x.flatten(lead, -2), weight, bias, dtype)
        return product.unflatten(lead, x.shape[lead:-1])
    factors = dtype or weight.dtype
    # `matmul` would expand, view and record both factors first
    is_batch = x.ndim == weight.ndim == 3 and x.shape[0] == weight.shape[0]
    multiply = torch.bmm if is_batch else torch.matmul
    if x.dtype == weight.dtype == factors:  # conversions that change nothing take time too
        product = multiply(x, weight)
    else:
        product = multiply(x.to(factors), weight.to(factors)).to(weight.dtype)
    return product if bias is None else product.add_(bias.unsqueeze(-2))


def linear_with_bias(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Do the same, for a network that stands alone in one CUDA kernel with the bias."""
    stack = weight.shape[:-2]
    if stack.numel() > 1 or bias is None or bias.dtype != (dtype or weight.dtype):
        return batched_linear(x, weight, bias, dtype)
    rows = x.flatten(0, -2).to(bias.dtype)
    product = torch.addmm(bias.flatten(), rows, weight.flatten(0, -2))
    return product.view(*stack, *x.shape[len(stack) : -1], -1)


def onednn_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Do the same, for a network that stands alone by oneDNN: in float32, ``dtype`` is None."""
    stack = weight.shape[:-2]
    if stack.numel() > 1 or is_transforming():
        return batched_linear(x, weight, bias, dtype)
    rows = x.reshape(-1, x.shape[-1])
    vector = None if bias is None else bias.flatten()
    product: Tensor = _OneDNNProduct.apply(rows, weight.flatten(0, -2), vector)  # type: ignore[no-untyped-call]
    return product.view(*stack, *x.shape[len(stack) : -1], -1)


class _OneDNNProduct(torch.autograd.Function):
    """Rows (B, in) times a matrix (in, out) plus a bias (out), with gradients by oneDNN.

    Where gradients are to be differentiated again (``create_graph``), they are PyTorch's products, which record that.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, matrix)
        return _multiply(rows, matrix, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, matrix = ctx.saved_tensors
        needs_rows, needs_matrix, needs_bias = ctx.needs_input_grad
        gradient = gradient.contiguous()
        multiply: Callable[[Tensor, Tensor], Tensor] = _multiply
        if torch.is_grad_enabled():
            multiply = torch.mm
        of_rows = of_matrix = of_bias = None
        if needs_rows:
            of_rows = multiply(gradient, matrix.t())
        if needs_matrix:
            multiply = multiply if onednn_is_faster(of_weights=True) else torch.mm
            of_matrix = multiply(rows.t(), gradient)
        if needs_bias:
            of_bias = gradient.sum(0)
        return of_rows, of_matrix, of_bias


def _multiply(rows: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return rows (B, in) times a matrix (in, out) by oneDNN, in one pass with the bias."""
    return torch.ops.mkldnn._linear_pointwise(rows, matrix.t(), bias, "none", [], "")


@functools.cache
def onednn_is_faster(of_weights: bool = False) -> bool:
    """Return whether oneDNN's products are faster than MKL's; ``of_weights``: those that give a weight's gradient.

    On AMD processors MKL does not use AVX-512. Up to Zen 4 (family 25) that costs a tenth to a third of its speed, but
    nothing in the gradient of a weight; since Zen 5 it halves the speed of every product.
    """
    # by the processor's maker: after a measurement, a run's numbers would depend on how busy the machine was
    if cpuinfo("vendor_id") != "AuthenticAMD":
        return False
    if of_weights and int(cpuinfo("cpu family")) < 26:
        return False
    return torch.backends.mkldnn.is_available()


# -- GELU -------------------------------------------------------------------------------------------------------------


def gelu(x: Tensor) -> Tensor:
    """Return the tanh approximation of GELU, elementwise (the default of ``jax.nn.gelu``)."""
    return F.gelu(x, approximate="tanh")


def compiled_gelu(x: Tensor) -> Tensor:
    r"""Return the same for a compiler, which makes one pass of it.

    It is :math:`x\,\sigma(2\sqrt{2/\pi}\,(x + 0.044715x^3))`: on a CPU the sigmoid takes half the time of the tanh.
    """
    return x * torch.sigmoid(GELU_SLOPE * x * (1 + GELU_CUBIC * x * x))


def cpu_gelu(x: Tensor) -> Tensor:
    """Return the same by the sigmoid, in PyTorch's kernels for a CPU."""
    if not torch.is_grad_enabled():
        return _gelu_by_sigmoid(x)
    if is_transforming():
        return gelu(x)
    return _GeluBySigmoid.apply(x)  # type: ignore[no-untyped-call]


def _gelu_by_sigmoid(x: Tensor) -> Tensor:
    # bfloat16 is too coarse for intermediate results
    full = x.float() if x.dtype == torch.bfloat16 else x
    slope = torch.addcmul(SLOPES[full.dtype], full, full, value=GELU_CUBIC * GELU_SLOPE)
    return slope.mul_(full).sigmoid_().mul_(full).to(x.dtype)


class _GeluBySigmoid(torch.autograd.Function):
    """GELU by the sigmoid, with PyTorch's gradient, which is one pass and can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _gelu_by_sigmoid(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.ops.aten.gelu_backward(gradient, ctx.saved_tensors[0], approximate="tanh")


# -- whole networks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kernels:
    """A way to evaluate layers.

    :param linear: the product, a :func:`batched_linear`.
    :param gelu: the activation of networks that have none of their own.
    :param stays_low: whether values between two layers stay in the lower precision of the products, to which the next
        product would round them anyway; a compiler fuses the conversions.
    :param by_member: whether the networks of a stack are evaluated one after the other, so that the values between two
        layers stay in a CPU's cache.
    """

    linear: Callable[..., Tensor]
    gelu: Callable[[Tensor], Tensor]
    stays_low: bool = False
    by_member: bool = False

    def evaluate(self, layers: Sequence[Layer], x: Tensor, offset: Tensor | None = None) -> Tensor:
        """Evaluate layers one after the other.

        :param layers: from the input to the output; none returns x.
        :param x: ``(*stack, ..., in)``.
        :param offset: what is added to the first layer's product in place of its bias, ``(*stack, ..., out)``.
        :return: ``(*stack, ..., out)``.
        """
        if offset is not None:
            first, *layers = layers
            x = first.epilogue(self.linear(x, first.weight, None, first.dtype).add_(offset))
        if self.stays_low:
            layers = [
                layer if layer.dtype is None else _in_low_precision(layer) for layer in layers
            ]
        stack = layers[0].weight.shape[:-2] if layers else torch.Size()
        if self.by_member and stack.numel() > 1:
            rows = x.expand(*stack, *x.shape[len(stack) :]).flatten(0, len(stack) - 1).split(1)
            members = zip(*map(_members, layers), strict=True)
            return torch.cat(list(map(self.evaluate, members, rows))).unflatten(0, stack)
        for layer in layers:
            x = layer.epilogue(self.linear(x, layer.weight, layer.bias, layer.dtype))
        return x

    def vjp_at_points(
        self, layers: Sequence[Layer], x: Tensor, offset: Tensor
    ) -> Callable[[int, Tensor], Tensor]:
        """Evaluate layers once at K points of every row, for vector-Jacobian products in x there.

        A chain of such products along the points, such as a lean adjoint, then needs only this forward pass. Parameters
        are constants here.

        :param layers: from the input to the output.
        :param x: (S, K, B, D).
        :param offset: what is added to the first layer's product in place of its bias, (S, K, B, out).
        :return: function of a point's index and a cotangent (S, B, D) that returns the product, (S, B, D).
        """
        first = layers[0]
        products = [self.linear(x, first.weight, None, first.dtype).add_(offset)]
        for layer, following in itertools.pairwise(layers[:-1]):
            rows = layer.epilogue(products[-1])
            products.append(self.linear(rows, following.weight, following.bias, following.dtype))
        transposed = []
        for layer in layers:
            weight = layer.weight.detach().to(layer.dtype or layer.weight.dtype)
            transposed.append(weight.transpose(-2, -1))

        def pull_back(point: int, cotangent: Tensor) -> Tensor:
            for i in reversed(range(len(transposed))):
                layer = layers[i]
                # the compiler differentiates what it has made of GELU, and fuses that
                is_gelu = layer.activation is self.gelu and self.gelu is not compiled_gelu
                if i < len(products) and is_gelu and layer.norm_scale is None:
                    product = products[i].select(-3, point)
                    cotangent = torch.ops.aten.gelu_backward(cotangent, product, approximate="tanh")
                elif i < len(products):
                    vjp = torch.func.vjp(layer.epilogue, products[i].select(-3, point))[1]
                    (cotangent,) = vjp(cotangent)
                cotangent = self.linear(cotangent, transposed[i]).to(cotangent.dtype)
            return cotangent

        return pull_back


def _in_low_precision(layer: Layer) -> Layer:
    """Return a layer whose output stays in the precision of its product."""
    assert layer.dtype is not None
    weight = layer.weight.to(layer.dtype)
    return layer._replace(weight=weight, bias=layer.bias.to(layer.dtype), dtype=None)


def _members(layer: Layer) -> Iterator[Layer]:
    """Yield the layer of every member of the stack, with one stack axis of size 1."""
    lead = layer.weight.ndim - 3
    columns: list[Any] = []
    for value in layer:
        if isinstance(value, Tensor):
            columns.append(value.flatten(0, lead).split(1))
        else:
            columns.append(itertools.repeat(value))
    # the weight's members are the first to end
    for of_member in zip(*columns, strict=False):
        yield Layer(*of_member)


STANDARD = Kernels(batched_linear, gelu)
"""PyTorch's standard operations: those of small networks, which gain nothing by others, and of exported ones."""
CUDA = Kernels(linear_with_bias, gelu)
COMPILED = Kernels(batched_linear, compiled_gelu)
CPU = Kernels(batched_linear, cpu_gelu, stays_low=True)
ONEDNN = Kernels(onednn_linear, cpu_gelu, by_member=True)


def kernels_of_plans(device: torch.device) -> Kernels:
    """Return the kernels of acting, where often a single row is evaluated."""
    return CPU if device.type == "cpu" else CUDA


def kernels_of_updates(
    device: torch.device, is_compiled: bool, precision: str, work: int
) -> Kernels:
    """Return the kernels of updates.

    :param device: where the networks are.
    :param is_compiled: whether the losses are compiled.
    :param precision: ``fp32``, ``tf32`` or ``bf16``, whose products are oneDNN's in PyTorch too.
    :param work: multiplications of the networks' largest product.
    :return: oneDNN's for large products where they are faster than MKL's, else PyTorch's.
    """
    if device.type != "cpu":
        return CUDA
    if is_compiled:
        return COMPILED
    if precision != "bf16" and work >= ONEDNN_WORK and onednn_is_faster():
        return ONEDNN
    return CPU
