"""Environments by name: reproducible from their seed, without side effects, and rejected if they cannot be used."""

import multiprocessing.util
import tempfile

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.zoo.envs import toys
from tests.zoo.outcomes import refuses
from zoo.envs.make import make_env, make_raw_env
from zoo.envs.tasks import SCENES

POINTMAZE = "pointmaze-medium-singletask-task1-v0"
FAMILIES = [
    POINTMAZE,
    "antmaze-medium-singletask-task1-v0",
    "humanoidmaze-medium-singletask-task1-v0",
    "antsoccer-arena-singletask-task4-v0",
    "pointmaze-teleport-singletask-task1-v0",
    "cube-single-singletask-task1-v0",
    "cube-double-singletask-task2-v0",
    "scene-singletask-task4-v0",
    "puzzle-3x3-singletask-task1-v0",
    *SCENES,
]


def make(env_id):
    if env_id in SCENES:
        pytest.importorskip("robosuite", reason="needs `pip install 'flow-rl-zoo[robomimic]'`")
    return make_env(env_id)


def episode(env, seed, steps=40):
    """Take fixed random actions, and return the simulator's whole state after each step."""
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, *env.action_space.shape))
    results = [env.reset(seed=seed)[0]]
    data = getattr(env.unwrapped, "data", None)  # robosuite's environments store it elsewhere
    for action in actions.astype(np.float32):
        if data is not None:
            results.append(np.concatenate([data.qpos, data.qvel, data.ctrl, data.qacc_warmstart]))
        observation, reward, *_ = env.step(action)
        results.append(np.append(observation, reward))
    return np.concatenate(results)


@pytest.mark.few(5)
@pytest.mark.parametrize("env_id", FAMILIES)
def test_the_same_seed_gives_same_bits_again_and_in_new_instance(env_id):
    env = make(env_id)
    first = episode(env, 5)
    assert (episode(env, 6) != first).any()
    assert_array_equal(episode(env, 5), first)
    unseeded = [episode(env, None, 3) for _ in range(2)]  # resets continue from the last seed
    np.random.random(3)
    assert_array_equal(episode(make_env(env_id), 5), first)
    env.reset(seed=5)
    env.step(env.action_space.sample())
    env.reset(seed=5)
    assert_array_equal([episode(env, None, 3) for _ in range(2)], unseeded)
    assert (unseeded[0] != unseeded[1]).any()


def test_teleport_exits_follow_the_seed():
    env = make_env("pointmaze-teleport-singletask-task1-v0")

    def exits(seed):
        env.reset(seed=seed)
        places = []
        for _ in range(12):
            env.unwrapped.set_xy(np.array(env.unwrapped._teleport_info["teleport_in_xys"][0]))
            env.step(np.zeros(2, np.float32))
            np.random.random()  # other code uses the global generator in between
            places.append(float(env.unwrapped.get_xy()[0]))
        return places

    assert exits(1) == exits(1)
    assert len(set(exits(1))) > 1
    assert exits(1) != exits(2)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "env_id", [POINTMAZE, "pointmaze-teleport-singletask-task1-v0", "lift-mh-low_dim"]
)
def test_the_global_generator_is_left_as_it_was(env_id):
    env = make(env_id)
    np.random.seed(3)
    np.random.standard_normal()  # caches a second number as part of the state
    expected = np.random.RandomState(3)
    expected.standard_normal()
    env.reset(seed=1)
    env.reset()
    env.step(env.action_space.sample())
    assert np.random.standard_normal() == expected.standard_normal()
    assert np.random.standard_normal() == expected.standard_normal()


def test_info_is_success_under_both_names_and_nothing_else():
    env = make_env(POINTMAZE)
    assert env.reset(seed=0)[1] == {}
    env.unwrapped.set_xy(np.array(env.unwrapped.cur_goal_xy))
    _, reward, terminated, _, info = env.step(np.zeros(2, np.float32))
    assert info == {"success": 1, "is_success": True}
    assert (reward, terminated) == (0.0, True)


@pytest.mark.parametrize(
    ("env_id", "message"),
    {
        "cube-double-play-singletask-task2-v0": "unknown .*closest: cube-double-singletask-task2",
        "no_such_package:Toy-v0": "unknown environment `no_such_package:Toy-v0`",
        "asyncio.windows_events:Toy-v0": "unknown environment .*win32 only",
        "data-gone": "`data-gone` is a placeholder for data without an environment",
        "cube-double-v0": "goal-conditioned.*cube-double-singletask-task1-v0",
        "Hopper-v3": "cannot be created with the installed packages",
        "CartPole-v1": r"`CartPole-v1` has the action space Discrete",
    }.items(),
)
def test_an_environment_that_cannot_be_used_is_refused_by_name(env_id, message):
    with refuses(message):
        make_env(env_id)


@pytest.mark.parametrize("arguments", [{"env_id": 5}, {"render_mode": 1}])
def test_arguments_that_an_environment_rejects_are_refused(arguments):
    with refuses(rf"does not accept the arguments \{arguments}"):
        make_env("Toy-v0", **arguments)


def test_an_environment_that_is_refused_is_closed(monkeypatch):
    closed = []
    monkeypatch.setattr(toys.ToyEnv, "close", lambda self: closed.append(self))
    with refuses("`frame_stack` needs images"):
        make_env("Toy-v0", frame_stack=2)
    assert len(closed) == 1


@pytest.mark.parametrize("make", [make_env, make_raw_env])
def test_an_environment_leaves_no_temporary_files(tmp_path, monkeypatch, make):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(multiprocessing.util, "get_temp_dir", lambda: str(tmp_path))
    make("pointmaze-medium-singletask-task1-v0").close()
    assert not any(tmp_path.iterdir())
    assert tempfile.gettempdir() == str(tmp_path)
