"""Multi-layer perceptrons with stacked parameters, and the precision of their products.

``frozen`` parameters are constants, so that gradient goes through the inputs only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from agents.common.nets.layers import STANDARD, Kernels, Layer

SMALLEST_MATRIX = (
    1 << 11
)  # entries; networks whose matrices all have fewer gain nothing by other kernels


def matmul_precision(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Let float32 products and convolutions take TF32 where a model's precision allows it, and not elsewhere.

    PyTorch has one switch of each for the process; that of convolutions is on by default. With ``bf16`` the layers that
    stay in float32 take TF32 too. On a CPU the switches are left alone.

    :param precision: ``fp32``, ``tf32`` or ``bf16``.
    :param device: where the model is.
    :return: context in which the switches are those of the model.
    """
    if device.type == "cpu":
        return nullcontext()
    return _allowing_tf32(precision != "fp32")


@contextmanager
def _allowing_tf32(is_allowed: bool) -> Iterator[None]:
    """Set PyTorch's switches inside the block."""
    process_precision = torch.get_float32_matmul_precision()
    process_convolutions = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if is_allowed else "highest")
    torch.backends.cudnn.allow_tf32 = is_allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(process_precision)
        torch.backends.cudnn.allow_tf32 = process_convolutions


class StackedMLP(nn.Module):
    """Independent MLPs with stacked parameters: dense, GELU (tanh form), then LayerNorm where it is enabled.

    :param stack: leading axes of the parameters, (S,) or (S, E).
    :param widths: layer sizes from the input to the output.
    :param layer_norm: whether every hidden activation is normalised.
    :param activate_final: whether the last layer is activated (and normalised) too.
    :param activation: elementwise function applied after the dense layers; None: GELU.
    """

    def __init__(
        self,
        stack: Sequence[int],
        widths: Sequence[int],
        layer_norm: bool = False,
        activate_final: bool = False,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.stack = tuple(stack)
        self.matmul_dtype: torch.dtype | None = None  # None: that of the parameters
        self.hidden_layers = len(widths) - 2
        self.activated = self.hidden_layers + activate_final
        self.activation = activation
        self.kernels = STANDARD
        """How it is evaluated, see :meth:`use`."""
        sizes = [inputs * outputs for inputs, outputs in itertools.pairwise(widths)]
        self.gains_by_kernels = max(sizes, default=0) >= SMALLEST_MATRIX
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.norm_scales = nn.ParameterList()
        self.norm_biases = nn.ParameterList()
        for inputs, outputs in itertools.pairwise(widths):
            self.weights.append(torch.zeros(*stack, inputs, outputs))
            self.biases.append(torch.zeros(*stack, outputs))
            if layer_norm and len(self.weights) <= self.activated:
                self.norm_scales.append(torch.ones(*stack, outputs))
                self.norm_biases.append(torch.zeros(*stack, outputs))

    def use(self, kernels: Kernels) -> None:
        """Evaluate by these kernels from now on, unless it is so small that nothing is gained."""
        self.kernels = kernels if self.gains_by_kernels else STANDARD

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """Draw one replica's weights, Xavier-uniform with the fans of a single member; biases stay zero."""
        for weight in self.weights:
            fans = sum(weight.shape[-2:])
            fill_uniform(weight, replica, math.sqrt(6.0 / fans), generator)

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        """Evaluate every member on its replica's rows.

        With stack (S,), x (S, ..., in) gives (S, ..., out); with (S, E), x (S, B, in) gives (S, E, B, out).
        """
        if len(self.stack) > 1:  # the members of a replica share its rows
            x = x.unsqueeze(1)
        return self.kernels.evaluate(self.layers(frozen), x)

    def layers(self, frozen: bool = False) -> list[Layer]:
        """Return the layers as they are now, from the input to the output."""
        columns: list[Iterable[Any]] = []
        for name in ("weights", "biases", "norm_scales", "norm_biases"):
            kind: Any = self._modules[name]
            # attributes and items of a module are looked up by name: two thirds of the time here
            parameters = kind._parameters.values()
            if frozen:
                parameters = [parameter.detach() for parameter in parameters]
            columns.append(parameters)
        weights, biases, *norms = columns
        activations = [self.activation or self.kernels.gelu] * self.activated
        # the output layer keeps full precision: Q values and velocities are sums of many steps
        dtypes = [self.matmul_dtype] * self.hidden_layers
        of_layers = itertools.zip_longest(weights, biases, activations, dtypes, *norms)
        # PyTorch 2.11 compiles no `itertools.starmap`
        return [Layer(*of_layer) for of_layer in of_layers]


def fill_uniform(parameter: Tensor, replica: int, bound: float, generator: torch.Generator) -> None:
    """Fill one replica of a parameter with uniform draws in [-bound, bound], the same on every device."""
    with torch.no_grad():
        draw = torch.rand(parameter.shape[1:], generator=generator)
        parameter[replica].copy_((2 * draw - 1) * bound)


def maybe_detach(parameter: Tensor, frozen: bool) -> Tensor:
    """Return a parameter, as a constant where it is frozen."""
    if frozen:
        return parameter.detach()
    return parameter
