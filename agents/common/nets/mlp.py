"""Multi-layer perceptrons with stacked parameters; also the precision of matrix products, and velocity fields.

One set of tensors contains the parameters of many independent networks. Parameters have leading axes, called ``stack``
below: (S,) for one network per replica, (S, E) for an ensemble of E members per replica. Inputs have the same leading
axes; an axis of size 1 broadcasts. ``frozen`` parameters are constants: only the inputs receive gradients.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.common.batch import Time, Velocity
from agents.common.maths.critic import action_gradient

LAYER_NORM_EPS = 1e-6  # Flax's default; with PyTorch's default, 1e-5, outputs differ
GELU_SLOPE, GELU_CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715
SLOPE = torch.tensor(GELU_SLOPE)
LARGE = 1 << 12
"""Smallest number of elements for which four cheap kernels take less time than one GELU kernel."""
FUSES_BIAS = {"cuda"}
"""Devices on which the kernel of a matrix product adds the bias, which saves a launch; only for a single network."""


# -- layers -----------------------------------------------------------------------------------------------------------


class Layer(NamedTuple):
    """One dense layer, with activation and LayerNorm.

    :param weight: ``(*stack, in, out)``.
    :param bias: ``(*stack, out)``.
    :param activation: elementwise function; None for a plain output.
    :param dtype: lower precision of the matrix product's factors, or None.
    :param norm_scale: scale of the LayerNorm after the activation, ``(*stack, out)``, or None.
    :param norm_bias: bias of the same LayerNorm, or None.
    """

    weight: Tensor
    bias: Tensor
    activation: Callable[[Tensor], Tensor] | None = None
    dtype: torch.dtype | None = None
    norm_scale: Tensor | None = None
    norm_bias: Tensor | None = None

    def epilogue(self, product: Tensor) -> Tensor:
        """Apply activation and LayerNorm to ``product``, which includes the bias, ``(*stack, ..., out)``."""
        x = product
        if self.activation is not None:
            x = self.activation(product)
        scale, bias = self.norm_scale, self.norm_bias
        if scale is None or bias is None:
            return x
        width = x.shape[-1:]
        if bias.numel() == width.numel() and not torch.compiler.is_compiling():
            # one network: PyTorch's kernel applies scale and bias too; compiled, it has no forward derivative
            return F.layer_norm(x, width, scale.flatten(), bias.flatten(), LAYER_NORM_EPS)
        over_rows = [1] * (x.ndim - scale.ndim) + [-1]  # so that (*stack, out) broadcasts
        normalised = F.layer_norm(x, width, eps=LAYER_NORM_EPS)
        return torch.addcmul(
            bias.unflatten(-1, over_rows), normalised, scale.unflatten(-1, over_rows)
        )


def gelu(x: Tensor) -> Tensor:
    r"""Return the tanh approximation of GELU, elementwise (the default of ``jax.nn.gelu``).

    It is :math:`x\,\sigma(2\sqrt{2/\pi}\,(x + 0.044715x^3))`.
    """
    if torch.compiler.is_compiling():
        # fused by the compiler; a sigmoid takes half the time of a tanh
        return x * torch.sigmoid(GELU_SLOPE * x * (1 + GELU_CUBIC * x * x))
    # if gradients are recorded, PyTorch's GELU is better: it stores only x
    is_recorded = torch.is_grad_enabled()
    if x.is_cpu and x.dtype == torch.float32 and x.numel() >= LARGE and not is_recorded:
        slope = torch.addcmul(SLOPE, x, x, value=GELU_CUBIC * GELU_SLOPE)
        return slope.mul_(x).sigmoid_().mul_(x)
    return F.gelu(x, approximate="tanh")


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Multiply rows by stacked matrices.

    :param x: ``(*stack, ..., in)``.
    :param weight: ``(*stack, in, out)``.
    :param bias: ``(*stack, out)``, or None.
    :param dtype: lower precision of the factors, e.g. bfloat16; None: the precision of the weight.
    :return: ``(*stack, ..., out)``, in the precision of the weight.

    >>> linear(torch.ones(1, 4, 3), torch.ones(1, 3, 2)).shape
    torch.Size([1, 4, 2])
    """
    lead = weight.ndim - 2
    stack = weight.shape[:lead]
    factors = dtype or weight.dtype
    is_fused = x.device.type in FUSES_BIAS and stack.numel() == 1
    if is_fused and bias is not None and bias.dtype == factors:
        rows = x.flatten(0, -2).to(factors)
        product = torch.addmm(bias.flatten(), rows, weight.flatten(0, -2))
        return product.view(*stack, *x.shape[lead:-1], -1)
    if x.ndim > weight.ndim:  # several row axes are folded into one
        product = linear(x.flatten(lead, -2), weight, bias, dtype)
        return product.unflatten(lead, x.shape[lead:-1])
    # `bmm` if possible, since `matmul` would expand and reshape both factors, which autograd would record
    is_batch = x.ndim == weight.ndim == 3 and x.shape[0] == weight.shape[0]
    multiply = torch.bmm if is_batch else torch.matmul
    if x.dtype == weight.dtype == factors:  # conversions take time even if they change nothing
        product = multiply(x, weight)
    else:
        product = multiply(x.to(factors), weight.to(factors)).to(weight.dtype)
    if bias is None:
        return product
    offset = bias.unsqueeze(-2)
    # `matmul` returns a view. Adding to this view in place would need copies in the backward pass, and PyTorch 2.11
    # compiles these copies incorrectly.
    return product.add_(offset) if is_batch else product + offset


def evaluate(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Evaluate layers one after the other.

    :param layers: layers from the input to the output; if there are none, x is returned.
    :param x: ``(*stack, ..., in)``.
    :return: ``(*stack, ..., out)``.
    """
    for layer in layers:
        x = layer.epilogue(linear(x, layer.weight, layer.bias, layer.dtype))
    return x


# -- networks ---------------------------------------------------------------------------------------------------------


@contextmanager
def matmul_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Allow TF32 in float32 matrix products and convolutions inside the block if the model's precision permits it.

    PyTorch has one process-wide switch for each; the switch for convolutions is on by default. With ``bf16``, layers in
    float32 use TF32 too. On a CPU the switches are unchanged.

    :param precision: ``fp32``, ``tf32`` or ``bf16``.
    :param device: device of the model.
    """
    if device.type == "cpu":
        yield
        return
    process_precision = torch.get_float32_matmul_precision()
    process_convolutions = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(process_precision)
        torch.backends.cudnn.allow_tf32 = process_convolutions


class StackedMLP(nn.Module):
    """Independent MLPs with stacked parameters; hidden layers are dense, then GELU (tanh form), then LayerNorm if set.

    :param stack: leading axes of the parameters, (S,) or (S, E).
    :param layer_sizes: sizes from the input to the output.
    :param layer_norm: whether every hidden activation is normalised.
    :param activate_final: whether the last layer is activated (and normalised) too.
    :param activation: elementwise function applied after the dense layers; None: GELU.

    >>> ensemble = StackedMLP((1, 2), [3, 16, 1])  # one replica, two members
    >>> ensemble(torch.zeros(1, 8, 3)).shape
    torch.Size([1, 2, 8, 1])
    """

    def __init__(
        self,
        stack: Sequence[int],
        layer_sizes: Sequence[int],
        layer_norm: bool = False,
        activate_final: bool = False,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.stack = tuple(stack)
        self.matmul_dtype: torch.dtype | None = None  # None: the dtype of the parameters
        self.hidden_layers = len(layer_sizes) - 2
        self.activated = self.hidden_layers + activate_final
        self.activation = activation
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.norm_scales = nn.ParameterList()
        self.norm_biases = nn.ParameterList()
        for inputs, outputs in itertools.pairwise(layer_sizes):
            self.weights.append(torch.zeros(*stack, inputs, outputs))
            self.biases.append(torch.zeros(*stack, outputs))
            if layer_norm and len(self.weights) <= self.activated:
                self.norm_scales.append(torch.ones(*stack, outputs))
                self.norm_biases.append(torch.zeros(*stack, outputs))

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """Sample one replica's weights, Xavier-uniform with the fans of a single member; biases stay zero."""
        for weight in self.weights:
            fans = sum(weight.shape[-2:])
            fill_uniform(weight, replica, math.sqrt(6.0 / fans), generator)

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        """Evaluate every member on its replica's rows.

        With stack (S,), x (S, ..., in) gives (S, ..., out); with (S, E), x (S, B, in) gives (S, E, B, out).
        """
        if len(self.stack) > 1:  # the members of a replica share its rows
            x = x.unsqueeze(1)
        return evaluate(self.layers(frozen), x)

    def layers(self, frozen: bool) -> list[Layer]:
        """Return the layers with the current parameters, from the input to the output."""
        columns: list[Iterable[Any]] = []
        for name in ("weights", "biases", "norm_scales", "norm_biases"):
            kind: Any = self._modules[name]
            # read from `_modules`: looking up attributes and items would take two thirds of this method's time
            parameters = kind._parameters.values()
            if frozen:
                parameters = [parameter.detach() for parameter in parameters]
            columns.append(parameters)
        weights, biases, *norms = columns
        activations = [self.activation or gelu] * self.activated
        # the output layer keeps full precision, since errors of Q values and velocities add up
        dtypes = [self.matmul_dtype] * self.hidden_layers
        rows = itertools.zip_longest(weights, biases, activations, dtypes, *norms)
        # PyTorch 2.11 cannot compile `itertools.starmap`
        return [Layer(*row) for row in rows]


def fill_uniform(parameter: Tensor, replica: int, bound: float, generator: torch.Generator) -> None:
    """Fill one replica of a parameter with uniform samples in [-bound, bound], the same on every device."""
    with torch.no_grad():
        draw = torch.rand(parameter.shape[1:], generator=generator)
        parameter[replica].copy_((2 * draw - 1) * bound)


def maybe_detach(parameter: Tensor, frozen: bool) -> Tensor:
    """Return a parameter, detached if it is frozen."""
    if frozen:
        return parameter.detach()
    return parameter


# -- velocity fields at fixed observations ----------------------------------------------------------------------------


@dataclass
class ConditionedVelocity:
    """A velocity field at fixed observations: (x, t) -> velocity; x and velocity are (S, B, D) or (S, K, B, D).

    :param layers: the field's layers; the first contains only the weight of x.
    :param shared: the product of the observations with their weight in the first layer, plus the bias.
    :param time_weight: the first layer's weight of t; empty for a one-step map.
    """

    layers: list[Layer]
    shared: Tensor
    time_weight: list[Tensor]

    def __call__(self, x: Tensor, t: Time | None = None) -> Tensor:
        """Return the velocities at x; ``t`` is None for a one-step map."""
        first, *later = self.layers
        return evaluate(later, first.epilogue(self.first_product(x, t)))

    def first_product(self, x: Tensor, t: Time | None) -> Tensor:
        """Return the first layer's output before the activation, for x, observations and time."""
        parts = [self.shared, *self.time_weight]
        if x.ndim == 4:  # all K points of a row share the parts
            parts = [part.unsqueeze(1) for part in parts]
        offset, *time_weight = parts
        if isinstance(t, Tensor):
            offset = torch.addcmul(offset, t, time_weight[0])
        elif t:
            offset = torch.add(offset, time_weight[0], alpha=t)
        first = self.layers[0]
        product = linear(x, first.weight, None, first.dtype)
        # with K points the product is a view, see `linear`
        return product + offset if x.ndim == 4 else product.add_(offset)


def vjp_at_points(velocity: Velocity, x: Tensor, t: Tensor) -> Callable[[int, Tensor], Tensor]:
    """Return the vector-Jacobian products in x of a velocity field at K points of every row.

    A chain of these products along the points, e.g. for lean adjoints, needs a single forward pass. Parameters are
    constants here.

    :param velocity: the field.
    :param x: the points, (S, K, B, D).
    :param t: their times, (K, 1, 1).
    :return: function of a point's index and a vector (S, B, D) that returns the product, (S, B, D).

    >>> points, times = torch.zeros(1, 5, 8, 2), torch.zeros(5, 1, 1)
    >>> product = vjp_at_points(lambda x, t: -3 * x, points, times)
    >>> product(4, torch.ones(1, 8, 2)).unique()
    tensor([-3.])
    """
    if not isinstance(velocity, ConditionedVelocity):
        # a custom module is differentiated point by point
        return lambda point, vector: action_gradient(
            lambda y: (velocity(y, t[point]) * vector).sum(-1), x[:, point]
        )
    products = [velocity.first_product(x, t)]
    for layer, following in itertools.pairwise(velocity.layers[:-1]):
        rows = layer.epilogue(products[-1])
        products.append(linear(rows, following.weight, following.bias, following.dtype))
    # the compiler differentiates GELU itself, and fuses the result
    is_compiling = torch.compiler.is_compiling()
    transposed = []
    for layer in velocity.layers:
        weight = layer.weight.detach().to(layer.dtype or layer.weight.dtype)
        transposed.append(weight.transpose(-2, -1))

    def product(point: int, vector: Tensor) -> Tensor:
        for i in reversed(range(len(transposed))):
            layer = velocity.layers[i]
            if i < len(products):
                at_point = products[i].select(-3, point)
                if layer.activation is gelu and layer.norm_scale is None and not is_compiling:
                    vector = torch.ops.aten.gelu_backward(vector, at_point, approximate="tanh")
                else:
                    (vector,) = torch.func.vjp(layer.epilogue, at_point)[1](vector)
            vector = linear(vector, transposed[i]).to(vector.dtype)
        return vector

    return product
