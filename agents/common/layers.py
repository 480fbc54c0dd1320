"""Dense layers with stacked parameters: the one place where the networks' matrix products happen.

Shapes: ``stack`` stands for the leading axes of the parameters, (S,) or (S, E). On a CPU the products of large layers
go to oneDNN where that is the faster library, with the bias and GELU in the same pass where no gradient is recorded.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

LAYER_NORM_EPS = 1e-6  # Flax's default; PyTorch's 1e-5 is another network
GELU_SLOPE = 2 * math.sqrt(2 / math.pi)
ALIGNMENT = 8  # columns; CUDA's fast kernels want rows of a multiple of 16 bytes
ONEDNN_ROWS = 32  # fewer rows gain nothing
ONEDNN_WORK = 1 << 24  # multiplications; smaller products gain less than the call costs


class Layer(NamedTuple):
    """One dense layer, and what is done to its output.

    :param weight: (*stack, in, out).
    :param bias: (*stack, out).
    :param activation: elementwise function; None for a plain output.
    :param norm_scale: of the LayerNorm behind the activation, (*stack, out), or None.
    :param norm_bias: likewise.
    :param dtype: lower precision of the product's factors, or None.
    """

    weight: Tensor
    bias: Tensor
    activation: Callable[[Tensor], Tensor] | None
    norm_scale: Tensor | None
    norm_bias: Tensor | None
    dtype: torch.dtype | None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the layer's output.

        :param x: (*stack, ..., in); stack axes of size 1 broadcast.
        :return: (*stack, ..., out).
        """
        fused = self.activation is gelu and not torch.is_grad_enabled() and _is_single(self.weight)
        if fused and prefers_onednn(x, self.weight):
            # in the factors' precision, which the next product would round it to anyway
            return self.normalise(_by_onednn(x, self.weight, self.bias, self.dtype, activated=True))
        return self.finish(dense(x, self.weight, self.bias, self.dtype))

    def finish(self, product: Tensor) -> Tensor:
        """Return the output from the product, bias included.

        :param product: (*stack, ..., out).
        :return: same shape.
        """
        return product if self.activation is None else self.normalise(self.activation(product))

    def normalise(self, x: Tensor) -> Tensor:
        """Return activations behind their LayerNorm, if there is one.

        :param x: (*stack, ..., out).
        :return: same shape.
        """
        if self.norm_scale is None or self.norm_bias is None:
            return x
        if _is_single(self.weight):
            return F.layer_norm(x, x.shape[-1:], self.norm_scale.flatten(), self.norm_bias.flatten(), LAYER_NORM_EPS)
        scale, bias = over_rows(self.norm_scale, x), over_rows(self.norm_bias, x)
        return torch.addcmul(bias, F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS), scale)

    def members(self) -> list[Layer]:
        """Return the layer of every member of the stack, without stack axes but one of size 1."""
        count = self.weight.shape[:-2].numel()

        def split(parameter: Tensor | None) -> Sequence[Tensor | None]:
            if parameter is None:
                return [None] * count
            lead = self.weight.ndim - 2
            return [p.unsqueeze(0) for p in parameter.flatten(0, lead - 1).unbind(0)]

        rows = zip(split(self.weight), split(self.bias), split(self.norm_scale), split(self.norm_bias), strict=True)
        return [self._replace(weight=w, bias=b, norm_scale=s, norm_bias=n) for w, b, s, n in rows]  # type: ignore[arg-type]


def evaluate(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Evaluate layers one after the other.

    Where single products are faster than a batched one, members are evaluated one by one: what lies between two layers
    then stays in the processor's cache.

    :param layers: of one stack.
    :param x: (*stack, ..., in); stack axes of size 1 broadcast.
    :return: (*stack, ..., out).
    """
    if layers and _one_by_one(layers, x):
        stack = layers[0].weight.shape[:-2]
        rows = x.expand(*stack, *x.shape[len(stack) :]).flatten(0, len(stack) - 1)
        of_members = zip(*(layer.members() for layer in layers), strict=True)
        outputs = [evaluate(list(own), rows[i : i + 1]) for i, own in enumerate(of_members)]
        return torch.cat(outputs).unflatten(0, stack)
    for layer in layers:
        x = layer(x)
    return x


def _one_by_one(layers: Sequence[Layer], x: Tensor) -> bool:
    """Return whether members are better evaluated one by one: if the products of the largest layer are."""
    return not _is_single(layers[0].weight) and any(prefers_onednn(x, layer.weight) for layer in layers)


class Linearisation:
    """Layers evaluated once at many points, and their vector-Jacobian products there, point by point.

    A chain of such products along the points, as a lean adjoint is, then needs no second forward pass, and the one
    forward pass there is covers all points at once. Parameters are constants here.

    :param layers: of one stack.
    :param first: products of the first layer with their bias, (*stack, K, N, width) for K points of every row.
    """

    def __init__(self, layers: Sequence[Layer], first: Tensor) -> None:
        self.layers = [layer._replace(weight=layer.weight.detach()) for layer in layers]
        self.products: list[Tensor] = []  # of all layers but the last, whose output no pull-back needs
        self.norms: list[tuple[Tensor, Tensor, Tensor] | None] = []
        x = first
        for layer in self.layers[:-1]:
            self.products.append(dense(x, layer.weight, layer.bias, layer.dtype) if self.products else first)
            x = layer.activation(self.products[-1]) if layer.activation else self.products[-1]
            self.norms.append(None)
            if layer.norm_scale is not None:
                _, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], None, None, LAYER_NORM_EPS)
                self.norms[-1] = (x, mean, rstd)
                x = layer.normalise(x)
        self._last_input = x

    @property
    def output(self) -> Tensor:
        """The last layer's output at all points, (*stack, K, N, out); computed when it is asked for."""
        last = self.layers[-1]
        return dense(self._last_input, last.weight, last.bias, last.dtype) if self.products else self._last_input

    def pull_back(self, point: int, cotangent: Tensor) -> Tensor:
        """Return a cotangent of the output at one point as a cotangent of the first layer's product.

        :param point: index along K.
        :param cotangent: (*stack, N, out).
        :return: (*stack, N, width).
        """
        for i in range(len(self.layers) - 1, 0, -1):
            before, dtype = self.layers[i - 1], self.layers[i].dtype
            cotangent = dense(cotangent, self.layers[i].weight.transpose(-2, -1), None, dtype)
            norm = self.norms[i - 1]
            if norm is not None:
                # the kernel wants its statistics without gaps
                x, mean, rstd = (saved.select(-3, point).contiguous() for saved in norm)
                scaled = cotangent * over_rows(before.norm_scale.detach(), cotangent)  # type: ignore[union-attr]
                cotangent = torch.ops.aten.native_layer_norm_backward(
                    scaled, x, x.shape[-1:], mean, rstd, None, None, [True, False, False]
                )[0]
            if before.activation is not None:
                cotangent = _activation_backward(before.activation, self.products[i - 1].select(-3, point), cotangent)
        return cotangent


def _activation_backward(activation: Callable[[Tensor], Tensor], x: Tensor, cotangent: Tensor) -> Tensor:
    if activation is gelu:
        return torch.ops.aten.gelu_backward(cotangent, x, approximate="tanh")
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(activation(x), x, cotangent)[0]


def gelu(x: Tensor) -> Tensor:
    r"""Return the tanh approximation of GELU, elementwise (the default of ``jax.nn.gelu``).

    On a CPU it is :math:`x\,\sigma(2\sqrt{2/\pi}\,(x + 0.044715x^3))`, which is the same function: PyTorch's sigmoid
    takes half the time of the tanh inside its GELU.

    :param x: any shape.
    :return: same shape.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    if torch.is_grad_enabled() and x.requires_grad:
        activated: Tensor = _RecordedGelu.apply(x)  # type: ignore[no-untyped-call]
        return activated
    return _gelu_by_sigmoid(x)


def _gelu_by_sigmoid(x: Tensor) -> Tensor:
    return x.square().mul_(0.044715 * GELU_SLOPE).add_(GELU_SLOPE).mul_(x).sigmoid_().mul_(x)


class _RecordedGelu(torch.autograd.Function):
    """GELU by the sigmoid, with PyTorch's gradient, which is one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _gelu_by_sigmoid(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.ops.aten.gelu_backward(gradient, ctx.saved_tensors[0], approximate="tanh")


def dense(x: Tensor, weight: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Multiply rows by stacked matrices.

    :param x: (*stack, ..., in); stack axes of size 1 broadcast.
    :param weight: (*stack, in, out).
    :param bias: (*stack, out), or None.
    :param dtype: lower precision for the factors, e.g. bfloat16; None keeps theirs.
    :return: (*stack, ..., out), in full precision.
    """
    lead = weight.ndim - 2
    if dtype is None and x.dtype != weight.dtype:
        x = x.to(weight.dtype)
    if x.ndim > weight.ndim:  # several row axes: fold them into one
        return dense(x.flatten(lead, -2), weight, bias, dtype).unflatten(lead, x.shape[lead:-1])
    if _is_single(weight) and prefers_onednn(x, weight):
        if not torch.is_grad_enabled():
            return _by_onednn(x, weight, bias, dtype).float()
        product: Tensor = _OneDNNProduct.apply(x, weight, dtype)  # type: ignore[no-untyped-call]
        return product if bias is None else product + bias.unsqueeze(-2)
    if dtype is not None:
        product = _padded_matmul(x.to(dtype), weight.to(dtype)).float()
        return product if bias is None else product + bias.unsqueeze(-2)
    if lead == 1 and _is_single(weight):  # one network: skip the batched form
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


def onednn_is_faster(recording: bool) -> bool:
    """Return whether oneDNN's products are faster than MKL's.

    On AMD processors MKL does without AVX-512. Up to Zen 4 (family 25) that costs nothing by itself, and oneDNN gains
    by computing GELU in the same pass; since Zen 5 it halves the speed of every product.

    :param recording: whether a gradient is recorded, so that GELU is a pass of its own.
    :return: whether they are.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    vendor, family = processor()
    return vendor == "AuthenticAMD" and (family >= 26 or not recording)


def prefers_onednn(x: Tensor, weight: Tensor) -> bool:
    """Return whether a product, of each member by itself, should go to oneDNN.

    :param x: (*stack, ..., in).
    :param weight: (*stack, in, out).
    :return: True on a CPU where it is the faster library, if there are enough rows and work.
    """
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    if not onednn_is_faster(recording=torch.is_grad_enabled()):
        return False
    rows = x.shape[weight.ndim - 2 : -1].numel()
    return (
        x.dtype in (torch.float32, torch.bfloat16)
        and rows >= ONEDNN_ROWS
        and rows * weight.shape[-2:].numel() >= ONEDNN_WORK
    )


def _is_single(weight: Tensor) -> bool:
    return weight.shape[:-2].numel() == 1


def _by_onednn(
    x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype | None, activated: bool = False
) -> Tensor:
    """Return the product with its bias, behind GELU if asked for, in one pass; no gradient is recorded."""
    rows, matrix = x.flatten(0, -2), weight.flatten(0, -2).t()
    offset = None if bias is None else bias.flatten()
    if dtype is not None:
        rows, matrix, offset = rows.to(dtype), matrix.to(dtype), None if offset is None else offset.to(dtype)
    name, form = ("gelu", "tanh") if activated else ("none", "")
    product = torch.ops.mkldnn._linear_pointwise(rows, matrix, offset, name, [], form)
    return product.view(*weight.shape[:-2], *x.shape[weight.ndim - 2 : -1], weight.shape[-1])


class _OneDNNProduct(torch.autograd.Function):
    """A product by oneDNN that can be differentiated once; the operator itself records no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dtype: torch.dtype | None) -> Tensor:
        rows, matrix = x.flatten(0, -2), weight.flatten(0, -2)
        if dtype is not None:
            rows, matrix = rows.to(dtype), matrix.to(dtype)
        ctx.save_for_backward(rows, matrix)
        ctx.shapes = x.shape, weight.shape
        product = torch.ops.mkldnn._linear_pointwise(rows, matrix.t(), None, "none", [], "")
        return product.float().view(*x.shape[:-1], weight.shape[-1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        rows, matrix = ctx.saved_tensors
        x_shape, weight_shape = ctx.shapes
        g = gradient.flatten(0, -2).to(rows.dtype)
        multiply = torch.ops.mkldnn._linear_pointwise
        of_x = multiply(g, matrix, None, "none", [], "").float().view(x_shape) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return of_x, None, None
        return of_x, multiply(rows.t(), g.t(), None, "none", [], "").float().view(weight_shape), None


def over_rows(parameter: Tensor, rows: Tensor) -> Tensor:
    """Insert axes so that a per-feature parameter broadcasts over the rows.

    :param parameter: (*stack, width).
    :param rows: (*stack, ..., width).
    :return: (*stack, 1, ..., width).
    """
    for _ in range(rows.ndim - parameter.ndim):
        parameter = parameter.unsqueeze(-2)
    return parameter
