"""Algorithms with an externally trained behaviour flow: equal numbers, saving, resuming and rejected flows."""

import functools

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import agents
from agents.common.nets.specs import find_behaviour
from tests.common.closed_forms import Gaussian
from tests.common.toys import (
    act,
    assert_same_parameters,
    parameters_of,
    refuses,
    step,
    tiny_model,
    toy_dataset,
)
from tests.envs import SpacesEnv, space_env_of


@pytest.mark.parametrize(("id", "reversed_time"), [("qam", False), ("trqam", True)])
def test_a_foreign_flow_trains_as_one_of_this_library(id, reversed_time):
    ours = tiny_model(id)
    nets = ours.policy.nets

    def call(module, observations, x, times):
        """Call it for one replica; if time is reversed, noise is at 1, and velocities point towards noise."""
        t = 1 - times if reversed_time else times
        velocity = module.at(observations[None])(x[None], t[None, :, None])[0]
        return -velocity if reversed_time else velocity

    noise_at = float(reversed_time)
    flow = agents.PretrainedFlow(nets.behaviour, call, noise_at=noise_at, train=True)
    foreign = tiny_model(id, behaviour=flow)
    # compare the copies of a pretrained flow, and the critics
    for name in ("fine_tuned", "behaviour_target"):
        nets[name].load_state_dict(nets.behaviour.state_dict())
    for name in ("critic", "critic_target"):
        foreign.policy.nets[name].load_state_dict(nets[name].state_dict())
    for seed in range(3):
        assert_close(step(foreign, seed), step(ours, seed), rtol=1e-4, atol=1e-5)


# -- training ---------------------------------------------------------------------------------------------------------


class GaussianFlow(nn.Module):
    """The exact flow to independent normal actions with standard deviation 0.2, plus trainable parameters."""

    def __init__(self):
        super().__init__()
        self.normal = Gaussian(0.0, 0.2)
        self.scale = nn.Parameter(torch.ones(2))
        self.layer = nn.Linear(3, 2)
        for parameter in self.layer.parameters():
            nn.init.zeros_(parameter)

    def forward(self, observations, x, times):
        return self.normal(x, times[:, None]) * self.scale + self.layer(observations)


@pytest.fixture(scope="module")
def data():
    """Return single-step episodes with higher rewards for larger actions."""
    actions = (0.2 * np.random.default_rng(0).normal(size=(400, 2))).clip(-1, 1).astype(np.float32)
    dataset = toy_dataset(400, observations=3, length=1)
    return {**dataset, "actions": actions, "rewards": actions.sum(1), "masks": np.zeros(400)}


def make_model(id="qam", flow=None, **settings):
    flow = flow or agents.PretrainedFlow(GaussianFlow())
    small = {"horizon_length": 1, "flow_steps": 5, "batch_size": 32}
    return tiny_model(id, SpacesEnv(3, 2), behaviour=flow, **{**small, **settings})


def module_of(model, network):
    return model.policy.nets[network].field.module


@pytest.mark.parametrize("id", ["qam", "bam", "cgql", "fedit", "ifql", "dsrl", "fql"])
def test_a_frozen_flow_stays_while_the_rest_is_trained(id, data):
    flow = GaussianFlow().requires_grad_(id != "fql")  # FQL trains no copy of the flow
    model = make_model(id, agents.PretrainedFlow(flow))
    start = parameters_of(model)
    end = parameters_of(model.learn_offline(3, dataset=data))
    changed = [name for name in start if not torch.equal(start[name], end[name])]
    assert "nets.behaviour" not in " ".join(changed)
    assert len(changed) > 5
    assert torch.equal(flow.scale, torch.ones(2))


class Untrained(nn.Module):
    """A transformer over the actions of a chunk, preceded by a token for observation and time."""

    def __init__(self):
        super().__init__()
        self.into, self.context, self.out = nn.Linear(2, 8), nn.Linear(4, 8), nn.Linear(8, 2)
        self.layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        nn.init.zeros_(self.out.weight)

    def forward(self, observations, x, times):
        assert (observations.ndim, x.ndim, times.ndim) == (2, 3, 1)
        context = self.context(torch.cat([observations, times[:, None]], -1)).unsqueeze(1)
        return self.out(self.layer(torch.cat([context, self.into(x)], 1))[:, 1:])


CLONING = [
    id for id in agents.algorithm_ids() if find_behaviour(agents.get(id).method().networks())
]


@pytest.mark.few
@pytest.mark.parametrize("id", CLONING)
@pytest.mark.parametrize("settings", [{"pretraining_steps": 2}, {"seeds": [0, 1]}], ids=str)
def test_an_untrained_transformer_trains_offline_and_online(id, settings, recwarn):
    env = DummyVecEnv([lambda: SpacesEnv(3, 2)] * len(settings.get("seeds", [0])))
    flow = agents.PretrainedFlow(Untrained(), train=True, action_shape=(3, 2))
    model = tiny_model(id, env, behaviour=flow, learning_starts=2, batch_size=8, **settings)
    weight = module_of(model, find_behaviour(model.method.networks())).context.weight
    weights = [weight.detach().clone()]
    model.learn_offline(3, dataset=toy_dataset(60, 3, 2))
    weights.append(weight.detach().clone())
    model.learn(12, reset_num_timesteps=False)
    assert not torch.equal(*weights)
    assert not torch.equal(weights[1], weight)
    # all seeds start with the same weights, and are trained separately
    assert torch.equal(weights[0][0], weights[0][-1])
    assert len(weight) == 1 or not torch.equal(*weight)
    # an operation that is not vectorised over seeds would be called once per seed
    assert "batching rule" not in " ".join(str(warning.message) for warning in recwarn)


def test_parameters_without_gradient_in_module_are_not_trained(data):
    flow = GaussianFlow()
    flow.scale.requires_grad_(False)  # as if it were the frozen base of an adapter
    model = make_model(flow=agents.PretrainedFlow(flow)).learn_offline(3, dataset=data)
    weights, tuned = model.get_parameters()["policy"], "nets.fine_tuned.module.module."
    assert torch.equal(weights[tuned + "scale"], torch.ones(1, 2))
    assert weights[tuned + "layer.bias"].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_16_bits_are_trained_and_averaged_in_32(dtype, data):
    module = GaussianFlow().to(dtype)
    dtypes = set()

    def call(module, observations, x, times):
        dtypes.add((module.scale.dtype, x.dtype))
        return module(observations.to(dtype), x, times)

    model = make_model(flow=agents.PretrainedFlow(module, call, train=True), learning_rate=1e-3)
    model.learn_offline(20, dataset=data)
    assert dtypes == {(dtype, dtype)}
    moved = module_of(model, "fine_tuned").scale - 1
    assert 0 < moved.abs().max() < 0.021
    averaged = module_of(model, "behaviour_target").scale - 1
    assert 0 < averaged.abs().max() < 0.01


def test_updates_are_compiled(data, monkeypatch):
    # trace the losses, which takes seconds, but do not compile them to machine code
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    model = make_model(compile="on", flow_steps=2).learn_offline(2, dataset=data)
    torch._dynamo.reset()
    assert model.trainer.mode.compiled


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_saved_model_is_loaded_with_the_flow_and_runs_no_code(data, tmp_path, recwarn):
    model = make_model("trqam").learn_offline(3, dataset=data)
    model.save(tmp_path / "model")
    assert not [warning for warning in recwarn if "left out" in str(warning.message)]
    reversed_flow = agents.PretrainedFlow(GaussianFlow(), noise_at=1.0)
    for flow, text in [
        (reversed_flow, "which has `noise_at` = 0.0, got 1.0"),
        (agents.PretrainedFlow(GaussianFlow(), train=True), "which has `train` = False"),
        (None, "lacks `behaviour`"),
    ]:
        with refuses(text):
            agents.TRQAM.load(tmp_path / "model", behaviour=flow)
    loaded = agents.TRQAM.load(tmp_path / "model", behaviour=agents.PretrainedFlow(GaussianFlow()))
    assert_same_parameters(model, loaded)
    trained = make_model(flow=agents.PretrainedFlow(GaussianFlow(), train=True))
    trained.load_pretrained_actor(tmp_path / "model")  # whose flow was frozen
    assert np.array_equal(act(loaded, np.zeros(3)), act(model, np.zeros(3)))
    with refuses("cannot be saved alone"):
        model.save_policy(tmp_path / "policy.safetensors")


def test_a_pair_of_conventions_is_loaded_as_it_was(tmp_path):
    flow = agents.PretrainedFlow(Untrained(), action_shape=(3, 2))
    model = tiny_model(env=SpacesEnv(3, 2), behaviour=flow)
    model.save(tmp_path / "model")
    assert_same_parameters(model, agents.load(tmp_path / "model", device="cpu", behaviour=flow))


# -- inputs of the user's module, and modules that are rejected -------------------------------------------------------


def test_a_dict_reaches_the_module_as_the_environment_gives_it(data):
    def call(module, observations, x, times):
        return module(torch.cat([observations["arm"], observations["hand"]], -1), x, times)

    env = space_env_of(Dict({"arm": Box(-1, 1, (2,)), "hand": Box(-1, 1, (1,))}))
    flow = agents.PretrainedFlow(GaussianFlow(), call)
    model = tiny_model(env=env, policy="MultiInputPolicy", horizon_length=1, behaviour=flow)
    model.load_dataset(data)
    model.trainer.update(16)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda flow, s, x, t: (flow(s, x, t),) * 2, "one tensor, got tuple"),
        (lambda flow, s, x, t: flow(s, x, t) + torch.randn_like(x), "at a second call"),
        (lambda flow, s, x, t: flow(s, x.detach(), t), "must pass gradients to x"),
        (lambda flow, s, x, t: flow(s.data.clamp_(-1, 1), x, t), "change observations in place"),
        (lambda flow, s, x, t: flow(s, x, t) - x.mean(0), "must treat each row separately"),
        (lambda flow, s, x, t: flow(s, x, t).squeeze(0), "to the shape of x"),  # of a single row
        (lambda flow, s, x, t: flow(s, x, t) / 0, "got NaN or infinity at time 0.5"),
        (lambda flow, s, x, t: GaussianFlow()(s, x, t), "use the module passed to `call`"),
        (
            lambda flow, s, x, t: checkpoint(flow, s, x, t, use_reentrant=False),
            r"map x of shape \(64, 2\).* or pass `action_shape=\(1, 2\)` .*gradient checkpointing",
        ),
    ],
)
def test_what_is_no_flow_is_refused_before_training(call, text):
    with refuses(text):
        make_model(flow=agents.PretrainedFlow(GaussianFlow(), call))


class Rotary(nn.Module):
    """A module whose constant has two names, and is not saved under the first, as in Llama's and Gemma's layers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("inv_freq", torch.rand(3), persistent=False)
        self.original_inv_freq = self.inv_freq

    def forward(self, observations):
        return torch.sin(observations * self.original_inv_freq)


class WithPart(GaussianFlow):
    """A flow that encodes observations with a submodule, and is in training mode."""

    def __init__(self, part):
        super().__init__()
        self.part = part
        self.train()

    def forward(self, observations, x, times):
        return super().forward(self.part(observations), x, times)


@pytest.mark.parametrize("part", [nn.BatchNorm1d(3), nn.Dropout(0.5), Rotary()], ids=repr)
@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_statistics_dropout_and_second_names_are_taken(part, seeds, data):
    model = make_model(flow=agents.PretrainedFlow(WithPart(part), train=True), seeds=seeds)
    buffers = [buffer.clone() for buffer in model.policy.nets.behaviour.buffers()]
    model.learn_offline(2, dataset=data)
    assert all(map(torch.equal, model.policy.nets.behaviour.buffers(), buffers))


def test_a_flow_is_called_with_observations_of_the_space():
    env = space_env_of(Box(0.5, 1, (3,)))
    flow = agents.PretrainedFlow(GaussianFlow(), lambda flow, s, x, t: flow(1 / s + s.log(), x, t))
    tiny_model(env=env, horizon_length=1, behaviour=flow)


def test_normalised_observations_are_refused(data):
    env = VecNormalize(DummyVecEnv([lambda: SpacesEnv(3, 2)]), norm_reward=False)
    with refuses("and a VecNormalize"):
        tiny_model(env=env, horizon_length=1, behaviour=agents.PretrainedFlow(GaussianFlow()))
    model = make_model()
    model.set_env(env)
    with refuses("and a VecNormalize"):
        model.load_dataset(data)
    env.norm_obs = False
    model.load_dataset(data)


TWO_ACTIONS = agents.PretrainedFlow(GaussianFlow(), action_shape=(2, 2))
FROZEN = agents.PretrainedFlow(GaussianFlow().requires_grad_(False))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"pretraining_steps": 5}, "replaces pretraining"),
        ({"observation_scale": 1.0}, "as the environment returns them"),
        ({"horizon_length": 3, "flow": TWO_ACTIONS}, r"got \(2, 2\); set `horizon_length`"),
        ({"flow": FROZEN}, "without trainable parameters"),
        ({"id": "fbrac"}, "trains its only flow"),
    ],
)
def test_settings_that_contradict_a_pretrained_flow_are_refused(settings, text):
    with refuses(text):
        make_model(**settings)


def test_a_flow_of_the_other_time_is_refused_with_the_dataset(data):
    model = make_model(flow=agents.PretrainedFlow(GaussianFlow(), noise_at=1.0))
    with refuses("check `noise_at`"):
        model.load_dataset(data)
