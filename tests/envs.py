"""Small environments for tests."""

from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

SIDE = 36  # NatureCNN rejects smaller images
IMAGE = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
MIXED = spaces.Dict(
    {"image": IMAGE, "choice": spaces.Discrete(3), "vector": spaces.Box(-1, 1, (2,), np.float32)}
)


class SpacesEnv(gymnasium.Env):
    """Returns random observations in episodes of fixed length; observations and actions are vectors of given sizes."""

    def __init__(self, observation_size=4, action_size=2, episode_length=20):
        self.observation_space = spaces.Box(-np.inf, np.inf, (observation_size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (action_size,), np.float32)
        self.episode_length = episode_length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.elapsed = 0
        return self._observe(), {}

    def step(self, action):
        self.elapsed += 1
        return self._observe(), -1.0, False, self.elapsed >= self.episode_length, {}

    def _observe(self):
        return self.np_random.standard_normal(self.observation_space.shape).astype(np.float32)


def space_env_of(observations, actions=None, **settings):
    """Return an environment whose observations are samples of a space; actions default to [-1, 1]^2."""
    env = SpacesEnv(**settings)
    env.observation_space = observations
    env._observe = observations.sample
    observations.seed(0)
    env.action_space = actions or env.action_space
    return env


class PicturesEnv(gymnasium.Env):
    """A dot on an image, drawn by NumPy: actions move the dot, and the episode succeeds if it is in the right half.

    :param side: height and width in pixels.
    :param channels_first: whether images are (3, height, width) instead of (height, width, 3).
    :param as_dict: whether an observation is a Dict of the image and the dot's position.
    """

    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        side=16,
        episode_length=8,
        channels_first=False,
        as_dict=False,
        render_mode=None,
    ):
        shape = (3, side, side) if channels_first else (side, side, 3)
        picture = spaces.Box(0, 255, shape, np.uint8)
        place = spaces.Box(-1, 1, (2,), np.float32)
        parts = spaces.Dict({"picture": picture, "place": place})
        self.observation_space = parts if as_dict else picture
        self.as_dict = as_dict
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.side, self.episode_length = side, episode_length
        self.channels_first, self.render_mode = channels_first, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.elapsed, self.place = 0, self.np_random.uniform(-1, 1, 2)
        self.background = int(self.np_random.integers(64))  # distinguishes episodes
        return self._draw(), {}

    def step(self, action):
        self.elapsed += 1
        self.place = np.clip(self.place + 0.3 * action, -1, 1)
        success = bool(self.place[0] > 0)
        is_over = self.elapsed >= self.episode_length
        return self._draw(), float(success) - 1.0, False, is_over, {"success": success}

    def render(self):
        picture = np.full((self.side, self.side, 3), self.background, np.uint8)
        row, column = ((self.place + 1) / 2 * (self.side - 1)).astype(int)
        picture[row, column] = 255
        picture[0, 0] = self.elapsed  # makes all images of an episode different
        return picture

    def _draw(self):
        picture = self.render()
        if self.channels_first:
            picture = np.moveaxis(picture, -1, 0)
        parts = {"picture": picture, "place": self.place.astype(np.float32)}
        return parts if self.as_dict else picture


gymnasium.register("Pictures-v0", entry_point="tests.envs:PicturesEnv", max_episode_steps=8)
