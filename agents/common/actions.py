"""Actions of a Box as environments play them and as replay buffers store them."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from numpy.typing import NDArray

Array = NDArray[Any]


def scaled_actions(actions: Array, space: spaces.Box) -> Array:
    """Return actions of a box, (..., A), scaled to [-1, 1], as Stable-Baselines3's buffers store them."""
    return 2.0 * ((actions - space.low) / (space.high - space.low)) - 1.0


def unscaled_actions(scaled: Array, space: spaces.Box) -> Array:
    """Return actions of [-1, 1], (..., A), in the units of a box, clipped to it."""
    actions = space.low + 0.5 * (scaled + 1.0) * (space.high - space.low)
    return actions.clip(space.low, space.high)  # scaling rounds, so an end may lie outside


def played_actions(actions: Array, space: spaces.Box) -> Array:
    """Return actions, (..., A), as an environment plays them: inside its box and in its dtype."""
    return actions.clip(space.low, space.high).astype(space.dtype)
