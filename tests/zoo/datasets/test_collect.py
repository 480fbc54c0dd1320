"""Collecting: any policy's episodes become a set, the same for the same seed."""

import sys

import numpy as np
import pytest
from gymnasium.wrappers import RescaleAction
from numpy.testing import assert_array_equal

import agents
from agents.common.streams import Purpose, seed_for
from tests import envs  # noqa: F401  registers an environment of integers
from tests.zoo.datasets.samples import ENV
from tests.zoo.envs.toys import SpringEnv
from tests.zoo.outcomes import refuses
from zoo.algorithms.baselines import find_algorithm
from zoo.datasets.collect import collect
from zoo.datasets.formats.base import compact

MODULE = "tests.zoo.datasets.test_collect"
NO_POLICY = 3.0


def push(observation):
    return [-1.0, 5.0]


def wrong(observation):
    return float("nan")


def test_a_function_is_played_its_actions_clipped_and_every_observation_kept():
    arrays = compact(collect(f"{MODULE}:push", ENV, {}, episodes=2))
    assert arrays["observations"].shape == (42, 4)
    assert_array_equal(np.flatnonzero(arrays["valids"] == 0), [20, 41])
    assert_array_equal(arrays["actions"][0], [-1, 2])
    assert (arrays["masks"] == 1).all()  # the time limit terminates nothing
    env = SpringEnv()
    seed = seed_for(Purpose.COLLECTED_START, 0, 0)
    assert_array_equal(arrays["observations"][0], env.reset(seed=seed)[0].astype(np.float32))
    next_observation, reward, *_ = env.step(np.array([-1, 2], np.float32))
    assert_array_equal(arrays["observations"][1], next_observation.astype(np.float32))
    assert arrays["rewards"][0] == np.float32(reward)


def save_bc(folder, env, **settings):
    settings |= {"net_arch": [4], "flow_steps": 1, "buffer_size": 4, "seed": 0}
    agents.BC("MlpPolicy", env, **settings).save(folder / "model")
    return str(folder / "model.zip")


@pytest.mark.parametrize("policy", ["random", f"{MODULE}:push", "model.zip"])
def test_the_seed_decides_a_set(policy, tmp_path, monkeypatch):
    save_bc(tmp_path, SpringEnv(), horizon_length=3)
    monkeypatch.chdir(tmp_path)

    def play(seed):
        return collect(policy, ENV, {}, episodes=2, seed=seed, noise=0.1).arrays

    first, second, reseeded = map(play, (1, 1, 2))
    for name, array in first.items():
        assert_array_equal(array, second[name])
    assert not np.array_equal(first["observations"], reseeded["observations"])
    assert not np.array_equal(*np.split(first["actions"], 2))  # of the two episodes


def test_a_model_of_other_spaces_is_refused(tmp_path):
    model = save_bc(tmp_path, RescaleAction(SpringEnv(), -1, 1))
    with refuses("actions from -1 to 1 in coordinate 0, got -2 to 2"):
        collect(model, ENV, {}, episodes=1)


@pytest.mark.parametrize(
    ("policy", "text"),
    {
        "json:loads": "`json:loads` must return an action for an observation, got TypeError: the",
        f"{MODULE}:wrong": "must return a finite action of shape",
        f"{MODULE}:nothing": "must name a function, as module:function, that Python",
        f"{MODULE}:NO_POLICY": "must be a function of an observation, got float",
    }.items(),
)
def test_a_policy_that_is_none_is_refused(policy, text):
    with refuses(text):
        collect(policy, ENV, {}, episodes=1)


def save_sac(folder, name=None):
    """Save an untrained model of an algorithm of SB3, which names another class if one is given."""
    algorithm = find_algorithm("sac").algorithm
    model = algorithm("MlpPolicy", SpringEnv(), buffer_size=4, seeds=[0], device="cpu")
    model.algorithm_id = name or model.algorithm_id
    model.save(folder / "model")
    return str(folder / "model.zip")


def test_a_model_of_sb3s_own_algorithms_is_played(tmp_path):
    arrays = collect(save_sac(tmp_path), ENV, {}, episodes=1).arrays
    assert np.isfinite(arrays["actions"]).all()


@pytest.mark.parametrize("name", ["antigravity:Fly", "zoo.algorithms.baselines:antigravity:Fly"])
def test_a_model_does_not_choose_a_module_to_import(name, tmp_path):
    with refuses(f"--algo {name}.*--trust"):
        collect(save_sac(tmp_path, name), ENV, {}, episodes=1)
    assert "antigravity" not in sys.modules
