"""Observations as a policy's ``plan`` takes them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class Rows:
    """Turns an environment's observations into rows: vectors as they are, all others as the policy's networks do.

    :param policy: has a ``layout`` if observations are images or Dicts.
    :param space: of the environment's observations.
    """

    def __init__(self, policy: Any, space: gymnasium.Space[Any]) -> None:
        self.shape: tuple[int, ...]
        if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
            self._layout, self.shape, self.dtype = None, space.shape, space.dtype
        else:
            self._layout = policy.layout
            self.shape, self.dtype = (self._layout.size,), np.dtype(self._layout.numpy_dtype)

    def blank(self, *leading: int) -> np.ndarray:
        """Return rows of zeros, (*leading, O)."""
        return np.zeros((*leading, *self.shape), self.dtype)

    def __call__(self, observations: Any) -> np.ndarray:
        """Return observations (N, ...), by name in a Dict space, as rows (N, O)."""
        rows: np.ndarray = observations if self._layout is None else self._layout.rows(observations)
        return rows
