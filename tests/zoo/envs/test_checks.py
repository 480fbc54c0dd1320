"""Values that environments return: wrong types and shapes are rejected by name, before work starts and at each step."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from numpy.testing import assert_array_equal

from tests.envs import IMAGE, MIXED, PicturesEnv, space_env_of
from tests.zoo.envs.toys import TOY, SpringEnv
from tests.zoo.helpers import TINY
from tests.zoo.outcomes import refuses, status_of
from zoo.envs.checks import (
    RepeatableEnv,
    check_same_spaces,
    check_spaces,
    policy_name,
    read_observation,
)
from zoo.envs.make import make_env, try_env
from zoo.terminal.errors import EnvironmentFault
from zoo.train import main

INTEGERS = spaces.Box(0, 100, (2,), np.int32)
FLOATS = spaces.Box(-1, 1, (2,), np.float32)
NO_ACTION = np.zeros(2, np.float32)


class OddSpring(SpringEnv):
    """A spring whose return values violate Gymnasium's API.

    :param changes: index of a value that `step` returns -> replacement.
    """

    def __init__(self, changes):
        self.changes = changes

    def step(self, action):
        values = dict(enumerate(super().step(action)))
        return tuple((values | self.changes).values())


class OldSpring(SpringEnv):
    """A spring whose `reset` returns only the observation."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class SeedlessSpring(SpringEnv):
    """A spring with the API of old Gym, whose `reset` takes no seed."""

    def reset(self):
        return super().reset()[0]


def checked(env):
    return RepeatableEnv(TimeLimit(env, 20), keep_info=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({1: np.array([0.5])}, r"one number, got float64 of shape \(1,\) "),
        ({2: None}, "`terminated` must be 0 or 1, got None"),
        ({4: None}, "an info must be a dict, got None"),
        ({4: {"success": np.array([1])}}, r"must be 0 or 1, got int64 of shape \(1,\)"),
        ({0: np.zeros(2)}, r"float64 of shape \(4,\).*, got float64 of shape \(2,\)"),
        ({5: None}, "must follow Gymnasium's API, got too many values to unpack"),
    ],
)
def test_another_form_of_a_step_is_refused_before_work(changes, message):
    remedies = f"{message}.*: correct it, or [a-z]+|{message}.*; correct it, or [a-z]+"
    with refuses(f"(?s){remedies}"):
        try_env(checked(OddSpring(changes)))


def test_another_form_of_a_reset_is_refused_before_work():
    with refuses(r"`reset` must return \(observation, info\), got float64"):
        try_env(checked(OldSpring()))
    with refuses(r"must follow Gymnasium's API, got .*unexpected keyword argument 'seed'; correct"):
        try_env(checked(SeedlessSpring()))


def test_numbers_of_random_actions_are_no_reason_to_refuse():
    try_env(checked(OddSpring({1: np.nan})))


@pytest.mark.parametrize(
    ("space", "observation"),
    [
        (INTEGERS, np.array([2**40, 1])),
        (FLOATS, np.array(["a", "b"])),
        (spaces.Discrete(3, start=3), 1),
    ],
)
def test_an_observation_that_its_space_cannot_hold_is_refused(space, observation):
    with refuses(r"must be .*, got "):
        read_observation(space, observation)


@pytest.mark.parametrize(
    ("space", "observation"),
    [
        (INTEGERS, np.array([200, 1], np.int16)),
        (FLOATS, np.array([0.25, 1])),
        (FLOATS, [0.25, 1]),
        (spaces.Discrete(3, start=3), 4),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 2])),
    ],
)
def test_what_passes_has_the_dtype_of_its_space_and_is_a_copy(space, observation):
    read = read_observation(space, observation)
    assert read.dtype == space.dtype
    assert_array_equal(read, observation)
    assert not np.shares_memory(read, np.asarray(observation))


def test_an_environment_returns_what_it_did_with_checks():
    bare, env = gymnasium.make("Pendulum-v1"), make_env("Pendulum-v1")
    assert_array_equal(env.reset(seed=3)[0], bare.reset(seed=3)[0])
    for action in np.linspace(-2, 2, 5, dtype=np.float32):
        expected, actual = bare.step(action[None]), env.step(action[None])
        assert_array_equal(actual[0], expected[0])
        assert actual[1:] == expected[1:]


# -- the spaces of a model --------------------------------------------------------------------------------------------

CHOICES, LATER_CHOICES = (spaces.Dict({"a": spaces.Discrete(3, start=k)}) for k in (0, 1))


@pytest.mark.parametrize(
    ("trained", "played", "message"),
    [
        (
            (FLOATS, FLOATS),
            (FLOATS, spaces.Box(np.array([-1, -1], np.float32), np.array([1, 10], np.float32))),
            r"from \[-1.0, -1.0\] to \[1.0, 1.0\], got \[.*10.0\] in Mine",
        ),
        (
            (FLOATS, FLOATS),
            (spaces.Box(-1, 1, (3,)), FLOATS),
            r"Box\(2,\) of .*, got Box\(3,\) of float32 in Mine",
        ),
        ((CHOICES, FLOATS), (LATER_CHOICES, FLOATS), r"Dict\(a: Disc.*, got .*\(3, start=1\)\)"),
    ],
)
def test_a_model_is_played_with_its_own_spaces_only(trained, played, message):
    with refuses(f"model.zip was trained with .*{message}"):
        check_same_spaces("model.zip", trained, "Mine-v0", played)
    check_same_spaces("model.zip", trained, "Mine-v0", trained)


# -- observations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "name"), [(FLOATS, "MlpPolicy"), (IMAGE, "CnnPolicy"), (MIXED, "MultiInputPolicy")]
)
def test_the_policy_follows_from_the_observations(space, name):
    assert policy_name(space) == name
    check_spaces("Any-v0", space_env_of(space))


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            space_env_of(spaces.Box(0, 100, (16, 16, 3), np.uint8)),
            "of uint8, expected .*uint8 from 0 to 255",
        ),
        (
            space_env_of(spaces.Box(0, 255, (16, 16), np.uint8)),
            r"Box\(16, 16\) of uint8, expected .* \(H, W, C\)",
        ),
        (
            space_env_of(spaces.Dict({"a": spaces.Tuple([FLOATS])})),
            r"the observation space Tuple\(.*\) for `a`",
        ),
        (space_env_of(spaces.Dict({"a.b": FLOATS})), "observations called `a.b`"),
        (
            space_env_of(FLOATS, spaces.Box(-1, 1, (2,), np.float16)),
            "of float16, expected .* float32 or float64",
        ),
        (
            space_env_of(FLOATS, spaces.Box(np.float32([-1, 0]), np.float32([1, 0]))),
            "`Any-v0` has actions from 0 to 0 in coordinate 1",
        ),
    ],
)
def test_other_spaces_are_refused_with_a_way_on(env, message):
    with refuses(message):
        check_spaces("Any-v0", env)


def test_infos_are_copies_without_the_entry_of_monitors():
    info = {"episode": 3, "place": 1}
    env = checked(OddSpring({4: info}))
    env.reset(seed=0)
    assert env.step(NO_ACTION)[-1] == {"place": 1}
    assert info == {"episode": 3, "place": 1}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "must have the parts of"),
        ({"place": np.float16([0, np.inf])}, "got observation place inf from"),
    ],
)
def test_a_dict_that_breaks_its_promise_is_environments_fault(parts, message):
    pictures = PicturesEnv(as_dict=True)
    env = RepeatableEnv(pictures, keep_info=True)
    env.reset(seed=0)
    env.step(NO_ACTION)
    pictures._draw = lambda: {"picture": pictures.render(), **parts}
    with pytest.raises(EnvironmentFault, match=f"{message}.* at step 2 of its episode"):
        env.step(NO_ACTION)


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "wrong", "message"),
    [
        ("observation", np.nan, "got observation nan"),
        ("reward", np.inf, "got reward inf"),
        ("success", 7.0, "must be 0 or 1, got 7.0"),
    ],
)
def test_a_value_that_cannot_be_trained_on_is_named_at_its_step(tmp_path, failure, wrong, message):
    env = make_env(TOY, failure=failure, failure_file=str(tmp_path / "fail"), wrong=wrong)
    env.reset(seed=1)
    for _ in range(2):
        env.step(NO_ACTION)
    (tmp_path / "fail").touch()
    with pytest.raises(EnvironmentFault, match=f"{message} from `Toy-v0` at step 3 of"):
        env.step(NO_ACTION)


def test_a_run_ends_at_that_step_and_says_so(tmp_path, capsys):
    (tmp_path / "fail").touch()
    words = (
        f"--algo qam --env Toy-v0 --offline-steps 0 --online-steps 9 -f {tmp_path} "
        "--eval-episodes 1 --verbose 0 --seed 1 --eval-env-kwargs failure_file=/nowhere "
        f"--env-kwargs failure=reward failure_file={tmp_path / 'fail'} wrong=1e300"
    ).split()
    assert main([*words, "-params", *TINY]) == 1
    status = status_of(tmp_path / "qam" / "Toy-v0_1")
    assert (status["state"], status["online_step"]) == ("failed", 0)
    for text in (status["reason"], capsys.readouterr().err):
        assert "got reward 1e+300 from `Toy-v0` at step 1 of its" in text
        assert "diverged" not in text
