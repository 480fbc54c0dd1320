"""Custom networks are trained as in plain PyTorch, and ordinary modules as if each seed were trained alone."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import agents
from agents.common.nets.mlp import fill_uniform, maybe_detach
from agents.common.nets.networks import ObservingNetwork, Sizes
from agents.common.nets.specs import NetworkSpec
from agents.core import from_module
from agents.testing.kit import CHECKS, run_checks
from tests import code_blocks
from tests.common.toys import refuses, seeded, tiny_model, toy_batch

SIZES = Sizes(2, 4, 3, 2, 5, [8], [8], False, False)


class Actor(ObservingNetwork):
    """Two layers, actions in (-1, 1); weights are (S, out, in)."""

    def __init__(self, replicas, observations, actions, width):
        super().__init__()
        self.first = nn.Parameter(torch.zeros(replicas, width, observations))
        self.last = nn.Parameter(torch.zeros(replicas, actions, width))

    def initialise(self, replica, generator):  # initialised as in a run of that seed alone
        for weight in (self.first, self.last):
            fill_uniform(weight, replica, weight.shape[-1] ** -0.5, generator)

    # (S, B, O) -> (S, B, D); `nets.frozen` calls it with frozen=True
    def forward(self, observations, frozen=False):
        first, last = maybe_detach(self.first, frozen), maybe_detach(self.last, frozen)
        hidden = torch.tanh(self.features(observations, frozen) @ first.mT)
        return torch.tanh(hidden @ last.mT)


class Imitation(agents.Method):
    """Regress to the batch's actions with a single network."""

    def noise(self):
        return {}

    action_noise_table = noise

    def act(self, observations, noise, nets):
        return nets.actor(observations)

    def targets(self, *inputs):
        return {}

    def losses(self, batch, targets, noise, nets, info):
        error = (nets.actor(batch.observations) - batch.actions).square().mean(2)
        return {"error": (error * batch.valid).mean(1)}


def with_actor(actor, **networks):
    """Return the algorithm with its actor and, if given, other networks."""
    return type("Mine", (Imitation,), {"networks": lambda self: {"actor": actor, **networks}})


# -- custom layers ----------------------------------------------------------------------------------------------------


class Transposed(Actor):
    """Stores its weights transposed, so that they are not contiguous."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        for name in ("first", "last"):
            weight = getattr(self, name)
            setattr(self, name, nn.Parameter(weight.detach().mT.contiguous().mT))


@pytest.mark.parametrize("network", [Actor, Transposed])
@pytest.mark.parametrize("settings", [{}, {"max_grad_norm": 1e3}, {"seeds": [0, 1]}], ids=str)
@pytest.mark.few(6)
@pytest.mark.parametrize("compile", ["off", "on"])
def test_a_network_with_other_strides_learns_as_in_plain_pytorch(network, settings, compile):
    spec = NetworkSpec(lambda n: network(n.replicas, n.observations, n.actions, 64))
    model = tiny_model(with_actor(spec), learning_rate=3e-3, compile=compile, **settings)
    batch = toy_batch(model)
    actions = batch.observations.repeat(1, 1, 3)[..., : batch.actions.shape[-1]].tanh()
    batch = replace(batch, actions=actions)
    plain = copy.deepcopy(model.policy.nets)
    optimizer = torch.optim.Adam(plain.parameters(), 3e-3, foreach=False, fused=False)
    for _ in range(150):
        loss = model.trainer.update_on(batch, {})["error_loss"]
        optimizer.zero_grad()
        expected = model.method.losses(batch, {}, {}, plain, {})["error"]
        expected.sum().backward()
        optimizer.step()
    assert_close(loss, expected.detach(), rtol=0.01, atol=1e-6)
    assert expected.max() < 0.02


# -- ordinary modules -------------------------------------------------------------------------------------------------

SLOW = {"phases", "values", "actions", "compiled"}
QUICK = {*CHECKS} - SLOW


@pytest.fixture
def method(write_agent):
    """Return the page's agent, written to a file because the compiler needs one."""
    (code,) = code_blocks("docs/register.md", "py\n# my_plain_agent.py")
    write_agent(code)
    return agents.get("an_agent:PlainTD3").method


@pytest.mark.few(1)
@pytest.mark.parametrize("skip", [SLOW, QUICK - {"hooks"}], ids=["quick", "slow"])
def test_the_pages_agent_keeps_the_contract(method, skip):
    outcomes = [*run_checks(method, skip=skip)]
    for outcome in outcomes:
        expected = {"holds", "skipped"}
        if outcome.check == "bf16":
            expected = {"does not apply", "skipped"}
        assert outcome.state in expected, outcomes


class Tied(nn.Module):
    """Two layers that share a weight, a submodule with two names, and a constant."""

    def __init__(self, observations, actions):
        super().__init__()
        self.into = nn.Linear(observations, 8)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.out = nn.Linear(8, actions)
        self.last = nn.Sequential(self.out, nn.Tanh())
        self.register_buffer("phase", torch.rand(8))

    def forward(self, observations, x=None, t=None):
        inputs = observations if x is None else observations + x.sum(-1, keepdim=True) * t
        hidden = torch.sin(self.into(inputs) + self.phase)
        return self.last(self.second(torch.relu(self.first(hidden))))


def tied_network(*seeds):
    """Return a network with one module per replica, each initialised with its seed."""
    network = from_module(lambda n: Tied(n.observations, n.actions), target=True).build(SIZES)
    for replica, seed in enumerate(seeds):
        network.initialise(replica, seeded(seed))
    return network


def alone(network, replica):
    """Return a copy of one replica's module."""
    module = Tied(SIZES.observations, SIZES.actions)
    state = network.module.state_dict()
    module.load_state_dict({name: value[replica] for name, value in state.items()})
    return module


def test_each_seeds_module_has_its_own_weights_and_rows():
    network = tied_network(5, 6)
    swapped = tied_network(6, 5).state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(swapped[name], value.flip(0))
        assert not torch.equal(value[0], value[1]), name
    assert network.module.second.weight is network.module.first.weight
    observations = torch.randn(2, 7, 4)
    x = torch.randn(2, 7, 3)
    outputs = network(observations)
    times = torch.full((2, 7, 1), 0.25)
    for k in range(2):
        module = alone(network, k)
        assert_close(outputs[k], module(observations[k]))
        expected = module(observations[k], x[k], times[k])
        for t in (0.25, times):
            assert_close(network.at(observations)(x, t)[k], expected)


class Holding(nn.Linear):
    """Has a tensor that PyTorch would not save."""

    def __init__(self):
        super().__init__(4, 3)
        self.scale = torch.ones(4)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (nn.Sequential(nn.BatchNorm1d(3)), "got BatchNorm1d: leave out batch statistics"),
        (nn.Sequential(nn.Dropout(), nn.Linear(4, 3)), "got Dropout"),
        (nn.Sequential(nn.LSTM(4, 3)), "got LSTM"),
        (Holding(), "`scale` of Holding would not be saved; give it to `register_buffer`"),
        (nn.Sequential(nn.Linear(4, 3)), "must make a new module at every call"),
    ],
)
def test_modules_that_cannot_stand_for_several_are_refused(module, text):
    with refuses(text, TypeError):
        from_module(lambda sizes: module).build(SIZES).initialise(0, torch.Generator())
