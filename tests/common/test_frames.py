"""Frames stacked by an environment: which ones, in which order, and of which spaces."""

import numpy as np
import pytest
from gymnasium import spaces

from agents.common.frames import FrameStack
from tests.envs import MIXED, PicturesEnv, space_env_of


def played(env, steps):
    """Return the observations of an episode."""
    observations = [env.reset(seed=0)[0]]
    for _ in range(steps):
        observations.append(env.step(env.action_space.low)[0])
    return observations


@pytest.mark.parametrize("is_first", [True, False])
def test_an_observation_is_the_newest_frames_and_the_first_one_is_repeated(is_first):
    frames = played(PicturesEnv(channels_first=is_first), 4)
    stacked = played(FrameStack(PicturesEnv(channels_first=is_first), 3), 4)
    axis = 0 if is_first else -1
    for step, observation in enumerate(stacked):
        expected = [frames[max(step - back, 0)] for back in (2, 1, 0)]
        np.testing.assert_array_equal(observation, np.concatenate(expected, axis))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(0, 1, (16, 16, 3), np.float32), "uint8 from 0 to 255"),
        (MIXED, "uint8 from 0 to 255"),
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), "the 9 channels of 3 frames"),
    ],
)
def test_other_observations_are_refused(space, message):
    with pytest.raises(ValueError, match=message):
        FrameStack(space_env_of(space), 3)
