"""The plain MLP: activation, normalisation, precision."""

from __future__ import annotations

import torch

from agents.common.nets.mlp import StackedMLP, gelu
from tests.common.toys import filled, normals


def test_last_layer_is_plain_unless_it_is_asked_to_be_activated() -> None:
    plain = filled(StackedMLP((1,), [3, 4]))
    active = StackedMLP((1,), [3, 4], activate_final=True)
    active.load_state_dict(plain.state_dict())
    x = normals(1, 6, 3)
    torch.testing.assert_close(plain(x)[0], x[0] @ plain.weights[0][0] + plain.biases[0][0])
    torch.testing.assert_close(active(x), gelu(plain(x)))


def test_lower_precision_of_hidden_layers_costs_about_three_digits_and_leaves_the_output_layer_alone() -> None:
    network, output, x = filled(StackedMLP((1,), [8, 32, 32, 4])), filled(StackedMLP((1,), [8, 4])), normals(1, 50, 8)
    expected, output.matmul_dtype = output(x), torch.bfloat16
    assert torch.equal(output(x), expected)
    with torch.no_grad():
        expected = network(x)
        network.matmul_dtype = torch.bfloat16
        error = float((network(x) - expected).abs().max() / expected.abs().max())
    assert 1e-5 < error < 3e-2
