"""Dense layers with stacked parameters, evaluated in sequence, and their gradients.

Shapes: ``stack`` stands for the leading axes of the parameters, (S,) or (S, E).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from agents.common.maths.critic import action_gradient
from agents.common.nets.products import by_onednn, dense, is_single, prefers_onednn, weight_gradient

LAYER_NORM_EPS = 1e-6  # Flax's default; PyTorch's 1e-5 is another network
GELU_SLOPE, GELU_CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715


class Trace(NamedTuple):
    """What the gradient of a layer's activation and LayerNorm needs.

    :param product: what was activated, (*stack, ..., out).
    :param activated: what was normalised, same shape; None without LayerNorm.
    :param mean: over the features, (*stack, ..., 1), or None.
    :param rstd: reciprocal standard deviation over the features, likewise.
    """

    product: Tensor
    activated: Tensor | None = None
    mean: Tensor | None = None
    rstd: Tensor | None = None

    def at(self, point: int) -> Trace:
        """Return the trace of one point of every row.

        :param point: index along K of (*stack, K, N, ...).
        :return: trace of (*stack, N, ...).
        """
        # LayerNorm's kernel wants its statistics without gaps
        of_norm = (part if part is None else part.select(-3, point).contiguous() for part in self[1:])
        return Trace(self.product.select(-3, point), *of_norm)


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
        # hidden activations stay in the factors' precision, which the next product would round them to anyway; on CUDA
        # the compiler fuses the conversions with what lies between two products
        keep = self.activation is not None and x.device.type == "cpu" and not torch.compiler.is_compiling()
        fused = self.activation is gelu and not torch.is_grad_enabled() and is_single(self.weight)
        if fused and prefers_onednn(x, self.weight):
            return self.normalise(by_onednn(x, self.weight, self.bias, self.dtype, activated=True))
        return self.finish(dense(x, self.weight, self.bias, self.dtype, keep))

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
        if is_single(self.weight):
            return F.layer_norm(x, x.shape[-1:], self.norm_scale.flatten(), self.norm_bias.flatten(), LAYER_NORM_EPS)
        scale, bias = (over_rows(parameter.to(x.dtype), x) for parameter in (self.norm_scale, self.norm_bias))
        return torch.addcmul(bias, F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS), scale)

    def trace(self, product: Tensor) -> tuple[Tensor, Trace]:
        """Return the output from the product, and what its gradient needs; no gradient is recorded.

        :param product: (*stack, ..., out).
        :return: output, same shape, and trace.
        """
        activated = product if self.activation is None else self.activation(product)
        if self.norm_scale is None or self.norm_bias is None:
            return activated, Trace(product)
        shape, single = activated.shape[-1:], is_single(self.weight)
        scale, bias = (self.norm_scale.flatten(), self.norm_bias.flatten()) if single else (None, None)
        output, mean, rstd = torch.native_layer_norm(activated, shape, scale, bias, LAYER_NORM_EPS)
        if not single:
            output = torch.addcmul(over_rows(self.norm_bias, output), output, over_rows(self.norm_scale, output))
        return output, Trace(product, activated, mean, rstd)

    def pull_back(
        self, trace: Trace, cotangent: Tensor, trained: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return a cotangent of the output as one of the product, and the gradients of the LayerNorm's parameters.

        :param trace: of the rows in question.
        :param cotangent: (*stack, ..., out).
        :param trained: whether the parameters' gradients are asked for; for a single network.
        :return: cotangent, same shape; gradients of scale and bias, (out,) each, or None.
        """
        of_scale = of_bias = None
        if trace.activated is not None and self.norm_scale is not None and self.norm_bias is not None:
            single = is_single(self.weight)
            if not single:
                cotangent = cotangent * over_rows(self.norm_scale, cotangent)
            cotangent, of_scale, of_bias = torch.ops.aten.native_layer_norm_backward(
                cotangent,
                trace.activated,
                trace.activated.shape[-1:],
                trace.mean,
                trace.rstd,
                self.norm_scale.flatten() if single else None,
                self.norm_bias.flatten() if single else None,
                [True, trained, trained],
            )
        if self.activation is not None:
            cotangent = _activation_backward(self.activation, trace.product, cotangent)
        return cotangent, of_scale, of_bias

    def parameters(self) -> tuple[Tensor | None, ...]:
        """Return weight, bias, and scale and bias of the LayerNorm."""
        return self.weight, self.bias, self.norm_scale, self.norm_bias

    def members(self) -> list[Layer]:
        """Return the layer of every member of the stack, without stack axes but one of size 1."""
        count = self.weight.shape[:-2].numel()

        def split(parameter: Tensor | None) -> Sequence[Tensor | None]:
            if parameter is None:
                return [None] * count
            lead = self.weight.ndim - 2
            return [p.unsqueeze(0) for p in parameter.flatten(0, lead - 1).unbind(0)]

        rows = zip(*map(split, self.parameters()), strict=True)
        return [self._replace(weight=w, bias=b, norm_scale=s, norm_bias=n) for w, b, s, n in rows]


def evaluate(layers: Sequence[Layer], x: Tensor, begun: bool = False) -> Tensor:
    """Evaluate layers one after the other.

    Where oneDNN is the faster library, members are evaluated one by one: what lies between two layers then stays in the
    processor's cache.

    :param layers: of one stack.
    :param x: (*stack, ..., in); stack axes of size 1 broadcast.
    :param begun: whether ``x`` is the first layer's product, bias included, instead.
    :return: (*stack, ..., out).
    """
    if any(prefers_onednn(x, layer.weight) for layer in layers):
        if not torch.is_grad_enabled() and not is_single(layers[0].weight):
            return _by_member(_evaluate_members, layers, x, begun)
        if torch.is_grad_enabled() and layers[0].dtype is None:  # recorded bfloat16 gains nothing
            return _by_member(_evaluate_recording, layers, x, begun)
    if begun:
        x, layers = layers[0].finish(x), layers[1:]
    for layer in layers:
        x = layer(x)
    return x


def _members(layers: Sequence[Layer]) -> list[Sequence[Layer]]:
    """Return the layers of every member of the stack."""
    return list(zip(*(layer.members() for layer in layers), strict=True))


def _by_member(
    evaluation: Callable[[Sequence[Layer], Tensor, bool], Tensor], layers: Sequence[Layer], x: Tensor, begun: bool
) -> Tensor:
    """Give every member of the stack rows of its own, and return the outputs as a stack again."""
    stack = layers[0].weight.shape[:-2]
    rows = x.expand(*stack, *x.shape[len(stack) :]).flatten(0, len(stack) - 1)
    return evaluation(layers, rows, begun).unflatten(0, stack)


def _evaluate_members(layers: Sequence[Layer], rows: Tensor, begun: bool) -> Tensor:
    """Evaluate member by member rows (members, ..., in)."""
    return torch.cat([evaluate(own, rows[i : i + 1], begun) for i, own in enumerate(_members(layers))])


def _evaluate_recording(layers: Sequence[Layer], rows: Tensor, begun: bool) -> Tensor:
    """Evaluate member by member rows (members, ..., in), so that the result can be differentiated once."""
    flat = [p if p is None else p.flatten(0, layer.bias.ndim - 2) for layer in layers for p in layer.parameters()]
    if begun:
        flat[:2] = None, None  # the product is an input
    outputs: Tensor = _RecordedLayers.apply(layers, begun, rows.flatten(1, -2), *flat)  # type: ignore[no-untyped-call]
    return outputs.unflatten(1, rows.shape[1:-1])


class _RecordedLayers(torch.autograd.Function):
    """Layers evaluated and differentiated member by member, without a recording of what happens between them.

    Inputs are the layers, whether the first one's product is given, the rows or that product, (members, N, in), and
    for autograd the layers' parameters, each (members, ...) or None: weight, bias, scale and bias of the LayerNorm.
    """

    @staticmethod
    def forward(ctx: Any, layers: Sequence[Layer], begun: bool, rows: Tensor, *parameters: Tensor | None) -> Tensor:
        ctx.begun, ctx.members, ctx.evaluations, outputs = begun, _members(layers), [], []
        for x, own in zip(rows.unsqueeze(1).unbind(), ctx.members, strict=True):
            evaluation = []
            for i, layer in enumerate(own):
                product = x if begun and i == 0 else dense(x, layer.weight, layer.bias)
                output, trace = layer.trace(product)
                evaluation.append((x, trace))
                x = output
            ctx.evaluations.append(evaluation)
            outputs.append(x)
        ctx.save_for_backward(*parameters)
        return torch.cat(outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        _, _, wants_rows, *wanted = ctx.needs_input_grad
        found = [torch.empty_like(p) if want else None for p, want in zip(ctx.saved_tensors, wanted, strict=True)]
        of_rows = []
        for member, (own, evaluation) in enumerate(zip(ctx.members, ctx.evaluations, strict=True)):
            cotangent = gradient[member : member + 1].contiguous()
            for i in reversed(range(len(own))):
                x, trace = evaluation[i]
                weight, bias, *norm = (p if p is None else p[member] for p in found[4 * i : 4 * i + 4])
                trained = any(parameter is not None for parameter in norm)
                cotangent, *of_norm = own[i].pull_back(trace, cotangent, trained)
                if weight is not None:
                    weight_gradient(x[0], cotangent[0], out=weight)
                if bias is not None:
                    torch.sum(cotangent[0], 0, out=bias)
                for parameter, value in zip(norm, of_norm, strict=True):
                    if parameter is not None:
                        parameter.copy_(value)
                if i > 0 or (wants_rows and not ctx.begun):
                    cotangent = dense(cotangent, own[i].weight.transpose(-2, -1))
            of_rows.append(cotangent)
        return None, None, torch.cat(of_rows) if wants_rows else None, *found


class Linearisation:
    """Layers evaluated once at many points, and their vector-Jacobian products there, point by point.

    A chain of such products along the points, as a lean adjoint is, then needs no second forward pass, and the one
    forward pass there is covers all points at once. Parameters are constants here.

    :param layers: of one stack.
    :param first: products of the first layer with their bias, (*stack, K, N, width) for K points of every row.
    """

    def __init__(self, layers: Sequence[Layer], first: Tensor) -> None:
        self.layers = [layer._replace(weight=layer.weight.detach()) for layer in layers]
        self.traces: list[Trace] = []  # of all layers but the last, whose output no pull-back needs
        self._last_input = first
        for layer in self.layers[:-1]:
            x = self._last_input
            product = dense(x, layer.weight, layer.bias, layer.dtype) if self.traces else x
            self._last_input, trace = layer.trace(product)
            self.traces.append(trace)

    @property
    def output(self) -> Tensor:
        """The last layer's output at all points, (*stack, K, N, out); computed when it is asked for."""
        last = self.layers[-1]
        return dense(self._last_input, last.weight, last.bias, last.dtype) if self.traces else self._last_input

    def pull_back(self, point: int, cotangent: Tensor) -> Tensor:
        """Return a cotangent of the output at one point as a cotangent of the first layer's product.

        :param point: index along K.
        :param cotangent: (*stack, N, out).
        :return: (*stack, N, width).
        """
        for i in range(len(self.layers) - 1, 0, -1):
            cotangent = dense(cotangent, self.layers[i].weight.transpose(-2, -1), None, self.layers[i].dtype)
            cotangent, *_ = self.layers[i - 1].pull_back(self.traces[i - 1].at(point), cotangent)
        return cotangent


def _activation_backward(activation: Callable[[Tensor], Tensor], x: Tensor, cotangent: Tensor) -> Tensor:
    if activation is gelu and not (x.device.type == "cpu" and torch.compiler.is_compiling()):
        return torch.ops.aten.gelu_backward(cotangent, x, approximate="tanh")
    return action_gradient(lambda y: activation(y) * cotangent, x)


def gelu(x: Tensor) -> Tensor:
    r"""Return the tanh approximation of GELU, elementwise (the default of ``jax.nn.gelu``).

    On a CPU it is :math:`x\,\sigma(2\sqrt{2/\pi}\,(x + 0.044715x^3))`, which is the same function: PyTorch's sigmoid
    takes half the time of its tanh, in its own kernels and in compiled ones.

    :param x: any shape.
    :return: same shape.
    """
    if x.device.type != "cpu":
        return F.gelu(x, approximate="tanh")
    if torch.compiler.is_compiling():
        return x * torch.sigmoid(GELU_SLOPE * x * (1 + GELU_CUBIC * x * x))  # the compiler makes one pass of it
    if torch.is_grad_enabled() and x.requires_grad:
        activated: Tensor = _RecordedGelu.apply(x)  # type: ignore[no-untyped-call]
        return activated
    return _gelu_by_sigmoid(x)


def _gelu_by_sigmoid(x: Tensor) -> Tensor:
    full = x.float() if x.dtype == torch.bfloat16 else x  # whose intermediate results would be too coarse
    slope = torch.addcmul(full.new_full((), GELU_SLOPE), full, full, value=GELU_CUBIC * GELU_SLOPE)
    return slope.mul_(full).sigmoid_().mul_(full).to(x.dtype)


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


def over_rows(parameter: Tensor, rows: Tensor) -> Tensor:
    """Insert axes so that a per-feature parameter broadcasts over the rows.

    :param parameter: (*stack, width).
    :param rows: (*stack, ..., width).
    :return: (*stack, 1, ..., width).
    """
    for _ in range(rows.ndim - parameter.ndim):
        parameter = parameter.unsqueeze(-2)
    return parameter
