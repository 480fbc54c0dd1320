"""The visual maze, and that QAM learns in it what cloning does not."""

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure

import agents
from tests.mazes import EPISODE, VisualMaze, wandering

EPISODES = 100
SETTINGS = {
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


def success(id, updates, dataset, **settings):
    """Train and return the share of episodes that end at the goal."""
    model = agents.get(id).algorithm("CnnPolicy", VisualMaze(), **SETTINGS, **settings)
    model.set_logger(configure(None, []))
    model.learn_offline(updates, dataset=dataset)
    env = make_vec_env(VisualMaze, n_envs=EPISODES, seed=0)
    env.reset()
    _, lengths = evaluate_policy(
        model, env, EPISODES, deterministic=False, return_episode_rewards=True, warn=False
    )
    return float(np.mean(np.array(lengths) < EPISODE))


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two to three minutes of a core of its own
def test_qam_solves_the_maze_and_cloning_does_not():
    dataset = wandering(400)
    assert success("bc", 1000, dataset) < 0.3
    assert success("qam", 1000, dataset, **OF_QAM) > 0.8
