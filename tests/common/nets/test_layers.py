"""Stacked layers: compared with single networks, for both ways of multiplication; and GELU in compiled graphs."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from agents.common.nets.mlp import LARGE, ConditionedVelocity, Layer, evaluate, gelu
from tests.common.toys import normals

STACKS = [(1,), (2,), (1, 3), (2, 3)]


@pytest.fixture(params=["as_on_cpu", "as_on_cuda"], autouse=True)
def _device(request):
    if request.param == "as_on_cuda":
        request.getfixturevalue("as_on_cuda")


def stacked(stack, widths, norm=False, activation=gelu):
    """Return random layers whose parameters require gradients."""
    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        weight = normals(*stack, inputs, outputs, seed=i) / math.sqrt(inputs)
        biases = normals(3, *stack, outputs, seed=10 + i)
        bias, *norms = (value.requires_grad_() for value in biases)
        if not norm:
            norms = ()
        layers.append(Layer(weight.requires_grad_(), bias, activation, None, *norms))
    layers[-1] = Layer(layers[-1].weight, layers[-1].bias)
    return layers


def rows_of(stack, rows, width):
    return normals(stack[0], *[1] * (len(stack) - 1), rows, width, seed=7).requires_grad_()


def parameters(network):
    return [value for layer in network for value in layer if isinstance(value, Tensor)]


def one_by_one(network, x):
    """Evaluate every member of a stack by PyTorch's own layers."""
    stack = network[0].weight.shape[:-2]
    outputs = []
    for member in itertools.product(*map(range, stack)):
        rows = x.expand(*stack, *x.shape[len(stack) :])[member]
        for layer in network:
            rows = F.linear(rows, layer.weight[member].T, layer.bias[member])
            if layer.activation is not None:
                rows = layer.activation(rows)
            if layer.norm_scale is not None:
                norm = layer.norm_scale[member], layer.norm_bias[member]
                rows = F.layer_norm(rows, rows.shape[-1:], *norm, eps=1e-6)
        outputs.append(rows)
    return torch.stack(outputs).unflatten(0, stack)


@pytest.mark.parametrize("activation", [gelu, F.mish])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("stack", STACKS)
def test_every_member_is_evaluated_on_its_own_rows(stack, norm, activation):
    network = stacked(stack, [5, 16, 12, 2], norm, activation=activation)
    x = rows_of(stack, 40, 5)
    outcomes = []
    for function in (evaluate, one_by_one):
        output = function(network, x)
        gradients = torch.autograd.grad(output.square().sum(), [x, *parameters(network)])
        outcomes.append((output, *gradients))
    assert_close(*outcomes, rtol=1e-4, atol=1e-4)


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
