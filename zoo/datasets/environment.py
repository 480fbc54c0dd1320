"""OGBench environments for collecting and relabelling data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from ogbench.relabel_utils import relabel_dataset

from zoo.envs.make import global_numpy_seed, temporary_files_removed, without_startup_noise
from zoo.envs.rendering import VISUAL

_CHUNK_ROWS = 250_000  # bounds the memory of temporary arrays


def make_raw_env(env_id: str, **settings: Any) -> Any:
    """Return an OGBench environment with Gymnasium's time limit and no rendering context."""
    with without_startup_noise(), temporary_files_removed():
        return gymnasium.make(env_id, disable_env_checker=True, **settings)


def make_labelling_env(env_id: str) -> Any:
    """Return the environment by which :func:`relabel` labels a task's data: with images or not, it draws nothing."""
    return make_raw_env(env_id.removeprefix(VISUAL))


def env_spaces(env: Any) -> tuple[Any, Any]:
    """Return observation and action space; OGBench's manipulation environments build new ones at each access."""
    with without_startup_noise():
        return env.observation_space, env.action_space


def relabel(env_id: str, arrays: Mapping[str, np.ndarray], env: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the rewards and masks of a task, by OGBench's relabeller.

    :param env: what :func:`make_labelling_env` returned.
    :param arrays: ``qpos`` and, where the dataset has them, ``button_states``, each of shape (rows, ...).
    :return: float32 rewards (sparse -1/0 in mazes, else minus the number of unsatisfied sub-goals) and masks (0 where
        the task is achieved, else 1) of the state before each action, each of shape (rows,).
    """
    sources = {name: arrays[name] for name in ("qpos", "button_states") if name in arrays}
    rows = len(sources["qpos"])
    rewards, masks = np.empty(rows, np.float32), np.empty(rows, np.float32)
    for start in range(0, rows, _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        labels = {name: array[part] for name, array in sources.items()}
        with without_startup_noise(), global_numpy_seed(0):  # mazes draw a start position from it
            relabel_dataset(env_id, env, labels)
        rewards[part], masks[part] = labels["rewards"], labels["masks"]
    return rewards, masks
