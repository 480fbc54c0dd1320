"""The networks: initialisation, gradient routing, derivatives."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

from agents.common.nets.mlp import vjp_at_points
from agents.common.nets.networks import (
    CriticEnsemble,
    NoisePredictor,
    Sizes,
    StateValue,
    TanhActor,
    TanhGaussian,
    VelocityField,
)
from agents.core import from_module, tanh_gaussian_sample
from tests.common.toys import filled, normals, seeded


def sizes(replicas, hidden=(8, 8), layer_norm=True):
    return Sizes(
        replicas,
        observations=3,
        actions=2,
        ensemble=4,
        flow_steps=1,
        actor_arch=[*hidden],
        critic_arch=[*hidden],
        actor_layer_norm=layer_norm,
        critic_layer_norm=True,
    )


def test_initial_weights_have_xaviers_bound_and_members_differ():
    network = CriticEnsemble(sizes(1, [512]), 5)
    network.initialise(0, seeded())
    weights = network.mlp.weights[0].detach()
    bound = math.sqrt(6 / (3 + 5 + 512))
    assert bound * 0.998 < float(weights.abs().max()) <= bound
    assert float(weights.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not torch.equal(weights[0, 0], weights[0, 1])


# -- gradient routing -------------------------------------------------------------------------------------------------

NETWORKS = {
    "critic": (partial(CriticEnsemble, width=2), (3, 2)),
    "time critic": (partial(CriticEnsemble, width=2, time=True), (3, 2, 1)),
    "value": (StateValue, (3,)),
    "velocity field": (VelocityField, (3, 2, 1)),
    "squashed Gaussian": (partial(TanhGaussian, given_action=True), (3, 2)),
    "deterministic actor": (TanhActor, (3,)),
    "noise prediction": (NoisePredictor, (3, 2, 1)),
    "ordinary module": (from_module(lambda n: nn.Linear(n.observations, n.actions)).build, (3,)),
}


def called(network, frozen, observations, *inputs):
    if isinstance(network, VelocityField | NoisePredictor):
        return network.at(observations, frozen)(*inputs)
    return network(observations, *inputs, frozen=frozen)


@pytest.mark.parametrize("name", NETWORKS)
def test_frozen_network_passes_gradient_to_its_inputs_only(name):
    build, widths = NETWORKS[name]
    network = filled(build(sizes(2)))
    inputs = [normals(2, 5, width, seed=i).requires_grad_() for i, width in enumerate(widths)]
    outputs, frozen_outputs = (tree_leaves(called(network, f, *inputs)) for f in (False, True))
    assert_close(frozen_outputs, outputs, rtol=0, atol=0)
    expected = torch.autograd.grad(sum(map(torch.sum, outputs)), inputs)
    sum(map(torch.sum, frozen_outputs)).backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    for x, gradient in zip(inputs, expected, strict=True):
        assert_close(x.grad, gradient)


# -- squashed Gaussian ------------------------------------------------------------------------------------------------


def test_saturated_samples_have_density_and_finite_gradient():
    mean = torch.tensor([[40.0, -40.0]], requires_grad=True)
    sample, log_prob = tanh_gaussian_sample(mean, torch.zeros(1, 2), torch.zeros(1, 2))
    assert sample.detach().tolist() == [[1.0, -1.0]]
    log_prob.sum().backward()
    assert log_prob.item() == pytest.approx(160 - math.log(32 * math.pi))
    assert mean.grad.isfinite().all()


# -- derivatives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, F.relu, F.mish])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("is_compiling", [False, True])
def test_pull_back_is_the_transposed_jacobian_at_its_point(
    layer_norm, activation, is_compiling, monkeypatch
):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: is_compiling)
    network = filled(VelocityField(sizes(2, (16, 16), layer_norm)))
    network.mlp.activation = activation
    field = network.at(normals(2, 40, 3))
    states, times = normals(2, 4, 40, 2, seed=5), torch.arange(4).view(-1, 1, 1) / 4
    cotangent = normals(2, 40, 2, seed=6)
    with torch.no_grad():
        product = vjp_at_points(field, states, times)(2, cotangent)
    x = states[:, 2].clone().requires_grad_()
    expected = torch.autograd.grad(field(x, 0.5), x, cotangent)[0]
    assert_close(product, expected, rtol=1e-4, atol=1e-5)
