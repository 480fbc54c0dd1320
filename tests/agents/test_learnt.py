"""Learning from images alone to reach a target that only the image shows; slow."""

import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger

import agents
from tests.envs import PicturesEnv

SETTINGS = {
    "learning_rate": 1e-3,
    "batch_size": 128,
    "buffer_size": 1,
    "net_arch": [64, 64],
    "flow_steps": 5,
    "device": "cpu",
    "compile": "off",
    "seed": 0,
    "policy_kwargs": {
        "features_extractor_class": agents.ImpalaEncoder,
        "features_extractor_kwargs": {"widths": [4, 8], "features_dim": 32},
    },
}
OF_QAM = {"gamma": 0.9, "tau": 0.01, "ensemble_size": 2, "rho": 0.0, "inverse_temperature": 10.0}


class MiddleEnv(PicturesEnv):
    """The dot must reach the middle rows from above or from below, so no single action is right for all images."""

    def step(self, action):
        picture, _, *ends, info = super().step(action)
        return picture, float(abs(self.place[0]) < 0.2) - 1.0, *ends, info


def wandering_dataset(episodes):
    """Return episodes of uniformly sampled actions."""
    env, rows = MiddleEnv(), []
    env.action_space.seed(0)
    for seed in range(episodes):
        picture, _ = env.reset(seed=seed)
        is_over = False
        while not is_over:
            action = env.action_space.sample()
            next_picture, reward, _, is_over, _ = env.step(action)
            rows.append((picture, action, reward, next_picture, 1.0, is_over))
            picture = next_picture
    names = ("observations", "actions", "rewards", "next_observations", "masks", "terminals")
    return dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))


def mean_return(id, dataset, **settings):
    """Train offline, and return the mean return of 100 episodes of eight steps."""
    model = agents.get(id).algorithm("CnnPolicy", MiddleEnv(), **SETTINGS, **settings)
    model.set_logger(Logger(None, []))
    model.learn_offline(500, dataset=dataset)
    model.get_env().seed(1)
    return evaluate_policy(model, model.get_env(), 100, deterministic=False, warn=False)[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_qam_finds_the_place_in_the_picture_and_cloning_does_not():
    dataset = wandering_dataset(500)
    assert mean_return("bc", dataset) < -5
    assert mean_return("qam", dataset, **OF_QAM) > -4
