"""Scripted demonstrations of Lift in robosuite, written in robomimic's layout."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from tests.zoo.datasets.demonstrations import Arrays, write
from zoo.envs.make import make_env

NAME = "lift-mh-low_dim"


def lift(observation: np.ndarray) -> np.ndarray:
    """Return an action that brings the gripper over the cube, down to it, closes it, and lifts."""
    away = observation[9:12] - observation[:3]
    action = np.append(10 * away, np.zeros(4)).astype(np.float32)
    action[6] = -1
    if np.linalg.norm(away[:2]) > 0.015:
        action[2] += 0.6  # from above
    elif abs(away[2]) < 0.012:
        action[6] = 1
        is_held = observation[7] - observation[8] < 0.05  # how far it is open
        action[:3] = (0, 0, 1) if is_held else 0
    return np.clip(action, -1, 1)


def play(episodes: int) -> list[Arrays]:
    """Return episodes, one for each seed from 0, as a file of robomimic has them."""
    found = []
    with contextlib.closing(make_env(NAME)) as env:
        for seed in range(episodes):
            observations, actions, rewards = [env.reset(seed=seed)[0]], [], []
            is_over = False
            while not is_over:
                actions.append(lift(observations[-1]))
                observation, reward, terminated, truncated, _ = env.step(actions[-1])
                observations.append(observation)
                rewards.append(reward + 1)
                is_over = terminated or truncated
            dones = np.arange(len(actions)) == len(actions) - 1
            found.append(
                {
                    "observations": np.array(observations),
                    "actions": np.array(actions),
                    "rewards": np.array(rewards),
                    "dones": dones.astype(np.int64),
                }
            )
    return found


def record(path: Path, episodes: int) -> Path:
    """Write a file of scripted demonstrations."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, play(episodes))
