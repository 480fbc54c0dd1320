"""Pretraining of every algorithm with a behaviour flow: cloning, copies, step counts, and flows of saved models."""

import copy
from dataclasses import replace

import pytest
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn
from torch.testing import assert_close

import agents
from agents.common.engine.checkpoint import load_checkpoint, save_checkpoint
from tests.agents.oracles import small_model
from tests.common.toys import (
    assert_same,
    assert_same_parameters,
    parameters_of,
    refuses,
    step,
    tiny_model,
    toy_batch,
    toy_dataset,
    toy_noise,
)
from tests.envs import SpacesEnv, space_env_of

WITHOUT_FLOW = {"qsm", "dac", "rebrac", "rlpd", "meanflowql", "iql", "idql", "driftql"}
COPIES = {"behaviour_target", "flow_target", "fine_tuned"}
"""Networks initialised as copies of the behaviour flow."""


@pytest.fixture(params=sorted({*agents.algorithm_ids()} - WITHOUT_FLOW))
def id(request):
    return str(request.param)


def name_of_flow(model):
    return "flow" if "flow" in model.policy.nets else "behaviour"


def state_of(network):
    return copy.deepcopy(network.state_dict())


def states_of(model):
    return {name: state_of(network) for name, network in model.policy.nets.items()}


def assert_handed_on(model, old_states):
    """Check that an algorithm's copies of a flow equal the flow, and that its other networks are unchanged."""
    states = states_of(model)
    flow = states.pop(name_of_flow(model))
    for name, state in states.items():
        assert_same(state, flow if name in COPIES else old_states[name])


# -- pretraining ------------------------------------------------------------------------------------------------------


def test_pretraining_clones_the_behaviour_flow_and_nothing_else(id):
    if id == "qgf":
        pytest.skip("it clones at the times of its sampler")
    model = small_model(id, pretraining_steps=3)
    old_states = states_of(model)
    rates = {name: getattr(model, name) for name in ("learning_rate", "max_grad_norm")}
    clone = small_model("bc", **rates)
    clone.policy.nets.behaviour.load_state_dict(old_states[name_of_flow(model)])
    for seed in range(3):
        batch, noise = toy_batch(model, seed=seed), toy_noise(model, seed=seed)
        expected = clone.trainer.update_on(batch, noise)
        info = model.trainer.update_on(batch, noise)
        assert set(info) == {"bc_flow_loss", "total_loss", "grad_norm"}
        assert_close(info["bc_flow_loss"], expected["total_loss"])
    # losses by hand are those of the last update
    assert "bc_flow_loss" in model.trainer.losses(batch, model.trainer.draw_noise(16))[1]
    flow = states_of(model)[name_of_flow(model)]
    assert_close(flow, state_of(clone.policy.nets.behaviour), rtol=0, atol=1e-7)
    assert not torch.equal(flow["mlp.weights.0"], old_states[name_of_flow(model)]["mlp.weights.0"])
    assert_handed_on(model, old_states)


@pytest.mark.parametrize("id", ["rql", "qgf", "fql"])
def test_pretraining_minimises_the_unweighted_cloning_loss(id):
    weight = {"bc_weight": 0.0} if id == "rql" else {}
    pretrained, trained = tiny_model(id, pretraining_steps=1, **weight), tiny_model(id)
    batch, noise = toy_batch(trained), toy_noise(trained)
    # in the fourth row, the second half of each chunk is after the end of a trajectory
    steps_valid = torch.ones_like(batch.actions[..., :3])
    steps_valid[:, 3, 1:] = 0
    batch = replace(batch, steps_valid=steps_valid)
    infos = [model.trainer.update_on(batch, noise) for model in (pretrained, trained)]
    assert torch.equal(*(info["bc_flow_loss"] for info in infos))
    assert infos[0]["grad_norm"].min() > 0


@pytest.mark.few
def test_everything_that_learns_learns_after_pretraining(id):
    models = small_model(id), small_model(id, pretraining_steps=1)
    step(models[1])
    outcomes = []
    for model in models:
        start = parameters_of(model)
        infos = [set(step(model, seed=k)) for k in (1, 2)]
        end = parameters_of(model)
        changed = {name for name in start if not torch.equal(start[name], end[name])}
        outcomes.append((infos, {name.split(".")[1] for name in changed}))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("saved_at", [2, 3, 4])
@pytest.mark.parametrize("id", ["qam", "trqam"])
def test_training_resumes_across_the_end_of_pretraining(id, saved_at, tmp_path):
    def trained(updates):
        model = tiny_model(id, pretraining_steps=3, seeds=[1, 2])
        return model.learn_offline(updates, dataset=toy_dataset())

    saved = save_checkpoint(trained(saved_at), tmp_path)
    resumed = trained(1)
    load_checkpoint(resumed, saved)
    resumed.learn_offline(6 - saved_at)
    assert_same_parameters(resumed, trained(6))


@pytest.mark.parametrize("id", sorted(WITHOUT_FLOW))
def test_an_algorithm_without_behaviour_flow_refuses_to_pretrain(id, monkeypatch):
    with refuses("has no behaviour flow to pretrain"):
        tiny_model(id, pretraining_steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(agents.get(id).method, "networks", lambda _: {"flow": nn.Identity()})
        with refuses("network `flow` must be declared by", TypeError):
            tiny_model(id, pretraining_steps=1)
    model = tiny_model(id)
    with refuses("no behaviour flow"):
        model.load_pretrained_actor("never_read.zip")
    model.method.pretraining_steps = 1
    with refuses("no behaviour flow"):
        model.learn_offline(1, dataset=toy_dataset())


# -- flows of saved models --------------------------------------------------------------------------------------------


def save_clone(folder, **settings):
    """Return the flow of a trained behaviour-cloning model, and the path of the saved model."""
    model = tiny_model("bc", **settings).learn_offline(2, dataset=toy_dataset())
    model.save(folder / "source.zip")
    return state_of(model.policy.nets.behaviour), folder / "source.zip"


@pytest.mark.few
def test_a_clone_is_where_every_algorithm_can_begin(id, tmp_path):
    flow, path = save_clone(tmp_path)
    model = tiny_model(id, seed=5)
    old_states = states_of(model)
    model.load_pretrained_actor(path)
    assert_same(states_of(model)[name_of_flow(model)], flow)
    assert_handed_on(model, old_states)
    model.learn_offline(1, dataset=toy_dataset())


def test_one_seed_serves_all_stacked_ones_and_several_their_own(tmp_path):
    flow, path = save_clone(tmp_path)
    model = tiny_model(seeds=[7, 8])
    model.load_pretrained_actor(path)
    for replica in range(2):
        assert_same(state_of(model.replica(replica).policy.nets.fine_tuned), flow)
    flows, path = save_clone(tmp_path, seeds=[3, 4])
    model.load_pretrained_actor(path)
    assert_same(state_of(model.policy.nets.fine_tuned), flows)
    with refuses(r"of shape \(3, .*, got \(2, "):
        tiny_model(seeds=[1, 2, 3]).load_pretrained_actor(path)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"net_arch": [16, 8]},
            r"expected `mlp.weights.1` of shape \(1, 16, 16\), got \(1, 16, 8\)",
        ),
        ({"horizon_length": 2}, r"of shape \(1, 6\), got \(1, 4\)"),
        ({"policy_kwargs": {"activation_fn": nn.ReLU}}, "activation_fn None, got .*ReLU"),
        ({"observation_scale": 2.0}, "got a different `observation_factor`"),
        (
            {"env": space_env_of(SpacesEnv().observation_space, Box(-2, 2, (2,)))},
            r"expected actions in Box\(-1.0, 1.0, .*, got Box\(-2.0, 2.0",
        ),
    ],
)
def test_a_flow_that_does_not_fit_is_refused_and_changes_nothing(tmp_path, settings, text):
    _, path = save_clone(tmp_path, **settings)
    model = tiny_model()
    old_parameters = parameters_of(model)
    with refuses(rf"source.zip does not fit: .*{text}"):
        model.load_pretrained_actor(path)
    assert_same(parameters_of(model), old_parameters)


def test_observation_statistics_must_be_those_of_the_source(tmp_path):
    _, path = save_clone(tmp_path, observation_scale=2.0)
    with refuses("`pretraining_steps`"):
        tiny_model(pretraining_steps=3).load_pretrained_actor(path)
    with refuses("`observation_mean`"):
        tiny_model("qam", SpacesEnv(3)).load_pretrained_actor(path)
    model = tiny_model(observation_scale=2.0)
    with refuses("`observation_mean`: load the dataset"):
        model.load_pretrained_actor(path)
    model.load_dataset(toy_dataset())
    model.load_pretrained_actor(path)


@pytest.mark.parametrize("normalized", [0, 1])
def test_a_flow_of_normalised_observations_is_not_taken_alone(tmp_path, normalized):
    models = [tiny_model("bc"), tiny_model("qam")]
    models[normalized].set_env(VecNormalize(models[normalized].get_env()))
    models[0].save(tmp_path / "source.zip")
    with refuses("got `VecNormalize` statistics"):
        models[1].load_pretrained_actor(tmp_path / "source.zip")
