"""Image frames stacked along the channels: an environment wrapper, and the space of single frames.

An observation contains the k newest frames, oldest first; an episode starts with k copies of its first frame.
Source: ``FrameStackWrapper`` in ``envs/env_utils.py`` and ``sample`` in ``utils/datasets.py`` of FQL's implementation.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from agents.common.validation import integer

Array = NDArray[Any]


def is_image(space: spaces.Space[Any]) -> TypeGuard[spaces.Box]:
    """Return whether SB3 treats observations as images; unlike SB3's function, this does not import PyTorch.

    :param space: observation space.
    :return: True for a Box of uint8 from 0 to 255 with three axes.
    """
    is_bytes = isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3
    return is_bytes and bool((space.low == 0).all() and (space.high == 255).all())  # type: ignore[attr-defined]


def channel_axis(shape: tuple[int, ...]) -> int:
    """Return the channel axis by SB3's rule: first if no other axis is shorter, else last.

    :param shape: shape of an image.
    :return: -3 or -1.
    """
    if np.argmin(shape) == 0:
        return -3
    return -1


class FrameStack(gymnasium.Wrapper[Array, Array, Array, Array]):
    """Wrapper that stacks the k newest frames along the channels, newest last.

    A model with ``frame_stack=k`` stores single frames, and expects datasets of single frames.

    :param env: environment with image observations, channels first or last.
    :param frames: k, at least 1.
    :raises ValueError: if observations are not images, or a side of the images is not longer than the number of
        stacked channels.

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
        if not is_image(space):
            raise ValueError(
                f"`frame_stack` needs images, uint8 from 0 to 255 of shape (H, W, C) or (C, H, W), got {space}; set "
                "it to 1"
            )
        self._axis = channel_axis(space.shape)
        self._channels = space.shape[self._axis]
        stacked_channels = self.frames * self._channels
        # SB3 treats the shortest axis as the channels
        if stacked_channels >= np.delete(space.shape, self._axis).min():
            raise ValueError(
                f"the sides of images must be longer than the {stacked_channels} channels of {frames} frames, got "
                f"shape {space.shape}; stack fewer frames"
            )
        shape = np.array(space.shape)
        shape[self._axis] = stacked_channels
        self.observation_space = spaces.Box(0, 255, shape.tolist(), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode; its first frame fills the stack.

        :param seed: seed of the environment.
        :param options: options of the environment.
        :return: stacked frames, and the environment's info.
        """
        frame, info = self.env.reset(seed=seed, options=options)
        # as in the reference, the stack is filled with the first frame, not with zeros
        self._stacked = np.concatenate([frame] * self.frames, self._axis)
        # a copy, because the caller may modify the array
        return self._stacked.copy(), info

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        """Step the environment, and replace the oldest frame by the new one.

        :param action: action of the environment.
        :return: the environment's values, with stacked frames as the observation.
        """
        frame, reward, terminated, truncated, info = self.env.step(action)
        frames = np.concatenate([self._stacked, frame], self._axis)
        _, self._stacked = np.split(frames, [self._channels], self._axis)
        return self._stacked.copy(), reward, terminated, truncated, info


def frame_space(space: spaces.Space[Any], frames: int) -> spaces.Space[Any]:
    """Return the space of one frame.

    :param space: space of k stacked frames, (k * channels, height, width).
    :param frames: k, above 1.
    :return: space of images (channels, height, width).
    :raises ValueError: if observations are not images, or the number of channels is not a multiple of k.
    """
    if not is_image(space) or space.shape[0] % frames:
        raise ValueError(
            f"`frame_stack` = {frames} needs {frames} image frames stacked along the channels, got {space}; wrap the "
            f"environment in `agents.FrameStack(env, {frames})`"
        )
    return spaces.Box(0, 255, (space.shape[0] // frames, *space.shape[1:]), np.uint8)
