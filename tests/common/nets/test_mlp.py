"""The plain MLP: activation, normalisation, precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from agents.common.nets.mlp import StackedMLP, gelu
from tests.common.toys import filled, normals


def test_gelu_is_the_tanh_approximation() -> None:
    got = gelu(torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64))
    np.testing.assert_allclose(got, [0.841192, -0.158808, 0.345714], atol=5e-7)


@pytest.mark.parametrize("size", [1.0, 1e-3])  # small first activations show the epsilon
def test_layer_norm_follows_the_activation_with_epsilon_one_millionth(size: float) -> None:
    network, x = filled(StackedMLP((1,), [3, 8, 8, 2], layer_norm=True)), normals(1, 5, 3)
    with torch.no_grad():
        network.weights[0] *= size
        network.biases[0] *= size
    value = {name: parameter[0].detach().double().numpy() for name, parameter in network.named_parameters()}
    hidden = x[0].double().numpy()
    for layer in range(2):
        hidden = hidden @ value[f"weights.{layer}"] + value[f"biases.{layer}"]
        hidden = hidden / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
        centred = hidden - hidden.mean(-1, keepdims=True)
        hidden = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        hidden = hidden * value[f"norm_scales.{layer}"] + value[f"norm_biases.{layer}"]
    expected = hidden @ value["weights.2"] + value["biases.2"]
    np.testing.assert_allclose(network(x)[0].detach(), expected, rtol=1e-4, atol=1e-5)


def test_last_layer_is_plain_unless_it_is_asked_to_be_activated() -> None:
    plain = filled(StackedMLP((1,), [3, 4]))
    active = StackedMLP((1,), [3, 4], activate_final=True)
    active.load_state_dict(plain.state_dict())
    x = normals(1, 6, 3)
    torch.testing.assert_close(plain(x)[0], x[0] @ plain.weights[0][0] + plain.biases[0][0])
    torch.testing.assert_close(active(x), gelu(plain(x)))


def test_lower_precision_leaves_the_output_layer_alone() -> None:
    network = filled(StackedMLP((1,), [3, 4]))
    x = normals(1, 6, 3)
    expected = network(x)
    network.matmul_dtype = torch.bfloat16
    assert torch.equal(network(x), expected)


def test_lower_precision_of_hidden_layers_costs_about_three_digits() -> None:
    network = filled(StackedMLP((1,), [8, 32, 32, 4]))
    x = normals(1, 50, 8)
    with torch.no_grad():
        expected = network(x)
        network.matmul_dtype = torch.bfloat16
        error = float((network(x) - expected).abs().max() / expected.abs().max())
    assert 1e-5 < error < 3e-2
