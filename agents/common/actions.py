"""Actions of a Box as environments play them and as replay buffers store them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Array = NDArray[Any]


def holds_integers(space: spaces.Space[Any]) -> bool:
    """Return whether the actions of a space are whole numbers."""
    return space.dtype is not None and space.dtype.kind in "iu"


def action_bounds(space: spaces.Box) -> tuple[Array, Array]:
    """Return the lowest and the highest action of a box, as float64 where it holds integers."""
    if holds_integers(space):  # the width of a box of int8 does not fit into int8
        return space.low.astype(np.float64), space.high.astype(np.float64)
    return space.low, space.high


def scaled_actions(actions: Array, space: spaces.Box) -> Array:
    """Return actions of a box, (..., A), scaled to [-1, 1], as Stable-Baselines3's buffers store them."""
    low, high = action_bounds(space)
    return 2.0 * ((actions - low) / (high - low)) - 1.0


def unscaled_actions(scaled: Array, space: spaces.Box) -> Array:
    """Return actions of [-1, 1], (..., A), in the units of a box, clipped to it; integers are not rounded yet."""
    low, high = action_bounds(space)
    actions = low + 0.5 * (scaled + 1.0) * (high - low)
    return actions.clip(low, high)  # scaling rounds, so an end may lie outside


def played_actions(actions: Array, space: spaces.Box) -> Array:
    """Return actions, (..., A), as an environment plays them: inside its box and in its dtype.

    Where the box holds integers, actions are rounded to the nearest one: a cast would cut fractions off, so that the
    highest action was hardly ever played.

    :param actions: in the environment's units, (..., A).
    :param space: the environment's box.
    :return: the same shape.
    :raises FloatingPointError: for a NaN or an infinity that is to become an integer.
    """
    if holds_integers(space):
        if not np.isfinite(actions).all():
            raise FloatingPointError(
                f"actions must be finite to be played in {space}, got NaN or infinity"
            )
        actions = np.rint(actions)
    return actions.clip(*action_bounds(space)).astype(space.dtype)


def stored_as_played(actions: Array, scaled: Array, space: spaces.Box) -> tuple[Array, Array]:
    """Return what is played and what a replay buffer stores of planned actions: both change where they are rounded.

    :param actions: in the environment's units, (..., A).
    :param scaled: the same, scaled to [-1, 1].
    :param space: the environment's box.
    :return: both, the second as it is stored.
    """
    if not holds_integers(space):
        return actions, scaled
    played = played_actions(actions, space)
    return played, scaled_actions(played, space)
