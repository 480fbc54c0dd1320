"""OGBench environments for collecting and relabelling data."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np


def make_raw_env(env_id: str, **settings: Any) -> Any:
    """Make an OGBench environment without a rendering context.

    :param env_id: gymnasium id, e.g. ``"cube-double-v0"``.
    :param **settings: passed to the environment.
    :return: the environment, with gymnasium's time limit.
    """
    with without_startup_noise():
        import gymnasium

        is_maze = "maze" in env_id or "soccer" in env_id
        importlib.import_module("ogbench.locomaze" if is_maze else "ogbench.manipspace")
        return gymnasium.make(env_id, disable_env_checker=True, **settings)


def env_spaces(env: Any) -> tuple[Any, Any]:
    """Return an environment's spaces; OGBench's manipulation environments build new ones at each access.

    :param env: the environment.
    :return: observation space and action space.
    """
    with without_startup_noise():
        return env.observation_space, env.action_space


@contextlib.contextmanager
def without_startup_noise() -> Iterator[None]:
    """Hide warnings that say nothing about the user's work."""
    from zoo.envs.make import ignore_startup_warnings

    with warnings.catch_warnings():
        ignore_startup_warnings()
        yield


@contextlib.contextmanager
def global_numpy_seed(seed: int | np.ndarray) -> Iterator[None]:
    """Seed the global NumPy generator, which OGBench's mazes and oracles draw from, and put it back afterwards.

    :param seed: one or more unsigned 32-bit words.
    """
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
