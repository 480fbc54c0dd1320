"""Ordinary modules are trained as if each seed were trained alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import agents
from agents.common.nets.networks import Sizes
from agents.core import from_module
from agents.testing.kit import CHECKS, run_checks
from tests import code_blocks
from tests.common.toys import refuses, seeded

SIZES = Sizes(2, 4, 3, 2, 5, [8], [8], False, False)
SLOW = {"phases", "values", "actions", "compiled"}
QUICK = {*CHECKS} - SLOW


@pytest.mark.few(1)
@pytest.mark.parametrize("skip", [SLOW, QUICK - {"hooks"}], ids=["quick", "slow"])
def test_the_pages_agent_keeps_the_contract(write_agent, skip):
    (code,) = code_blocks("docs/register.md", "py\n# my_plain_agent.py")
    write_agent(code)
    outcomes = [*run_checks(agents.get("an_agent:PlainTD3").method, skip=skip)]
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
