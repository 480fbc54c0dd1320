"""What stands for the environment of data that have none: its spaces, and nothing that could be played."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from zoo.errors import UsageError

PREFIX = "data-"
"""What the names of such environments begin with."""


class AbsentEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """Has the spaces of some data, and cannot be stepped."""

    def __init__(self, observations: Box, actions: Box) -> None:
        self.observation_space, self.action_space = observations, actions
        self._first = np.zeros(observations.shape, observations.dtype)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Return an observation of zeros, which SB3 asks for before any training."""
        super().reset(seed=seed)
        return self._first.copy(), {}

    def step(self, action: np.ndarray) -> NoReturn:
        """Refuse.

        :raises UsageError: always.
        """
        raise UsageError("there is no environment to play in: the run was trained with --no-env")


def register_absent(name: str, arrays: Mapping[str, np.ndarray], limits: tuple[float, float] | None) -> str:
    """Register what stands for the environment of some data, and return its id.

    :param name: of the data.
    :param arrays: their ``observations`` and ``actions``.
    :param limits: the lowest and the highest action; None takes -1 and 1 if all actions are inside, else what each
        coordinate of the data reaches.
    """
    images, actions = arrays["observations"].dtype == np.uint8, arrays["actions"].astype(np.float32)
    least, most = (0, 255) if images else (-np.inf, np.inf)
    shape, kind = arrays["observations"].shape[1:], np.uint8 if images else np.float32
    low, high = actions.min(0), actions.max(0)
    if limits is not None:
        low, high = (np.full_like(low, limit) for limit in limits)
    elif np.abs(actions).max() <= 1:
        low, high = np.full_like(low, -1), np.full_like(low, 1)
    high = np.where(high > low, high, low + 1)  # of a coordinate that never changes
    env_id = PREFIX + "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)
    spaces = {"observations": Box(least, most, shape, kind), "actions": Box(low, high, dtype=np.float32)}
    gymnasium.registry.pop(env_id, None)
    gymnasium.register(
        env_id, entry_point=f"{__name__}:AbsentEnv", kwargs=spaces, max_episode_steps=1, disable_env_checker=True
    )
    return env_id
