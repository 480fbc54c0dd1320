"""Scripted demonstrations of Lift in robosuite, written in robomimic's layout."""

import contextlib

import numpy as np

from tests.zoo.datasets.samples import played, write_robomimic
from zoo.envs.make import make_env

NAME = "lift-mh-low_dim"
INSTALL = "pip install 'flow-rl-zoo[robomimic]'"


class Lifting:
    """Moves the gripper above the cube and down to it, closes the gripper for some steps, and lifts."""

    def __init__(self):
        self.closed = 0

    def __call__(self, observation):
        """Return the next action of an episode."""
        away = observation[9:12] - observation[:3]
        if self.closed or (np.linalg.norm(away[:2]) < 0.015 and abs(away[2]) < 0.012):
            self.closed += 1
            return np.array([0, 0, float(self.closed > 8), 0, 0, 0, 1], np.float32)
        if np.linalg.norm(away[:2]) > 0.015:
            away[2] += 0.06  # approach from above
        return np.clip(np.append(10 * away, (0, 0, 0, -1)), -1, 1).astype(np.float32)


def play(episodes):
    """Return episodes for seeds 0, 1, ... as in a file of robomimic."""
    parts = []
    with contextlib.closing(make_env(NAME)) as env:
        for seed in range(episodes):
            part = played(env, Lifting(), seed)
            part["rewards"] += 1
            steps = len(part["actions"])
            parts.append(part | {"dones": (np.arange(steps) == steps - 1).astype(np.int64)})
    return parts


def record(path, episodes):
    """Write a file of scripted demonstrations."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_robomimic(path, play(episodes))
