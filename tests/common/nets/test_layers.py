"""Sums in stacked layers, for both ways of multiplication, and GELU in compiled graphs.

`tests/parity` and the conformance kit compare the layers' outputs and gradients.
"""

import itertools

import pytest
import torch
from torch.testing import assert_close

from agents.common.nets.mlp import LARGE, ConditionedVelocity, Layer, evaluate, gelu
from tests.common.toys import normals

STACKS = [(1,), (2,), (1, 3), (2, 3)]


@pytest.fixture(params=["as_on_cpu", "as_on_cuda"], autouse=True)
def _device(request):
    if request.param == "as_on_cuda":
        request.getfixturevalue("as_on_cuda")


def stacked(stack, widths):
    """Return random layers whose parameters require gradients."""
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        weight, bias = normals(*stack, inputs, outputs), normals(*stack, outputs)
        layers.append(Layer(weight.requires_grad_(), bias.requires_grad_(), gelu))
    layers[-1] = Layer(layers[-1].weight, layers[-1].bias)
    return layers


def rows_of(stack, rows, width):
    return normals(stack[0], *[1] * (len(stack) - 1), rows, width).requires_grad_()


@pytest.mark.parametrize("stack", STACKS)
def test_no_sum_is_recorded_in_place_to_a_view(stack):
    output = evaluate(stacked(stack, [5, 16, 2]), rows_of(stack, 4, 5))
    # one evaluation at four points of each row, as in adjoint matching
    field = ConditionedVelocity(stacked((1,), [2, 16, 2]), normals(1, 4, 16), [])
    velocities = field(rows_of((1, 1), 4, 2).expand(1, 3, 4, 2))
    nodes = [output.grad_fn, velocities.grad_fn]
    for node in nodes:  # grows inside the loop
        assert "CopySlices" not in node.name()
        nodes += [parent for parent, _ in node.next_functions if parent is not None]


def test_gelu_is_the_same_function_compiled_and_without_gradient(monkeypatch):
    x = torch.cat([torch.linspace(-9, 9, LARGE), torch.tensor([-1e30, 1e30, 0.0])])
    plain = gelu(x)
    with torch.no_grad():
        assert_close(gelu(x), plain, rtol=2e-6, atol=1e-6)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert_close(gelu(x), plain, rtol=2e-6, atol=1e-6)
