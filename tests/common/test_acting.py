"""A policy saved for acting acts as its model does, stores nothing unneeded, and executes no code on loading."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import agents
from tests.common.toys import normals, refuses, seeded, tiny_model


def observations(policy):
    return normals(policy.num_replicas, 3, 4).numpy()


def planned(policy):
    draws = policy.draw_action_noise(3, seeded(1))
    noise = {name: draw.expand(policy.num_replicas, *draw.shape) for name, draw in draws.items()}
    return policy.sample_chunks(observations(policy), noise)


def saved(folder, **settings):
    tiny_model(**settings).save_policy(folder / "policy.safetensors", {"env": "Pendulum-v1"})
    return folder / "policy.safetensors"


@pytest.mark.parametrize(
    ("id", "settings"), [("ifql", {"best_of_n": 4}), ("qam", {"observation_scale": 2.0})]
)
def test_a_loaded_policy_plans_the_same_bits(id, settings, tmp_path):
    model, path = tiny_model(id, **settings), tmp_path / "policy.safetensors"
    model.policy.observation_mean.fill_(1.0)
    model.policy.observation_factor.fill_(0.5)
    model.save_policy(path)
    loaded = agents.load_policy(path)
    np.testing.assert_array_equal(planned(loaded), planned(model.policy))
    assert loaded.predict(observations(loaded)[0])[0].shape == (3, 2)


@pytest.mark.parametrize(
    ("id", "settings", "networks"),
    [
        ("qam", {}, {"critic", "fine_tuned"}),
        ("qam", {"inverse_temperature": 0.0}, {"critic", "behaviour"}),
        ("bc", {}, {"behaviour"}),
    ],
)
def test_only_networks_that_act_and_rate_actions_are_kept(id, settings, networks, tmp_path):
    path = saved(tmp_path, id=id, **settings)
    assert {name.split(".")[1] for name in load_file(path) if name.startswith("nets.")} == networks
    loaded = agents.load_policy(path)
    assert set(loaded.nets) == networks
    assert hasattr(loaded, "optimizer") == (id == "bc")  # BC acts with all of its networks


def test_a_flipped_bit_is_found(tmp_path):
    path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with refuses(r"policy\.safetensors cannot be read: its SHA-256"):
        agents.load_policy(path)
    path.unlink()
    with refuses("No such file", FileNotFoundError):
        agents.load_policy(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": "another"}, "its format is 'another'"),
        ({"policy": "["}, r"policy\.safetensors cannot be read"),
        ({"seeds": {":deque:": 3}}, r"policy\.safetensors cannot be loaded"),
        ({"method": "os:system"}, "needs `os:system`"),
        ({"settings": {"flow_stepz": 3}}, "cannot be read: QAM.*'flow_stepz'; closest: flow_steps"),
    ],
)
def test_what_does_not_describe_the_tensors_is_refused(change, text, tmp_path):
    path = saved(tmp_path)
    with safe_open(path, framework="pt") as file:
        texts = file.metadata()
    if not change.keys() <= texts.keys():
        change = {"policy": json.dumps(json.loads(texts["policy"]) | change)}
    save_file(load_file(path), path, texts | change)
    with refuses(text):
        agents.load_policy(path)
