"""Small environments for tests."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class SpacesEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """Has spaces and otherwise does as little as an environment can: fixed-length episodes of random observations."""

    def __init__(self, observation_size: int, action_size: int, episode_length: int = 20) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (observation_size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (action_size,), np.float32)
        self.episode_length = episode_length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.elapsed = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.elapsed += 1
        return self._observe(), -1.0, False, self.elapsed >= self.episode_length, {}

    def _observe(self) -> np.ndarray:
        return self.np_random.standard_normal(self.observation_space.shape).astype(np.float32)
