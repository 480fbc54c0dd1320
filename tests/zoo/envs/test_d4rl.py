"""D4RL's tasks: Minari's names, and the environments that they are evaluated in."""

from collections import Counter

import numpy as np
import pytest

from zoo.datasets.names import gym_id, parse_name
from zoo.envs.make import make_env
from zoo.envs.tasks import D4RL
from zoo.runs.read import split_environment
from zoo.terminal.errors import UsageError


def test_there_are_the_21_tasks_of_gfp_and_six_mazes():
    counts = Counter(task.domain for task in D4RL.values())
    assert counts == {"d4rl-adroit": 12, "d4rl-mujoco": 9, "d4rl-antmaze": 6}
    assert split_environment("mujoco/hopper/medium-v0")[1:] == ("d4rl-mujoco", "")
    assert gym_id("D4RL/relocate/cloned-v2") == "AdroitHandRelocate-v1"
    with pytest.raises(UsageError, match=r"is a task of D4RL, not of OGBench; docs/d4rl\.md says"):
        parse_name("D4RL/relocate/cloned-v2")


@pytest.mark.parametrize("size", ["umaze", "medium", "large"])
def test_an_ant_at_its_goal_has_reached_it_and_the_episode_ends(size):
    pytest.importorskip("gymnasium_robotics", reason="needs `pip install 'flow-rl-zoo[d4rl]'`")
    env = make_env(f"d4rl-antmaze-{size}")
    starts = [env.reset(seed=seed)[0] for seed in range(2)]
    # Its position, the goal, and 27 coordinates and velocities.
    assert env.observation_space.shape == (31,)
    # One goal, somewhere in its cell.
    np.testing.assert_allclose(starts[0][2:4], starts[1][2:4], atol=2.1)
    assert np.linalg.norm(starts[0][:2] - starts[0][2:4]) > 4
    ant = env.unwrapped.ant_env
    ant.set_state(np.array([*starts[1][2:4], *ant.data.qpos[2:]]), ant.data.qvel)
    _, reward, terminated, _, info = env.step(np.zeros(8, np.float32))
    assert (reward, terminated, info["success"]) == (1.0, True, 1)
    assert env.spec.max_episode_steps == (700 if size == "umaze" else 1000)
    env.close()
