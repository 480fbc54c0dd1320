"""Which observations can be trained on, and how those of several environments are put together."""

import numpy as np
import pytest
from gymnasium import spaces
from numpy.testing import assert_array_equal

from tests.envs import PicturesEnv, space_env_of
from zoo.envs.border import check_spaces, join, policy_name, stack
from zoo.envs.make import RepeatableEnv, make_env
from zoo.terminal.errors import EnvironmentFault, UsageError

ENV = "tests.envs:Pictures-v0"
IMAGE = spaces.Box(0, 255, (16, 16, 3), np.uint8)
VECTOR = spaces.Box(-1, 1, (2,), np.float32)
MIXED = spaces.Dict({"image": IMAGE, "vector": VECTOR, "choice": spaces.Discrete(3)})


@pytest.mark.parametrize(
    ("space", "name"), [(VECTOR, "MlpPolicy"), (IMAGE, "CnnPolicy"), (MIXED, "MultiInputPolicy")]
)
def test_the_policy_follows_from_the_observations(space, name):
    assert policy_name(space) == name
    check_spaces("Any-v0", space_env_of(space))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(0, 100, (16, 16, 3), np.uint8), r"of uint8, expected .*uint8 from 0 to 255"),
        (
            spaces.Box(0, 255, (16, 16), np.uint8),
            r"Box\(16, 16\) of uint8, expected .* \(H, W, C\)",
        ),
        (spaces.Discrete(3), r"the observation space Discrete\(3\), expected a vector"),
        (spaces.Dict({"a": spaces.Tuple([VECTOR])}), r"the observation space Tuple\(.*\) for `a`"),
        (spaces.Dict({"a": spaces.Dict({"b": VECTOR})}), r"Dict\(b: Box\(2,\)\) for `a`"),
    ],
)
def test_other_observations_are_refused_with_a_way_on(space, message):
    with pytest.raises(UsageError, match=message):
        check_spaces("Any-v0", space_env_of(space))


def test_observations_are_stacked_and_joined_by_their_parts():
    MIXED.seed(0)
    samples = [MIXED.sample() for _ in range(5)]
    joined = join([stack(MIXED, part) for part in ([], samples[:2], samples[2:])])
    for name in MIXED.spaces:
        assert_array_equal(joined[name], [sample[name] for sample in samples])
    assert stack(IMAGE, []).shape == (0, 16, 16, 3)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "must have the parts of"),
        ({"place": np.array([0, np.inf], np.float32)}, "got observation place inf from"),
    ],
)
def test_a_dict_that_breaks_its_promise_is_the_environments_fault(parts, message):
    pictures = PicturesEnv(as_dict=True)
    env = RepeatableEnv(pictures, keep_info=True)
    env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    pictures._draw = lambda: {"picture": pictures.render(), **parts}
    with pytest.raises(EnvironmentFault, match=f"{message}.* at step 2 of its episode"):
        env.step(np.zeros(2, np.float32))


def test_frames_are_stacked_with_a_repeatable_reset():
    first, second = (make_env(ENV, frame_stack=3) for _ in range(2))
    assert_array_equal(first.reset(seed=4)[0], second.reset(seed=4)[0])
    assert first.observation_space.shape == (16, 16, 9)
    with pytest.raises(UsageError, match="frames are stacked of images"):
        make_env("Pendulum-v1", frame_stack=2)
