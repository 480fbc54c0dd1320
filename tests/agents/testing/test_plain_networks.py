"""Ordinary modules as networks: the page's agent keeps the contract, and each seed's modules learn as they do alone."""

import warnings

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import agents
from agents.common.nets.networks import Networks
from agents.common.nets.specs import Sizes
from agents.common.sb3.first_update import AgentError, check_first_update
from agents.core import critic, from_module, tanh_actor, temperature
from agents.testing.habits import find_habits
from agents.testing.kit import CHECKS, run_checks
from tests import code_blocks
from tests.agents.testing.helpers import Imitation
from tests.common.toys import SPACES, tiny_model

SIZES = Sizes(2, 4, 3, 2, 5, [8], [8], False, False)
SLOW = ["phases", "values", "actions", "compiled"]
QUICK = [check.name for check in CHECKS if check.name not in SLOW]


@pytest.fixture
def method(write_agent):
    """Return the page's agent, from a file, as the compiler needs it."""
    (code,) = code_blocks("docs/register.md", "py\n# my_plain_agent.py")
    write_agent(code)
    return agents.get("an_agent:PlainTD3").method


@pytest.mark.few(1)
@pytest.mark.parametrize("checks", [QUICK, SLOW], ids=["quick", "slow"])
def test_the_pages_agent_keeps_the_contract(method, checks):
    skipped = [check.name for check in CHECKS if check.name not in ("hooks", *checks)]
    results = {
        outcome.check.name: outcome
        for outcome in run_checks(method, skip=skipped)
        if outcome.state != "skipped"
    }
    assert set(results) == {"hooks", *checks}
    exceptions = {
        name: outcome.state for name, outcome in results.items() if outcome.state != "holds"
    }
    assert exceptions == {name: "does not apply" for name in ("bf16",) if name in checks}, results


class Holding(nn.Linear):
    """Has a tensor that PyTorch would not save."""

    def __init__(self):
        super().__init__(4, 3)
        self.scale = torch.ones(4)


class Tied(nn.Module):
    """Two layers of one weight, a part that has two names, and a constant."""

    def __init__(self, observations, actions):
        super().__init__()
        self.into, self.through, self.again = (
            nn.Linear(observations, 8),
            nn.Linear(8, 8),
            nn.Linear(8, 8),
        )
        self.again.weight = self.through.weight
        self.out = nn.Linear(8, actions)
        self.last = nn.Sequential(self.out, nn.Tanh())
        self.register_buffer("phase", torch.rand(8))

    def forward(self, observations, x=None, t=None):
        inputs = observations if x is None else observations + x.sum(-1, keepdim=True) * t
        hidden = torch.sin(self.into(inputs) + self.phase)
        return self.last(self.again(torch.relu(self.through(hidden))))


def make(sizes):
    return Tied(sizes.observations, sizes.actions)


def alone(network, replica):
    """Return a replica's module by itself."""
    state = network.module.state_dict()
    module = Tied(state["into.weight"].shape[-1], state["out.weight"].shape[-2])
    module.load_state_dict({name: value[replica] for name, value in state.items()})
    return module


def test_each_seeds_module_draws_its_own_weights_and_sees_its_own_rows():
    network = from_module(make).build(SIZES)
    for replica, seed in enumerate((5, 6)):
        network.initialise(replica, torch.Generator().manual_seed(seed))
    old_state = torch.get_rng_state()
    second_network = from_module(make).build(SIZES)
    for replica, seed in enumerate((6, 5)):
        second_network.initialise(replica, torch.Generator().manual_seed(seed))
    assert not torch.equal(
        torch.get_rng_state(), old_state
    )  # building draws, where a policy forks the generator
    for name, value in network.state_dict().items():
        assert_close(second_network.state_dict()[name], value.flip(0), rtol=0, atol=0)
        assert not torch.equal(value[0], value[1]), name
    assert network.module.again.weight is network.module.through.weight
    observations, x = torch.randn(2, 7, 4), torch.randn(2, 7, 3)
    outputs = network(observations)
    for k in range(2):
        assert_close(outputs[k], alone(network, k)(observations[k]))
    for t in (0.25, torch.full((2, 7, 1), 0.25)):
        expected = [
            alone(network, k)(observations[k], x[k], torch.full((7, 1), 0.25)) for k in range(2)
        ]
        assert_close(network.at(observations)(x, t), torch.stack(expected))


def test_gradient_goes_through_the_inputs_of_a_frozen_module_only():
    network = from_module(make, target=True).build(SIZES)
    network.initialise(0, torch.Generator().manual_seed(5))
    observations = torch.randn(2, 7, 4, requires_grad=True)
    Networks({"actor": network}).frozen.actor(observations)[0].sum().backward()
    assert observations.grad[0].abs().min() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (nn.Sequential(nn.BatchNorm1d(3)), "got BatchNorm1d: leave out statistics of batches"),
        (nn.BatchNorm1d(3, track_running_stats=False), "got BatchNorm1d"),
        (nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)), "got _SpectralNorm"),
        (nn.Sequential(nn.Dropout(), nn.Linear(4, 3)), "got Dropout"),
        (nn.LazyLinear(3), "got LazyLinear"),
        (nn.Sequential(nn.LSTM(4, 3)), "got LSTM"),
        (Holding(), "`scale` of Holding would not be saved; give it to `register_buffer`"),
        (lambda rows: rows, "must return a torch.nn.Module, got function"),
    ],
)
def test_modules_that_cannot_stand_for_several_are_refused_with_the_reason(made, text):
    with pytest.raises(TypeError, match=text):
        from_module(lambda sizes: made).build(SIZES)


def test_a_module_that_is_made_once_cannot_stand_for_several():
    module = nn.Linear(4, 3)
    with pytest.raises(TypeError, match="must make a new module at every call"):
        from_module(lambda sizes: nn.Sequential(module)).build(SIZES).initialise(
            0, torch.Generator()
        )


def learnt_alike(network):
    method = type("Mine", (Imitation,), {"networks": lambda self: {"actor": from_module(network)}})
    findings = find_habits(method(), *SPACES)
    return [
        finding.kind for finding in findings if finding.kind != "settings"
    ]  # nothing asks for the network of `Imitation`


def test_what_a_module_does_in_training_alone_is_found():
    class Gathering(Tied):
        def forward(self, observations):
            if self.training:
                self.phase.mul_(0.5)
            return super().forward(observations)

    class Forgetting(Tied):
        def forward(self, observations):
            if self.training:
                self.phase = self.phase * 0.5
            return super().forward(observations)

    assert learnt_alike(lambda n: Gathering(n.observations, n.actions)) == ["purity"]
    with pytest.raises(
        AgentError, match=r"got one that assigns `phase`.* change it in the hook `after_update`"
    ):
        learnt_alike(lambda n: Forgetting(n.observations, n.actions))


def test_a_policy_of_plain_modules_is_loaded(method, tmp_path):
    model = tiny_model(method)
    model.save_policy(tmp_path / "policy.safetensors")
    observations, loaded = (
        torch.ones(1, 4).numpy(),
        agents.load_policy(tmp_path / "policy.safetensors"),
    )
    assert (loaded.predict(observations)[0] == model.predict(observations)[0]).all()


def test_constants_that_a_module_would_not_save_are_saved():
    module = nn.Linear(4, 3)
    module.register_buffer("phase", torch.rand(4), persistent=False)
    network = from_module(lambda sizes: module).build(SIZES)
    assert network.state_dict()["module.phase"].shape == (2, 4)


# -- settings that do not act on layers of one's own ------------------------------------------------------------------


def with_actor(actor, **networks):
    """Return an algorithm of one network, and others beside it."""
    return type("Mine", (Imitation,), {"networks": lambda self: {"actor": actor, **networks}})


def linear(width, **declared):
    """Return a network of ordinary modules with one hidden layer of a width that may follow from sizes."""

    def made(n):
        return nn.Sequential(
            nn.Linear(n.observations, width(n)), nn.Tanh(), nn.Linear(width(n), n.actions)
        )

    return from_module(made, **declared)


FIXED, FOLLOWING = linear(lambda n: 24), linear(lambda n: n.actor_arch[0], follows_net_arch=True)


def warnings_of(method, **settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_first_update(method(**settings), *SPACES)
    return [str(warning.message) for warning in caught]


def test_a_width_and_a_precision_that_do_not_act_are_told_at_the_start():
    widths, precision = warnings_of(with_actor(FIXED), net_arch=[16, 16], precision="bf16")
    assert widths.startswith(
        "Mine: `net_arch` = [16, 16] does not act on networks `actor`, which have layers of their"
    )
    assert "`n.actor_arch`" in widths
    assert precision.startswith("Mine: `precision` = bf16 does not act on network `actor`")


@pytest.mark.parametrize(
    ("actor", "settings"),
    [(FIXED, {}), (FOLLOWING, {"net_arch": [16, 16]}), (tanh_actor(), {"net_arch": [16]})],
)
def test_nothing_is_told_where_no_width_is_given_or_networks_follow_it(actor, settings):
    assert warnings_of(with_actor(actor), **settings) == []


@pytest.mark.parametrize(
    ("networks", "text"),
    [
        ((FIXED, {}), "own"),
        ((FIXED, {"critic": critic(target=False)}), "own actor"),
        ((FIXED, {"heat": temperature()}), "own"),  # which has no layers
        ((FOLLOWING, {}), ""),
    ],
)
def test_a_protocol_calls_layers_own_that_do_not_follow_the_setting(networks, text):
    actor, more = networks
    model = tiny_model(with_actor(actor, **more))
    assert model.policy.own_widths == text
