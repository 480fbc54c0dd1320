"""Fast evaluation: the plain one's results by every way of computing them, and vector-Jacobian fast."""

import itertools
import math
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from agents.common.nets import mlp, onednn
from agents.common.nets.fast import evaluate, gelu
from agents.common.nets.mlp import Layer
from tests.common.toys import normals


@pytest.fixture
def mkl(monkeypatch):
    """Send no product to oneDNN."""
    monkeypatch.setattr(onednn, "is_faster", lambda of_weights=False: False)


def stacked(stack, widths, norm=False, dtype=None):
    """Return random layers whose parameters want gradients."""
    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        last = i == len(widths) - 2
        weight = (normals(*stack, inputs, outputs, seed=i) / math.sqrt(inputs)).requires_grad_()
        vectors = [normals(*stack, outputs, seed=10 * j + i).requires_grad_() for j in (1, 2, 3)]
        scale, shift = vectors[1:] if norm and not last else (None, None)
        layers.append(
            Layer(weight, vectors[0], None if last else gelu, None if last else dtype, scale, shift)
        )
    return layers


def parameters(network):
    return [value for layer in network for value in layer if isinstance(value, Tensor)]


def with_activation(network, activation):
    """Return the layers with another activation where there is one."""
    return [
        layer if layer.activation is None else layer._replace(activation=activation)
        for layer in network
    ]


def by_hand(network, x, member):
    """Evaluate one member in float64 with PyTorch's own functions."""
    x = x.double()
    for layer in network:
        x = F.linear(x, layer.weight[member].double().t(), layer.bias[member].double())
        if layer.activation is not None:
            x = F.gelu(x, approximate="tanh")
        if layer.norm_scale is not None and layer.norm_bias is not None:
            x = F.layer_norm(
                x,
                x.shape[-1:],
                layer.norm_scale[member].double(),
                layer.norm_bias[member].double(),
                1e-6,
            )
    return x.float()


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("library", ["onednn", "mkl"])
@pytest.mark.parametrize("stack", [(1,), (2,), (1, 3), (2, 3)])
def test_every_member_is_evaluated_on_its_own_rows(stack, library, norm, request):
    request.getfixturevalue(library)
    network = stacked(stack, [5, 16, 16, 2], norm)
    x = normals(stack[0], *[1] * (len(stack) - 1), 40, 5, seed=7)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            output = evaluate(network, x)
        assert output.shape == (*stack, 40, 2)
        for member in (
            torch.cartesian_prod(*map(torch.arange, stack)).reshape(-1, len(stack)).tolist()
        ):
            rows = x[member[0]].reshape(40, 5)
            assert_close(
                output[tuple(member)], by_hand(network, rows, tuple(member)), rtol=2e-5, atol=2e-5
            )


@pytest.mark.parametrize("activation", [gelu, F.mish])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("stack", [(1,), (1, 1), (2, 3)])
def test_gradients_by_onednn_are_those_of_plain_evaluation(
    stack, norm, activation, monkeypatch, request
):
    request.getfixturevalue("onednn")
    network = with_activation(stacked(stack, [5, 16, 12, 2], norm), activation)
    x = normals(stack[0], *[1] * (len(stack) - 1), 4, 40, 5, seed=7).requires_grad_()
    inputs = [x, *parameters(network)]
    product = Mock(wraps=onednn.recorded_linear)
    monkeypatch.setattr(onednn, "recorded_linear", product)
    plain = torch.autograd.grad(mlp.evaluate(network, x).square().sum(), inputs)
    assert not product.called
    for of_weights in (False, True):
        monkeypatch.setattr(
            onednn, "is_faster", lambda of_weights=False, w=of_weights: w or not of_weights
        )
        gradients = torch.autograd.grad(evaluate(network, x).square().sum(), inputs)
        assert_close(gradients, plain, rtol=1e-4, atol=1e-4)
    assert product.call_count == 2 * 3 * math.prod(stack)


def test_gelu_is_the_same_function_whether_or_not_a_gradient_is_recorded():
    x = torch.cat([torch.linspace(-9, 9, 2001), torch.tensor([-1e30, 1e30, 0.0])])
    assert_close(gelu(x), gelu(x.clone().requires_grad_()).detach(), rtol=2e-6, atol=1e-6)
    assert_close(gelu(x), mlp.gelu(x), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("stack", [(1,), (2,)])
def test_a_derivative_is_carried_forwards(stack, recorded, onednn):
    network, (x, along) = (
        stacked(stack, [5, 16, 16, 2], norm=True),
        (normals(*stack, 7, 5, seed=k) for k in (7, 8)),
    )
    with torch.set_grad_enabled(recorded):
        value, slope = torch.func.jvp(lambda at: evaluate(network, at), (x,), (along,))
        expected = torch.func.jvp(
            lambda at: mlp.evaluate(with_activation(network, mlp.gelu), at), (x,), (along,)
        )
    assert_close((value, slope), expected, rtol=1e-4, atol=1e-5)
    assert slope.requires_grad is recorded
    if recorded:
        weights = [layer.weight for layer in network]
        gradients, expected_gradients = (
            torch.autograd.grad(derivative.square().sum(), weights)
            for derivative in (slope, expected[1])
        )
        assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transformed", [False, True], ids=["autograd.grad", "func.grad"])
@pytest.mark.parametrize("library", ["onednn", "mkl"])
@pytest.mark.parametrize("stack", [(1,), (2, 3)])
def test_a_gradient_can_be_differentiated_again(stack, library, transformed, request):
    request.getfixturevalue(library)
    network = stacked(stack, [5, 16, 12, 2], norm=True)
    x = normals(stack[0], *[1] * (len(stack) - 1), 40, 5, seed=7).requires_grad_()

    def of_penalty(layers, evaluate):
        if transformed:
            slope = torch.func.grad(lambda at: evaluate(layers, at).square().sum())(x)
        else:
            (slope,) = torch.autograd.grad(evaluate(layers, x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), parameters(network), allow_unused=True)

    gradients, expected_gradients = (
        of_penalty(network, evaluate),
        of_penalty(with_activation(network, mlp.gelu), mlp.evaluate),
    )
    assert_close(gradients, expected_gradients, rtol=1e-3, atol=1e-3)
    assert expected_gradients[0].abs().max() > 0.1


def test_only_what_wants_a_gradient_gets_one_and_parameters_that_changed_since_are_refused(onednn):
    network, x = stacked((2,), [5, 16, 2]), normals(2, 40, 5, seed=7)
    frozen = [
        layer._replace(weight=layer.weight.detach(), bias=layer.bias.detach()) for layer in network
    ]
    assert not evaluate(frozen, x).requires_grad
    first_layer = [network[0].bias, network[0].weight]
    gradients, expected_gradients = (
        torch.autograd.grad(evaluate(layers, x).square().sum(), first_layer)
        for layers in ([network[0], frozen[1]], network)
    )
    assert_close(gradients, expected_gradients)
    output = evaluate(network, x).sum()
    with torch.no_grad():
        network[1].weight.add_(1)
    with pytest.raises(RuntimeError, match="modified"):
        output.backward()


@pytest.mark.parametrize("library", ["onednn", "mkl"])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("stack", [(1,), (2, 3)])
def test_low_precision_keeps_two_digits(stack, norm, library, request):
    request.getfixturevalue(library)
    network = stacked(stack, [64, 64, 64, 8], norm, torch.bfloat16)
    full = [layer._replace(dtype=None) for layer in network]
    x = normals(stack[0], *[1] * (len(stack) - 1), 64, 64, seed=3).requires_grad_()
    inputs = [x, *parameters(network)]
    output, exact = evaluate(network, x), evaluate(full, x)
    with torch.no_grad():
        unrecorded = evaluate(network, x)
    gradients = torch.autograd.grad(output.square().sum(), inputs)
    exact_gradients = torch.autograd.grad(exact.square().sum(), inputs)
    rounded = [output, unrecorded, *gradients]
    for value, expected in zip(rounded, [exact, exact, *exact_gradients], strict=True):
        assert value.dtype == torch.float32
        assert 0 < (value - expected).norm() / expected.norm() < 0.02
