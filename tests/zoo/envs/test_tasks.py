"""Tasks of robomimic and D4RL: their names are known without the benchmarks' packages, which the other tests need."""

import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.zoo.datasets.samples import LIFT, episodes, read, write_robomimic
from tests.zoo.outcomes import refuses
from zoo.datasets.names import parse_env_name
from zoo.envs.make import find_spec, make_env
from zoo.settings.request import TrainRequest
from zoo.training.plan import plan_run

PEN = "AdroitHandPen-v1"


@pytest.mark.parametrize("name", [LIFT, "D4RL/relocate/cloned-v2"])
def test_ogbenchs_data_are_not_sought_for_tasks_of_others(name):
    with refuses(
        r"a task of (\w+), not of OGBench; docs/(?i:\1)\.md explains how to load its data"
    ):
        parse_env_name(name)


# -- without robosuite ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "package", "message"),
    [
        (
            LIFT,
            "robosuite",
            f"`{LIFT}` is simulated by robosuite, which is not installed; `pip install",
        ),
        (
            PEN,
            "gymnasium_robotics",
            f"`{PEN}` needs Gymnasium-Robotics; install it with `pip install",
        ),
    ],
)
def test_tasks_say_how_to_install_their_package(monkeypatch, name, package, message):
    monkeypatch.setitem(sys.modules, package, None)
    with refuses(message):
        find_spec(name)


def test_a_run_has_the_settings_of_its_task(monkeypatch):
    monkeypatch.setattr("zoo.envs.make.require_simulator", lambda name: None)
    config = plan_run(TrainRequest(algo="qam", env=LIFT, run={"offline_steps": 4})).config
    assert "profiles/qam.yml robomimic" in " ".join(config.sources)
    assert config.departures["offline_steps"] == [4, 1000000]


# -- with robosuite ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_replaying_a_files_actions_gives_its_observations(tmp_path):
    pytest.importorskip("robosuite", reason="needs `pip install 'flow-rl-zoo[robomimic]'`")
    env = make_env(LIFT)
    (part,) = episodes(1, 21, env=env)
    part |= {"rewards": part["rewards"] + 1, "dones": np.zeros(20, int)}
    arrays = read(write_robomimic(tmp_path / "a.hdf5", [part]))
    observation, _ = env.reset(seed=0)
    for row in range(20):
        assert_array_equal(observation, arrays["observations"][row])
        observation, reward, terminated, _, info = env.step(arrays["actions"][row])
        assert (reward, terminated) == (arrays["rewards"][row], False)
        assert info == {"success": 0, "is_success": False}
    assert_array_equal(observation, arrays["observations"][20])
    # lift the cube: success ends the episode
    env.unwrapped._scene.sim.data.set_joint_qpos("cube_joint0", [0, 0, 1.2, 1, 0, 0, 0])
    _, reward, terminated, _, info = env.step(arrays["actions"][0])
    assert (reward, terminated) == (0.0, True)
    assert info == {"success": 1, "is_success": True}


# -- D4RL -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["umaze", "medium", "large"])
def test_an_ant_at_its_goal_has_reached_it_and_the_episode_ends(size):
    pytest.importorskip("gymnasium_robotics", reason="needs `pip install 'flow-rl-zoo[d4rl]'`")
    env = make_env(f"d4rl-antmaze-{size}")
    starts = [env.reset(seed=seed)[0] for seed in range(2)]
    # position, goal, and 27 joint coordinates and velocities
    assert env.observation_space.shape == (31,)
    # always the same goal cell, with a random position in it
    assert_allclose(starts[0][2:4], starts[1][2:4], atol=2.1)
    assert np.linalg.norm(starts[0][:2] - starts[0][2:4]) > 4
    ant = env.unwrapped.ant_env
    ant.set_state(np.array([*starts[1][2:4], *ant.data.qpos[2:]]), ant.data.qvel)
    _, reward, terminated, _, info = env.step(np.zeros(8, np.float32))
    assert (reward, terminated, info["success"]) == (1.0, True, 1)
    assert env.spec.max_episode_steps == (700 if size == "umaze" else 1000)
    env.close()
