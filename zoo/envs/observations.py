"""Observations that can be trained on: vectors, images, and Dicts of these; and how those of many are put together.

Nothing here imports PyTorch, since the processes of environments do without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from agents.common.frames import channel_axis, is_image
from zoo.terminal.errors import UsageError

CHOICES = spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
_WHAT_FITS = "a vector, an image (uint8 from 0 to 255, shape (H, W, C) or (C, H, W)), or a Dict of these and choices"


def refuse_unfit(env_id: str, env: gymnasium.Env[Any, Any]) -> None:
    """Raise UsageError for spaces that cannot be trained on, and for wrappers whose statistics outlive a reset."""
    actions, observations = env.action_space, env.observation_space
    if not isinstance(actions, spaces.Box) or len(actions.shape) != 1:
        raise UsageError(
            f"`{env_id}` has the action space {_describe(actions)}, expected a one-dimensional Box; choose an "
            "environment with continuous actions"
        )
    if (actions.low >= actions.high).any():
        raise UsageError(
            f"`{env_id}` has actions with low >= high in coordinate {int(np.argmax(actions.low >= actions.high))}, "
            "expected a range to choose from; leave out coordinates that cannot move in a wrapper"
        )
    parts = observations.spaces if isinstance(observations, spaces.Dict) else {"": observations}
    for key, part in parts.items():
        if is_image(part) or (isinstance(part, spaces.Box) and len(part.shape) == 1):
            continue
        if not key or not isinstance(part, CHOICES):
            raise UsageError(
                f"`{env_id}` has the observation space {_describe(part)}{f' for `{key}`' if key else ''}, expected "
                f"{_WHAT_FITS}; convert it in a wrapper: gymnasium.wrappers.FlattenObservation makes a vector, and "
                "`(255 * image).round().astype(np.uint8)` an image of numbers from 0 to 1"
            )
    while isinstance(env, gymnasium.Wrapper):
        if getattr(env, "update_running_mean", False):  # e.g. of `NormalizeObservation`
            raise UsageError(
                f"an episode of `{env_id}` must not depend on those before it, got the wrapper {type(env).__name__}, "
                "whose statistics go on; scale observations by the data (`observation_scale`), or give the wrapper "
                "fixed statistics (`update_running_mean = False`)"
            )
        env = env.env


def policy_name(space: spaces.Space[Any]) -> str:
    """Return SB3's name of the policy for observations of a space."""
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image(space) else "MlpPolicy"


def shape_of(space: spaces.Space[Any]) -> Any:
    """Return the shape of observations, by name in a Dict space; of images with the channels first, as in a model."""
    if isinstance(space, spaces.Dict):
        return {key: shape_of(part) for key, part in space.spaces.items()}
    shape: Any = space.shape
    return (shape[-1], *shape[:-1]) if is_image(space) and channel_axis(shape) == -1 else shape


def broken_promise(space: spaces.Space[Any], observation: Any) -> str | None:
    """Return how an observation differs from its space, as the beginning of a message; None if it does not."""
    if isinstance(space, spaces.Dict):
        if not isinstance(observation, dict) or space.spaces.keys() - observation.keys():
            return f"an observation must have the parts of {space}, got others"
        found = (broken_promise(part, observation[key]) for key, part in space.spaces.items())
        return next(filter(None, found), None)
    there = np.asarray(observation)
    if not is_image(space) or (there.dtype, there.shape) == (space.dtype, space.shape):
        return None
    return f"an image must be uint8 of shape {space.shape} as its space says, got {there.dtype} of shape {there.shape}"


def vectors_of(observation: Any) -> dict[str, Any]:
    """Return the parts of an observation that hold floating-point numbers, by what messages call them."""
    if isinstance(observation, dict):
        return {f"observation {key}": part for key, part in observation.items() if np.asarray(part).dtype.kind == "f"}
    return {"observation": observation} if observation.dtype.kind == "f" else {}


def stack(space: spaces.Space[Any], observations: Sequence[Any]) -> Any:
    """Return observations as one array (N, ...), or as one of each part."""
    if isinstance(space, spaces.Dict):
        return {key: stack(part, [each[key] for each in observations]) for key, part in space.spaces.items()}
    return np.array(observations, space.dtype).reshape(-1, *(space.shape or ()))


def join(parts: Sequence[Any]) -> Any:
    """Return several results of :func:`stack` as one."""
    if isinstance(parts[0], dict):
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return np.concatenate(parts)


def _describe(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Box):
        return f"Box{space.shape} of {space.dtype}" if len(space.shape) > 1 else f"Box{space.shape}"
    return f"{type(space).__name__}{space.shape}" if space.shape is not None else type(space).__name__
