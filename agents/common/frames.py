"""Frames of images stacked along their channels: an environment that stacks them, and the space of one of them.

An observation is its newest k frames, oldest first; at an episode's start the first frame stands in for those before.
Source: ``FrameStackWrapper`` in ``envs/env_utils.py`` and ``sample`` in ``utils/datasets.py`` of FQL's implementation.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from agents.common.validation import integer

Array = NDArray[Any]


def is_image(space: spaces.Space[Any]) -> bool:
    """Return whether observations are images as SB3 recognises them; unlike its own function this needs no PyTorch.

    :param space: of observations.
    :return: True for a Box of uint8 from 0 to 255 with three axes.
    """
    is_bytes = isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3
    return is_bytes and bool((space.low == 0).all() and (space.high == 255).all())  # type: ignore[attr-defined]


def channel_axis(shape: tuple[int, ...]) -> int:
    """Return where SB3 takes an image's channels to be: first, if no other axis is shorter, else last.

    :param shape: of an image.
    :return: the axis, counted from the end: -3 or -1.
    """
    if np.argmin(shape) == 0:
        return -3
    return -1


class FrameStack(gymnasium.Wrapper[Array, Array, Array, Array]):
    """Environment whose observation is its k newest frames, stacked along the channels, the newest last.

    A model with ``frame_stack=k`` stores single frames, and takes a dataset of single frames.

    :param env: environment with images, whose channels are first or last.
    :param frames: k, at least 1.
    :raises ValueError: if observations are not images, or have no more pixels a side than the stack has channels.

    >>> class Camera(gymnasium.Env):
    ...     observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    ...     action_space = spaces.Box(-1, 1, (2,))
    >>> FrameStack(Camera(), frames=3).observation_space.shape
    (64, 64, 9)
    """

    def __init__(self, env: gymnasium.Env[Array, Array], frames: int) -> None:
        super().__init__(env)
        self.frames = integer("frames", frames, at_least=1)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or not is_image(space):
            raise ValueError(
                f"frames are stacked of images, uint8 from 0 to 255 of shape (H, W, C) or (C, H, W), got observations "
                f"in {space}; leave `frame_stack` at 1"
            )
        self._axis = channel_axis(space.shape)
        self._channels = space.shape[self._axis]
        stacked_channels = self.frames * self._channels
        # SB3 takes the shortest axis for the channels
        if stacked_channels >= np.delete(space.shape, self._axis).min():
            raise ValueError(
                f"images must have more pixels a side than the {stacked_channels} channels of {frames} frames, got "
                f"{space.shape}; stack fewer"
            )
        shape = np.array(space.shape)
        shape[self._axis] = stacked_channels
        self.observation_space = spaces.Box(0, 255, tuple(shape.tolist()), np.uint8)
        self._stacked = np.zeros(0, np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode; its first frame fills the stack.

        :param seed: of the environment.
        :param options: of the environment.
        :return: the frames, and the environment's info.
        """
        frame, info = self.env.reset(seed=seed, options=options)
        # as in the reference, which repeats the first frame and does not pad with zeros
        self._stacked = np.concatenate([frame] * self.frames, self._axis)
        # the caller may write into it
        return self._stacked.copy(), info

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        """Take a step; its frame takes the place of the oldest.

        :param action: of the environment.
        :return: as the environment does, with the frames as the observation.
        """
        frame, reward, terminated, truncated, info = self.env.step(action)
        frames = np.concatenate([self._stacked, frame], self._axis)
        newest = range(-self.frames * self._channels, 0)
        self._stacked = frames.take(newest, self._axis)
        return self._stacked.copy(), reward, terminated, truncated, info


def frames_of(model: Any) -> int:
    """Return how many frames a model or policy sees at a time.

    :param model: of any library; those of others see one.
    :return: k.
    """
    return getattr(getattr(model, "method", None), "frame_stack", 1)


def frame_space(space: spaces.Space[Any], frames: int) -> spaces.Space[Any]:
    """Return the space of one frame.

    :param space: of k frames stacked along the channels, (k * channels, height, width).
    :param frames: k, above 1.
    :return: images (channels, height, width).
    :raises ValueError: if observations are not images, or their channels are no multiple of k.
    """
    if not isinstance(space, spaces.Box) or not is_image(space) or space.shape[0] % frames:
        raise ValueError(
            f"`frame_stack` = {frames} expects images that are {frames} frames stacked along the channels, got "
            f"observations in {space}; wrap the environment in `agents.FrameStack(env, {frames})`"
        )
    return spaces.Box(0, 255, (space.shape[0] // frames, *space.shape[1:]), np.uint8)
