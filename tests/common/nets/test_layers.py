"""All kernels give the same results."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from agents.common.nets import layers
from agents.common.nets.layers import (
    CPU,
    CUDA,
    ONEDNN,
    STANDARD,
    Layer,
    compiled_gelu,
    cpu_gelu,
    gelu,
)
from tests.common.toys import normals, refuses

STACKS = [(1,), (2,), (1, 3), (2, 3)]
NEEDS_ONEDNN = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")


@pytest.fixture(
    params=["cpu", "cuda", *(pytest.param(kind, marks=NEEDS_ONEDNN) for kind in ("but", "all"))],
    ids=["CPU", "CUDA", "oneDNN but for weights", "oneDNN"],
)
def kernels(request, monkeypatch):
    """Return kernels; of oneDNN's those that multiply gradients of weights too, and those that do not."""
    weights_too = request.param == "all"
    monkeypatch.setattr(layers, "onednn_is_faster", lambda of_weights: weights_too)
    return {"cpu": CPU, "cuda": CUDA}.get(request.param, ONEDNN)


def stacked(stack, widths, norm=False, dtype=None, activation=gelu):
    """Return random layers whose parameters want gradients."""
    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        weight = normals(*stack, inputs, outputs, seed=i) / math.sqrt(inputs)
        biases = normals(3, *stack, outputs, seed=10 + i)
        bias, *norms = (value.requires_grad_() for value in biases)
        if not norm:
            norms = ()
        layers.append(Layer(weight.requires_grad_(), bias, activation, dtype, *norms))
    layers[-1] = Layer(layers[-1].weight, layers[-1].bias)
    return layers


def rows_of(stack, rows, width):
    return normals(stack[0], *[1] * (len(stack) - 1), rows, width, seed=7).requires_grad_()


def parameters(network):
    return [value for layer in network for value in layer if isinstance(value, Tensor)]


def evaluations_of(network, kernels):
    """Return the evaluation by some kernels and the standard one, with GELUs of each, as functions of the input."""
    own = []
    for layer in network:
        activation = kernels.gelu if layer.activation is gelu else layer.activation
        own.append(layer._replace(activation=activation))
    return partial(kernels.evaluate, own), partial(STANDARD.evaluate, network)


@pytest.mark.parametrize("activation", [gelu, F.mish])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("stack", STACKS)
def test_every_member_is_evaluated_and_differentiated_on_its_own_rows(
    stack, norm, activation, kernels
):
    network = stacked(stack, [5, 16, 12, 2], norm, activation=activation)
    x = rows_of(stack, 40, 5)
    outcomes = []
    for function in evaluations_of(network, kernels):
        output = function(x)
        with torch.no_grad():
            unrecorded = function(x)
        gradients = torch.autograd.grad(output.square().sum(), [x, *parameters(network)])
        outcomes.append((output, unrecorded, *gradients))
    assert_close(*outcomes, rtol=1e-4, atol=1e-4)


def test_all_forms_of_gelu_are_the_same_function():
    x = torch.cat([torch.linspace(-9, 9, 2001), torch.tensor([-1e30, 1e30, 0.0])])
    for function in (cpu_gelu, compiled_gelu):
        assert_close(function(x), gelu(x), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("stack", [(1,), (2,)])
def test_a_derivative_is_carried_forwards(stack, kernels):
    network = stacked(stack, [5, 16, 16, 2], norm=True)
    x, along = (normals(*stack, 7, 5, seed=k) for k in (7, 8))
    own, standard = (
        torch.func.jvp(function, (x,), (along,)) for function in evaluations_of(network, kernels)
    )
    assert_close(own, standard, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stack", [(1,), (2, 3)])
def test_a_gradient_can_be_differentiated_again(stack, kernels):
    network = stacked(stack, [5, 16, 12, 2], norm=True)
    x = rows_of(stack, 40, 5)
    outcomes = []
    for function in evaluations_of(network, kernels):
        (slope,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
        penalty = slope.square().sum()
        outcomes.append(torch.autograd.grad(penalty, parameters(network), allow_unused=True))
    assert_close(*outcomes, rtol=1e-3, atol=1e-3)
    assert outcomes[0][0].abs().max() > 0.1


@NEEDS_ONEDNN
def test_only_what_wants_a_gradient_gets_one_of_unchanged_weights():
    network, x = stacked((2,), [5, 16, 2], activation=cpu_gelu), normals(2, 40, 5, seed=7)
    last = network[1]._replace(weight=network[1].weight.detach(), bias=network[1].bias.detach())
    first_layer = parameters(network[:1])
    output = ONEDNN.evaluate([network[0], last], x).square().sum()
    gradients = torch.autograd.grad(output, first_layer)
    output = ONEDNN.evaluate(network, x).square().sum()
    assert_close(gradients, torch.autograd.grad(output, first_layer, retain_graph=True))
    assert not ONEDNN.evaluate([last], normals(2, 40, 16)).requires_grad
    with torch.no_grad():
        network[1].weight.add_(1)
    with refuses("modified", RuntimeError):
        output.backward()


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("stack", [(1,), (2, 3)])
def test_low_precision_keeps_two_digits(stack, norm):
    network = stacked(stack, [64, 64, 64, 8], norm, torch.bfloat16)
    x = rows_of(stack, 64, 64)
    outcomes = []
    for layers_ in (network, [layer._replace(dtype=None) for layer in network]):
        evaluate, _ = evaluations_of(layers_, CPU)
        with torch.no_grad():
            unrecorded = evaluate(x)
        output = evaluate(x)
        gradients = torch.autograd.grad(output.square().sum(), [x, *parameters(network)])
        outcomes.append([unrecorded, output, *gradients])
    for value, exact in zip(*outcomes, strict=True):
        assert value.dtype == torch.float32
        assert 0 < (value - exact).norm() / exact.norm() < 0.02
