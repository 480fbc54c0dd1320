"""Pretraining of every algorithm that has a behaviour flow: cloning, copies, counts, and flows of saved models."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import agents
from agents.common.engine.checkpoint import load_checkpoint, save_checkpoint
from agents.qgf import QGF
from tests.agents.oracles import small_model
from tests.common.toys import (
    assert_same,
    parameters_of,
    step,
    tiny_model,
    toy_batch,
    toy_dataset,
    toy_noise,
)

# algorithm -> its behaviour flow, the networks that begin as its copies, and those that begin at zero beside it
QAM_FLOWS = ("behaviour", {"behaviour_target", "fine_tuned"})
FLOWS = {
    **dict.fromkeys(("qam", "qam_f", "qam_e", "trqam", "sqam", "bam"), QAM_FLOWS),
    **dict.fromkeys(
        ("cgql", "cgql_mse", "cgql_linex", "dsrl"), ("behaviour", {"behaviour_target"})
    ),
    **dict.fromkeys(
        ("fql", "ifql", "fedit", "qgf", "fan", "value_flows", "gfp", "bc"), ("behaviour", set())
    ),
    "fbrac": ("flow", set()),
    "fawac": ("flow", set()),
    "rql": ("flow", {"flow_target"}),
}
WITHOUT = {"qsm", "dac", "rebrac", "rlpd", "meanflowql"}


@pytest.fixture(params=FLOWS)
def id(request):
    return str(request.param)


def state_of(network):
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def states_of(model):
    return {name: state_of(network) for name, network in model.policy.nets.items()}


def differ(first, second):
    return any(not torch.equal(first[name], second[name]) for name in first)


def assert_handed_on(id, flow, model, old_states):
    """Check that a flow is where an algorithm's copies of it begin, and that its other networks are as before."""
    flow_networks, copies = FLOWS[id]
    for name, state in states_of(model).items():
        if name != flow_networks:
            assert_same(state, state_of(flow) if name in copies else old_states[name])


def cloned_by_hand(flow, model, batches, noises):
    """Return a flow after steps of behaviour cloning, written out with an optimiser of its own."""
    flow = copy.deepcopy(flow)
    optimizer = torch.optim.Adam(flow.parameters(), lr=model.learning_rate)
    for batch, noise in zip(batches, noises, strict=True):
        t = noise["bc_t"][..., None]
        weight = batch.valid
        if isinstance(model.method, QGF):  # clones at the times of its sampler, across ends too
            t = (t * (model.flow_steps + 1)).floor() / model.flow_steps
            weight = torch.ones_like(batch.valid)
        velocity = flow(batch.observations, (1 - t) * noise["bc_x0"] + t * batch.actions, t)
        errors = (velocity - (batch.actions - noise["bc_x0"])) ** 2
        optimizer.zero_grad()
        (errors.mean(2) * weight).mean().backward()
        if model.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(flow.parameters(), model.max_grad_norm)
        optimizer.step()
    return flow


# -- pretraining ------------------------------------------------------------------------------------------------------


def test_pretraining_is_cloning_of_the_behaviour_flow_and_nothing_else(id):
    flow, _ = FLOWS[id]
    model = small_model(id, pretraining_steps=3)
    nets, old_states = model.policy.nets, states_of(model)
    batches = [toy_batch(model, seed=k) for k in range(3)]
    noises = [toy_noise(model, seed=k) for k in range(3)]
    expected = cloned_by_hand(nets[flow], model, batches, noises)
    for batch, noise in zip(batches, noises, strict=True):
        assert model.trainer.pretraining
        info = model.trainer.update_on(batch, noise)
        assert set(info) == {"bc_flow_loss", "total_loss", "grad_norm"}
    assert not model.trainer.pretraining
    for parameter, expected_parameter in zip(
        nets[flow].parameters(), expected.parameters(), strict=True
    ):
        torch.testing.assert_close(parameter, expected_parameter, rtol=0, atol=1e-7)
    assert not torch.equal(nets[flow].mlp.weights[0], old_states[flow]["mlp.weights.0"])
    assert_handed_on(id, nets[flow], model, old_states)


@pytest.mark.parametrize("id", ["rql", "qgf", "fql"])
def test_pretraining_minimises_the_cloning_loss_of_training_without_its_weight(id):
    weight = {"bc_weight": 0.0} if id == "rql" else {}
    pretrained, trained = tiny_model(id, pretraining_steps=1, **weight), tiny_model(id)
    noise = toy_noise(trained)
    batch = toy_batch(trained)
    # the second half of each chunk in the fourth row lies after the end of a trajectory
    steps_valid = torch.ones_like(batch.actions[..., :3])
    steps_valid[:, 3, 1:] = 0
    batch = replace(batch, steps_valid=steps_valid)
    start = parameters_of(pretrained)
    losses = [
        model.trainer.update_on(batch, noise)["bc_flow_loss"] for model in (pretrained, trained)
    ]
    assert torch.equal(*losses)
    assert any(
        not torch.equal(start[name], value) for name, value in parameters_of(pretrained).items()
    )


@pytest.mark.few
def test_everything_that_learns_learns_after_pretraining(id):
    trained_alike, pretrained = small_model(id), small_model(id, pretraining_steps=1)
    step(pretrained)
    for model in (trained_alike, pretrained):
        old_states = states_of(model)
        infos = [set(step(model, seed=k)) for k in (1, 2)]
        new_states = states_of(model)
        moved = {name for name, state in old_states.items() if differ(state, new_states[name])}
        if model is trained_alike:
            expected = infos, moved
    assert (infos, moved) == expected


@pytest.mark.parametrize("id", ["qam", "bam"])
def test_a_residual_begins_at_zero_so_that_the_policy_is_the_clone(id):
    model = small_model(id, residual=True, pretraining_steps=1)
    step(model)
    clone = small_model("bc")
    clone.policy.nets.behaviour.load_state_dict(model.policy.nets.behaviour.state_dict())
    observations = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    acted, cloned = (
        acting_model.predict(observations, deterministic=True)[0] for acting_model in (model, clone)
    )
    np.testing.assert_allclose(acted, cloned, atol=1e-6)
    assert "am_loss" in step(model, 1) or id == "bam"
    assert bool(model.policy.nets.fine_tuned.mlp.weights[-1].any())


@pytest.mark.parametrize("saved_at", [2, 3, 4])
@pytest.mark.parametrize("id", ["qam", "trqam"])
def test_training_resumes_across_the_end_of_pretraining(id, saved_at, tmp_path):
    def model():
        new_model = tiny_model(id, pretraining_steps=3, seeds=[1, 2])
        new_model.load_dataset(toy_dataset())
        return new_model

    uninterrupted, first, second = model(), model(), model()
    uninterrupted.learn_offline(6)
    first.learn_offline(saved_at)
    saved = save_checkpoint(first, tmp_path)
    second.learn_offline(1)
    load_checkpoint(second, saved)
    assert second.trainer.pretraining == (saved_at < 3)
    second.learn_offline(6 - saved_at)
    assert_same(parameters_of(second), parameters_of(uninterrupted))


@pytest.mark.parametrize("id", sorted(WITHOUT))
def test_an_algorithm_without_a_behaviour_flow_refuses_to_pretrain(id):
    with pytest.raises(
        ValueError, match=f"{agents.get(id).algorithm.__name__} has no behaviour flow to pretrain"
    ):
        tiny_model(id, pretraining_steps=1)
    with pytest.raises(ValueError, match="no behaviour flow"):
        tiny_model(id).load_pretrained_actor("never_read.zip")


# -- flows of saved models --------------------------------------------------------------------------------------------


def saved(folder, id="bc", updates=2, **settings):
    """Return a trained model and where it is saved."""
    model = tiny_model(id, **settings)
    model.learn_offline(updates, dataset=toy_dataset())
    model.save(folder / "source.zip")
    return model, folder / "source.zip"


@pytest.mark.few
def test_a_clone_is_where_every_algorithm_can_begin(id, tmp_path):
    source, path = saved(tmp_path)
    model = tiny_model(id, seed=5)
    flow, old_states = model.policy.nets[FLOWS[id][0]], states_of(model)
    model.load_pretrained_actor(path)
    assert_same(state_of(flow), state_of(source.policy.nets.behaviour))
    assert_handed_on(id, flow, model, old_states)
    model.learn_offline(1, dataset=toy_dataset())


def test_one_seed_serves_all_stacked_ones_and_several_their_own(tmp_path):
    source, path = saved(tmp_path)
    model = tiny_model("qam", seeds=[7, 8])
    model.load_pretrained_actor(path)
    for replica in range(2):
        assert_same(
            *map(
                state_of,
                (model.replica(replica).policy.nets.fine_tuned, source.policy.nets.behaviour),
            )
        )
    two, path = saved(tmp_path, seeds=[3, 4])
    model.load_pretrained_actor(path)
    assert_same(*map(state_of, (model.policy.nets.fine_tuned, two.policy.nets.behaviour)))
    with pytest.raises(ValueError, match=r"of shape \(3, .*, got \(2, "):
        tiny_model("qam", seeds=[1, 2, 3]).load_pretrained_actor(path)


MISFITS = [
    ({"net_arch": [16, 8]}, r"expected `mlp.weights.1` of shape \(1, 16, 16\), got \(1, 16, 8\)"),
    ({"actor_layer_norm": True}, r"expected `mlp.norm_scales.0` of shape None, got \(1, 16\)"),
    ({"horizon_length": 2}, "expected actions in a chunk 3, got 2"),
    ({"action_chunking": False}, "expected actions in a chunk 3, got 1"),
    ({"policy_kwargs": {"activation_fn": nn.ReLU}}, "expected activation None, got ReLU"),
    ({"observation_scale": 2.0}, "expected observation scale None, got 2.0"),
]


@pytest.mark.parametrize(
    ("settings", "text"), MISFITS, ids=[next(iter(settings)) for settings, _ in MISFITS]
)
def test_a_flow_that_does_not_fit_is_refused_and_changes_nothing(tmp_path, settings, text):
    _, path = saved(tmp_path, **settings)
    model = tiny_model("qam")
    old_parameters = parameters_of(model)
    with pytest.raises(
        ValueError,
        match=rf"source.zip does not fit: .*{text}.*; give both models the same settings",
    ):
        model.load_pretrained_actor(path)
    assert_same(parameters_of(model), old_parameters)


def test_observation_statistics_must_be_those_of_the_source(tmp_path):
    _, path = saved(tmp_path, observation_scale=2.0)
    model = tiny_model("qam", observation_scale=2.0)
    with pytest.raises(ValueError, match="`observation_mean`: load the dataset"):
        model.load_pretrained_actor(path)
    model.load_dataset(toy_dataset())
    model.load_pretrained_actor(path)


def test_a_model_that_is_to_be_pretrained_takes_no_pretrained_flow(tmp_path):
    _, path = saved(tmp_path)
    with pytest.raises(ValueError, match="`pretraining_steps`"):
        tiny_model("qam", pretraining_steps=3).load_pretrained_actor(path)
