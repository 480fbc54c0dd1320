"""What algorithms learn on a bandit, against what is known of their optimum, and in a maze of images; all is slow."""

import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger

import agents
from tests.agents.oracles import Behaviour, Quadratic, bandit_actions, bandit_model, learn_bandit
from tests.mazes import EPISODE, VisualMaze, wandering_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LENGTH = 0.43078  # slope of the end of a flow of 10 steps in its start, where the behaviour's spread is 0.5
FLOWS_AND_EDITS = (0.154**2 + (0.3 * 0.249) ** 2) ** 0.5  # spread of two independent parts


@pytest.mark.parametrize(
    ("id", "settings", "std", "slope", "steps", "mean", "spread"),
    [
        ("dac", {"bc_weight": 1.0}, 0.2, [1.0, -0.5], 1_500, [0.1216, -0.0608], 0.182),
        (
            "qsm",
            {"bc_weight": 10.0, "inverse_temperature": 1.0},
            0.2,
            [1.0, -0.5],
            1_500,
            [0.0532, -0.0266],
            0.183,
        ),
        # the tilt's mean tau s^2 g, and the 10-step sampler's spread
        ("fawac", {"inverse_temperature": 6.4}, 0.2, [1.0, 0.5], 1_500, [0.256, 0.128], 0.154),
        ("dsrl", {}, 0.5, [1.0], 3_000, [LENGTH * 0.770], LENGTH * 0.249),
        ("fedit", {"edit_scale": 0.3}, 0.2, [1.0], 3_000, [0.3 * 0.770], FLOWS_AND_EDITS),
    ],
)
def test_learnt_policy_samples_the_known_gaussian(id, settings, std, slope, steps, mean, spread):
    model, exact = bandit_model(id, len(slope), **settings), Quadratic(torch.tensor(slope))
    behaviour = Behaviour(std, [[0.0] * len(slope)])
    learn_bandit(model, behaviour, steps, critic=exact, critic_target=exact)
    actions = bandit_actions(model)
    assert actions.mean(0).tolist() == pytest.approx(mean, abs=0.02)
    assert actions.std(0).tolist() == pytest.approx([spread] * len(slope), abs=0.025)


# -- a maze of images -------------------------------------------------------------------------------------------------

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
    model.set_logger(Logger(None, []))
    model.learn_offline(updates, dataset=dataset)
    env = make_vec_env(VisualMaze, n_envs=EPISODES, seed=0)
    env.reset()
    _, lengths = evaluate_policy(
        model, env, EPISODES, deterministic=False, return_episode_rewards=True, warn=False
    )
    return float(np.mean(np.array(lengths) < EPISODE))


@pytest.mark.timeout(1800)  # two to three minutes of a core of its own
def test_qam_solves_the_maze_and_cloning_does_not():
    dataset = wandering_dataset(400)
    assert success("bc", 1000, dataset) < 0.3
    assert success("qam", 1000, dataset, **OF_QAM) > 0.8
