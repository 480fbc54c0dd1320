"""The visual maze, and that QAM learns in it what cloning does not."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure

import agents
from tests.mazes import EPISODE, GOAL, VisualMaze, moved, wandering

EPISODES = 100
SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "batch_size": 128,
    "buffer_size": 1,
    "net_arch": [128, 128],
    "flow_steps": 5,
    "device": "cpu",
    "compile": "off",
    "seed": 0,
    "policy_kwargs": {
        "features_extractor_class": agents.ImpalaEncoder,
        "features_extractor_kwargs": {"widths": [4, 8, 8], "features_dim": 64},
    },
}
OF_QAM = {"gamma": 0.98, "tau": 0.01, "ensemble_size": 2, "rho": 0.0, "inverse_temperature": 10.0}


def test_walls_stop_a_point_that_slides_along_them() -> None:
    corner = np.array([5.2, 4.0])
    np.testing.assert_allclose(moved(corner, np.array([-1.0, 1.0])), [5.2, 4.5])


def test_an_episode_ends_at_the_goal_or_after_its_time() -> None:
    env = VisualMaze()
    env.reset()
    env.position = GOAL - np.array([0.0, 0.9])
    assert env.step(np.array([0.0, 1.0]))[2:] == (True, False, {"is_success": True})
    env.reset()
    ends = [env.step(np.zeros(2))[2:4] for _ in range(EPISODE)]
    assert ends == [(False, False)] * (EPISODE - 1) + [(False, True)]


def test_a_trajectory_follows_its_own_actions() -> None:
    data = wandering(2, length=6)
    ends = data["terminals"] > 0
    assert ends.tolist() == ([False] * 5 + [True]) * 2
    np.testing.assert_array_equal(data["observations"][1:][~ends[:-1]], data["next_observations"][:-1][~ends[:-1]])


def success(id: str, updates: int, dataset: dict[str, Any], **settings: Any) -> float:
    """Train and return the share of episodes that end at the goal."""
    begin = time.process_time()
    model = agents.get(id).algorithm("CnnPolicy", VisualMaze(), **SETTINGS, **settings)
    model.set_logger(configure(None, []))
    model.learn_offline(updates, dataset=dataset)
    env = make_vec_env(VisualMaze, n_envs=EPISODES, seed=0)
    env.reset()
    _, lengths = evaluate_policy(model, env, EPISODES, deterministic=False, return_episode_rewards=True, warn=False)
    share = float(np.mean(np.array(lengths) < EPISODE))
    print(f"{id}: {share:.0%} of {EPISODES} episodes after {updates:,} updates, {time.process_time() - begin:.0f} s")
    return share


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two to three minutes of a core of its own
def test_qam_solves_the_maze_and_cloning_does_not() -> None:
    dataset = wandering(400)
    assert success("bc", 1000, dataset) < 0.3
    assert success("qam", 1000, dataset, **OF_QAM) > 0.8
