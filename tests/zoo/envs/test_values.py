"""Values of environments that cannot be trained on are named where they appear, and nobody else is blamed."""

import numpy as np
import pytest

from tests.zoo.envs.toys import TOY
from tests.zoo.helpers import TINY
from tests.zoo.outcomes import status_of
from zoo.envs.make import make_env
from zoo.terminal.errors import EnvironmentFault
from zoo.train import main

FAULTS = [
    ("observation", np.nan, "got observation nan"),
    ("observation", 1e300, r"got observation 1e\+300"),
    ("reward", np.inf, "got reward inf"),
    ("success", 7.0, "must be 0 or 1, got 7.0"),
]


@pytest.mark.parametrize(("failure", "wrong", "message"), FAULTS)
def test_a_value_that_cannot_be_trained_on_is_named_at_its_step(tmp_path, failure, wrong, message):
    env = make_env(TOY, failure=failure, failure_file=str(tmp_path / "fail"), wrong=wrong)
    env.set_name("the toy")
    env.reset(seed=1)
    for _ in range(2):
        env.step(np.zeros(2, np.float32))
    (tmp_path / "fail").touch()
    with pytest.raises(EnvironmentFault, match=f"{message} from `Toy-v0`, the toy, at step 3 of"):
        env.step(np.zeros(2, np.float32))


def test_success_may_stand_beside_an_empty_entry_of_the_other_name():
    env = make_env(TOY, success=None)
    env.unwrapped._info = lambda: {"success": None, "is_success": True}
    env.reset(seed=1)
    assert env.step(np.zeros(2, np.float32))[-1] == {"success": 1, "is_success": True}


def test_an_observation_stays_as_it_is_when_the_environment_writes_into_its_own():
    env = make_env("Odometer-v0")
    observations = [env.reset(seed=1)[0]]
    for _ in range(2):
        observations.append(env.step(np.ones(2, np.float32))[0])
    np.testing.assert_array_equal(np.ravel(observations), [0.5, 1.5, 2.5])


@pytest.mark.parametrize("algo", ["qam", "sac"])
def test_a_run_ends_at_that_step_and_says_so(tmp_path, capsys, algo):
    (tmp_path / "fail").touch()
    words = (
        f"--algo {algo} --env Toy-v0 --offline-steps 0 --online-steps 9 -f {tmp_path} "
        "--eval-episodes 1 --verbose 0 --seed 1 --eval-env-kwargs success=sign "
        f"--env-kwargs failure=reward failure_file={tmp_path / 'fail'} wrong=1e300"
    ).split()
    assert main([*words, "-params", *(TINY if algo == "qam" else ["learning_starts=3"])]) == 1
    status = status_of(tmp_path / algo / "Toy-v0_1")
    assert (status["state"], status["online_step"]) == ("failed", 0)
    for text in (status["reason"], capsys.readouterr().err):
        assert "got reward 1e+300 from `Toy-v0`, training environment 0, at step 1 of its" in text
        assert "diverged" not in text
