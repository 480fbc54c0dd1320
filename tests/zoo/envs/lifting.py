"""Scripted demonstrations of Lift in robosuite, written in robomimic's layout."""

import contextlib

import numpy as np

from tests.zoo.datasets.samples import write_robomimic
from zoo.envs.make import make_env

NAME = "lift-mh-low_dim"
INSTALL = "pip install 'flow-rl-zoo[robomimic]'"


class Lifting:
    """Brings the gripper over the cube, down to it, closes it for some steps, and lifts."""

    def __init__(self):
        self.closed = 0

    def __call__(self, observation):
        """Return the next action of an episode."""
        away = observation[9:12] - observation[:3]
        if self.closed or (np.linalg.norm(away[:2]) < 0.015 and abs(away[2]) < 0.012):
            self.closed += 1
            return np.array([0, 0, float(self.closed > 8), 0, 0, 0, 1], np.float32)
        if np.linalg.norm(away[:2]) > 0.015:
            away[2] += 0.06  # from above
        return np.clip(np.append(10 * away, (0, 0, 0, -1)), -1, 1).astype(np.float32)


def play(episodes):
    """Return episodes, one for each seed from 0, as a file of robomimic has them."""
    episodes_played = []
    with contextlib.closing(make_env(NAME)) as env:
        for seed in range(episodes):
            observations, actions, rewards = [env.reset(seed=seed)[0]], [], []
            act = Lifting()
            is_over = False
            while not is_over:
                actions.append(act(observations[-1]))
                observation, reward, terminated, truncated, _ = env.step(actions[-1])
                observations.append(observation)
                rewards.append(reward + 1)
                is_over = terminated or truncated
            dones = np.arange(len(actions)) == len(actions) - 1
            arrays = {"observations": observations, "actions": actions, "rewards": rewards}
            arrays["dones"] = dones.astype(np.int64)
            episodes_played.append({name: np.array(arrays[name]) for name in arrays})
    return episodes_played


def record(path, episodes):
    """Write a file of scripted demonstrations."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_robomimic(path, play(episodes))
