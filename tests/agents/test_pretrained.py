"""Algorithms on a behaviour flow that was trained elsewhere: the same numbers, saving, resuming and refusals."""

import copy

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from torch import nn

import agents
from agents.common.engine.checkpoint import load_checkpoint, save_checkpoint
from agents.common.nets.networks import Sizes, VelocityField
from tests.common.toys import parameters_of
from tests.parity.checker import compare
from tests.parity.fixture import read_fixture
from tests.parity.reference import OWN_FIXTURES, Agent, OurAgents, find_parameter, our_settings

FLOWS = {"actor_slow": "behaviour", "actor_fast": "fine_tuned"}
"""The reference's flows -> ours."""


class ForeignFlow(nn.Module):
    """A velocity field of one replica that knows nothing of this library's shapes.

    :param reversed_time: whether time 1 is noise, and velocities point there.
    """

    def __init__(self, observations, actions, widths, reversed_time=False):
        super().__init__()
        sizes = Sizes(1, observations, actions, 2, 5, list(widths), list(widths), False, True)
        self.field = VelocityField(sizes)
        self.field.initialise(0, torch.Generator().manual_seed(0))
        self.reversed_time = reversed_time

    def forward(self, observations, x, times):
        t = 1 - times if self.reversed_time else times
        velocity = self.field(observations[None], x[None], t[None, :, None])[0]
        return -velocity if self.reversed_time else velocity


class AgentsOnForeignFlows(OurAgents):
    """Algorithms of this library whose flows are modules of somebody else."""

    def __init__(self, reversed_time):
        super().__init__()
        self.reversed_time = reversed_time

    def create(self, fixture):
        sizes = fixture.sizes
        flow = ForeignFlow(
            sizes["obs"], sizes["A"] * sizes["H"], sizes["hidden"], self.reversed_time
        )
        behaviour = agents.PretrainedFlow(flow, noise_at=float(self.reversed_time), train=True)
        env = gymnasium.make("Pendulum-v1").unwrapped
        env.observation_space = Box(-1, 1, (sizes["obs"],))
        env.action_space = Box(-1, 1, (sizes["A"],))
        options = {"buffer_size": 10, "compile": "off", "seed": 0, "behaviour": behaviour}
        model = agents.get(fixture.id).algorithm(
            "MlpPolicy", env, **our_settings(fixture), **options
        )
        agent = AgentOnForeignFlow(model, fixture)
        with torch.no_grad():
            for path, parameter in agent.parameters():
                parameter.copy_(torch.tensor(fixture.parameters[path]))
            for name, value in agent.multiplier():
                value.copy_(torch.tensor(fixture[f"dual_before/{name}"]))
        return agent

    def gradients(self, agent, batch, noise):
        return as_recorded(agent.fixture, super().gradients(agent, batch, noise))

    def update(self, agent, batch, noise):
        agent, total, parameters = super().update(agent, batch, noise)
        return agent, total, as_recorded(agent.fixture, parameters)


def as_recorded(fixture, tensors):
    """Drop the axis of replicas that our network inside of the module has too."""
    return {
        path: tensor.reshape(fixture.parameters[path].shape) for path, tensor in tensors.items()
    }


class AgentOnForeignFlow(Agent):
    """Finds the parameters of flows inside of the module that holds them."""

    def parameters(self):
        for path in self.fixture.parameters:
            module, _, below = path.partition("/")
            source_name = module.removeprefix("target_")
            name = FLOWS.get(source_name, source_name) + (
                "_target" if module.startswith("target_") else ""
            )
            network = self.model.policy.nets[name]
            is_flow = source_name in FLOWS
            yield path, find_parameter(network.field.module.field if is_flow else network, below)


@pytest.mark.parametrize("name", ["qam", "trqam"])
@pytest.mark.parametrize("reversed_time", [False, True])
def test_a_foreign_flow_gives_the_recorded_numbers(name, reversed_time):
    fixture = read_fixture(OWN_FIXTURES / "open" / f"{name}.npz")
    comparison = compare(fixture, AgentsOnForeignFlows(reversed_time), None)
    assert not [row for row in comparison.rows if not row.holds]
    assert len(comparison.rows) > 20


class SpreadEnv(gymnasium.Env):
    """One step; the reward is higher for larger actions."""

    def __init__(self, observation_space=None):
        self.observation_space = observation_space or Box(-1, 1, (3,))
        self.action_space = Box(-1, 1, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), float(np.sum(action)), True, False, {}


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    rows = 400
    actions = (0.2 * generator.normal(size=(rows, 2))).clip(-1, 1).astype(np.float32)
    observations = generator.uniform(-1, 1, (rows, 3)).astype(np.float32)
    ends = np.ones(rows, np.float32)
    return {
        "observations": observations,
        "next_observations": observations,
        "actions": actions,
        "rewards": actions.sum(1),
        "terminals": ends,
        "masks": 1 - ends,
    }


class GaussianFlow(nn.Module):
    """The exact flow to independent normal actions of standard deviation 0.2, with a scale that can be trained."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))
        self.layer = nn.Linear(3, 2)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, observations, x, times):
        t = times[:, None]
        gain = (t * 0.2**2 - (1 - t)) / (t**2 * 0.2**2 + (1 - t) ** 2)
        return gain * x * self.scale + self.layer(observations)


SMALL = {"net_arch": [16, 16], "batch_size": 32, "horizon_length": 1, "flow_steps": 5, "seed": 0}


def make_model(id="qam", flow=None, env=None, **settings):
    behaviour = agents.PretrainedFlow(GaussianFlow()) if flow is None else flow
    return agents.get(id).algorithm(
        "MlpPolicy", env or SpreadEnv(), behaviour=behaviour, **{**SMALL, **settings}
    )


FINE_TUNING = [
    "qam",
    "qam_f",
    "qam_e",
    "bam",
    "trqam",
    "sqam",
    "cgql",
    "cgql_mse",
    "fedit",
    "ifql",
    "dsrl",
    "fql",
]


@pytest.mark.parametrize("id", FINE_TUNING)
def test_the_pretrained_flow_stays_as_it_is_while_the_rest_is_trained(id, data):
    flow = GaussianFlow()
    model = make_model(id, agents.PretrainedFlow(flow))
    start = copy.deepcopy(model.policy.state_dict())
    model.learn_offline(3, dataset=data)
    end = model.policy.state_dict()
    unchanged = {name for name in start if torch.equal(start[name], end[name])}
    behaviour = {name for name in start if name.startswith("nets.behaviour")}
    assert behaviour <= unchanged
    assert len(start) - len(unchanged) > 5
    assert torch.equal(flow.scale, torch.ones(2))


def test_the_behaviour_goes_on_cloning_where_it_is_to_be_trained(data):
    model = make_model("qam", agents.PretrainedFlow(GaussianFlow(), train=True))
    start = model.policy.nets.behaviour.field.module.scale.clone()
    model.learn_offline(3, dataset=data)
    assert not torch.equal(start, model.policy.nets.behaviour.field.module.scale)


def test_parameters_without_gradient_in_the_module_are_not_trained(data):
    flow = GaussianFlow()
    flow.scale.requires_grad_(False)  # as the base of an adapter
    model = make_model("qam", agents.PretrainedFlow(flow))
    model.learn_offline(3, dataset=data)
    tuned = model.policy.nets.fine_tuned.field.module
    assert torch.equal(tuned.scale, torch.ones(1, 2))
    assert tuned.layer.bias.any()


def test_several_replicas_begin_with_the_same_weights(data):
    model = make_model("qam", seed=None, seeds=[0, 1])
    model.learn_offline(3, dataset=data)
    weight = model.policy.nets.fine_tuned.field.module.layer.weight
    assert weight.shape == (2, 2, 3)
    assert not torch.equal(weight[0], weight[1])
    assert torch.equal(
        model.replica(1).policy.nets.fine_tuned.field.module.layer.weight[0], weight[1]
    )


def test_a_saved_model_is_loaded_with_the_flow_and_without_running_code(data, tmp_path, recwarn):
    model = make_model("trqam")
    model.learn_offline(3, dataset=data)
    model.save(tmp_path / "model")
    assert not [warning for warning in recwarn if "left out" in str(warning.message)]
    with pytest.raises(ValueError, match="behaviour"):
        agents.TRQAM.load(tmp_path / "model")
    loaded = agents.TRQAM.load(tmp_path / "model", behaviour=agents.PretrainedFlow(GaussianFlow()))
    for name, value in parameters_of(model).items():
        assert torch.equal(value, parameters_of(loaded)[name])
    observation = np.zeros(3, np.float32)
    assert np.array_equal(
        model.predict(observation, deterministic=True)[0],
        loaded.predict(observation, deterministic=True)[0],
    )
    with pytest.raises(ValueError, match="holds networks of this library alone"):
        model.save_policy(tmp_path / "policy.safetensors")


def test_training_goes_on_to_the_bit_after_loading(data, tmp_path):
    straight, first = make_model("qam"), make_model("qam")
    straight.learn_offline(6, dataset=data)
    first.learn_offline(3, dataset=data)
    checkpoint = save_checkpoint(first, tmp_path)
    second = make_model("qam")
    second.load_dataset(data)
    load_checkpoint(second, checkpoint)
    second.learn_offline(3, reset_num_timesteps=False)
    for name, value in parameters_of(straight).items():
        assert torch.equal(value, parameters_of(second)[name])


def test_a_dict_reaches_the_module_as_the_environment_gives_it(data):
    kinds = []

    def call(module, observations, x, times):
        kinds.append({name: tuple(part.shape) for name, part in observations.items()})
        return module(torch.cat([observations["arm"], observations["hand"]], -1), x, times)

    space = Dict({"arm": Box(-1, 1, (2,)), "hand": Box(-1, 1, (1,))})
    model = agents.QAM(
        "MultiInputPolicy",
        SpreadEnv(space),
        behaviour=agents.PretrainedFlow(GaussianFlow(), call),
        **SMALL,
    )
    model.learn_offline(1, dataset=data)
    assert kinds[-1].keys() == {"arm", "hand"}
    assert kinds[-1]["arm"][1:] == (2,)


class Two(GaussianFlow):
    def forward(self, observations, x, times):
        return (super().forward(observations, x, times),) * 2


class Random(GaussianFlow):
    def forward(self, observations, x, times):
        return super().forward(observations, x, times) + torch.randn_like(x)


class WithDropout(GaussianFlow):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.1)


class WithoutGradient(GaussianFlow):
    def forward(self, observations, x, times):
        return super().forward(observations, x.detach(), times)


class Wider(GaussianFlow):
    def forward(self, observations, x, times):
        return torch.cat([super().forward(observations, x, times)] * 2, -1)


class Infinite(GaussianFlow):
    def forward(self, observations, x, times):
        return super().forward(observations, x, times) / 0


class Broken(GaussianFlow):
    def forward(self, observations, x, times):
        return self.layer(torch.zeros(2, 7)) + x


@pytest.mark.parametrize(
    ("module", "error", "text"),
    [
        (Two, TypeError, "must return one tensor, got tuple"),
        (Random, ValueError, "function of its inputs, got other numbers at a second call"),
        (WithDropout, TypeError, "function of its inputs, got Dropout"),
        (WithoutGradient, ValueError, "must pass gradients to x"),
        (Wider, ValueError, "must return the shape of x"),
        (Infinite, ValueError, "must return finite numbers"),
        (Broken, ValueError, "`behaviour` failed at x of shape"),
    ],
)
def test_a_module_that_is_no_flow_is_refused_before_training(module, error, text):
    with pytest.raises(error, match=text):
        make_model("qam", agents.PretrainedFlow(module()))


TWO_ACTIONS = agents.PretrainedFlow(GaussianFlow(), action_shape=(2, 2))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"pretraining_steps": 5}, "takes the place of `pretraining_steps`"),
        ({"observation_scale": 1.0}, "as the environment returns them"),
        ({"horizon_length": 3, "flow": TWO_ACTIONS}, "`horizon_length` = 2"),
        ({"id": "rebrac"}, "has no behaviour flow"),
        ({"id": "fbrac"}, "has one flow, which it trains"),
    ],
)
def test_settings_that_contradict_a_pretrained_flow_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        make_model(**settings)


def test_a_flow_whose_time_runs_the_other_way_is_refused_with_the_dataset(data):
    model = make_model("qam", agents.PretrainedFlow(GaussianFlow(), noise_at=1.0))
    with pytest.raises(ValueError, match="is `noise_at` right"):
        model.load_dataset(data)


def test_the_actions_of_a_fine_tuned_flow_have_a_higher_value(data):
    model = make_model("qam", learning_rate=3e-3, inverse_temperature=3.0, max_grad_norm=None)
    observation = np.zeros((200, 3), np.float32)
    cloned = model.predict(observation)[0].sum(1).mean()
    model.learn_offline(200, dataset=data)
    assert model.predict(observation)[0].sum(1).mean() > cloned + 0.1
