"""Fast evaluation gives the plain one's results, by every way of computing them."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from agents.common.nets import mlp, onednn
from agents.common.nets.fast import evaluate, gelu
from agents.common.nets.mlp import Layer
from tests.common.toys import normals, refuses

STACKS = [(1,), (2,), (1, 3), (2, 3)]


@pytest.fixture(
    params=[(False, False), (True, False), (True, True)],
    ids=["mkl", "oneDNN but for weights", "oneDNN"],
)
def library(request, monkeypatch):
    """Send products, and those of weights, to one library."""
    if any(request.param):
        request.getfixturevalue("onednn")
    monkeypatch.setattr(onednn, "is_faster", lambda of_weights=False: request.param[of_weights])


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


def evaluations_of(network):
    """Return the fast evaluation and the plain one, with layers that each can evaluate, as functions of the input."""
    plain_activations = {gelu: mlp.gelu}
    plain = []
    for layer in network:
        activation = plain_activations.get(layer.activation, layer.activation)
        plain.append(layer._replace(activation=activation))
    return partial(evaluate, network), partial(mlp.evaluate, plain)


@pytest.mark.parametrize("activation", [gelu, F.mish])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("stack", STACKS)
def test_every_member_is_evaluated_and_differentiated_on_its_own_rows(
    stack, norm, activation, library
):
    network = stacked(stack, [5, 16, 12, 2], norm, activation=activation)
    x = rows_of(stack, 40, 5)
    outcomes = []
    for function in evaluations_of(network):
        output = function(x)
        with torch.no_grad():
            unrecorded = function(x)
        gradients = torch.autograd.grad(output.square().sum(), [x, *parameters(network)])
        outcomes.append((output, unrecorded, *gradients))
    assert_close(*outcomes, rtol=1e-4, atol=1e-4)


def test_gelu_is_the_same_function_whether_or_not_a_gradient_is_recorded():
    x = torch.cat([torch.linspace(-9, 9, 2001), torch.tensor([-1e30, 1e30, 0.0])])
    for values in (gelu(x), gelu(x.clone().requires_grad_()).detach()):
        assert_close(values, mlp.gelu(x), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("stack", [(1,), (2,)])
def test_a_derivative_is_carried_forwards(stack, recorded, onednn):
    network = stacked(stack, [5, 16, 16, 2], norm=True)
    x, along = (normals(*stack, 7, 5, seed=k) for k in (7, 8))
    weights = [layer.weight for layer in network]
    outcomes = []
    for function in evaluations_of(network):
        with torch.set_grad_enabled(recorded):
            value, slope = torch.func.jvp(function, (x,), (along,))
        gradients = torch.autograd.grad(slope.square().sum(), weights) if recorded else ()
        outcomes.append((value, slope, *gradients))
    assert_close(*outcomes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transformed", [False, True], ids=["autograd.grad", "func.grad"])
@pytest.mark.parametrize("stack", [(1,), (2, 3)])
def test_a_gradient_can_be_differentiated_again(stack, transformed, library):
    network = stacked(stack, [5, 16, 12, 2], norm=True)
    x = rows_of(stack, 40, 5)
    outcomes = []
    for function in evaluations_of(network):

        def penalised(at, function=function):
            return function(at).square().sum()

        if transformed:
            slope = torch.func.grad(penalised)(x)
        else:
            (slope,) = torch.autograd.grad(penalised(x), x, create_graph=True)
        penalty = slope.square().sum()
        outcomes.append(torch.autograd.grad(penalty, parameters(network), allow_unused=True))
    assert_close(*outcomes, rtol=1e-3, atol=1e-3)
    assert outcomes[0][0].abs().max() > 0.1


def test_only_what_wants_a_gradient_gets_one_and_parameters_that_changed_since_are_refused(onednn):
    network, x = stacked((2,), [5, 16, 2]), normals(2, 40, 5, seed=7)
    last = network[1]._replace(weight=network[1].weight.detach(), bias=network[1].bias.detach())
    first_layer = parameters(network[:1])
    gradients = torch.autograd.grad(evaluate([network[0], last], x).square().sum(), first_layer)
    output = evaluate(network, x).square().sum()
    assert_close(gradients, torch.autograd.grad(output, first_layer, retain_graph=True))
    assert not evaluate([last], normals(2, 40, 16)).requires_grad
    with torch.no_grad():
        network[1].weight.add_(1)
    with refuses("modified", RuntimeError):
        output.backward()


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("stack", [(1,), (2, 3)])
def test_low_precision_keeps_two_digits(stack, norm, library):
    network = stacked(stack, [64, 64, 64, 8], norm, torch.bfloat16)
    x = rows_of(stack, 64, 64)
    outcomes = []
    for layers in (network, [layer._replace(dtype=None) for layer in network]):
        with torch.no_grad():
            unrecorded = evaluate(layers, x)
        output = evaluate(layers, x)
        gradients = torch.autograd.grad(output.square().sum(), [x, *parameters(network)])
        outcomes.append([unrecorded, output, *gradients])
    for value, exact in zip(*outcomes, strict=True):
        assert value.dtype == torch.float32
        assert 0 < (value - exact).norm() / exact.norm() < 0.02
