"""Values of environments that cannot be trained on are named where they appear, and nobody else is blamed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.zoo.conftest import pretend_cores
from tests.zoo.envs.toys import TOY
from tests.zoo.playing.test_evaluate import ElementwisePolicy
from tests.zoo.test_train_program import TINY
from zoo.envs.make import RepeatableEnv, make_env
from zoo.errors import EnvironmentFault
from zoo.playing.evaluate import Evaluator
from zoo.train import main

FAULTS = [
    ("observation", r"got observation\[1\] = nan from `Toy-v0`, {}, at step {} of its episode; this is a fault of"),
    ("reward", r"got reward = inf from `Toy-v0`, {}, at step {} of its episode; this is a fault of the environment"),
]


def failing_after(steps: int, failure: str, switch: Path) -> RepeatableEnv:
    env = make_env(TOY, failure=failure, failure_file=str(switch))
    env.be_called("the toy")
    env.reset(seed=1)
    for _ in range(steps):
        env.step(np.zeros(2, np.float32))
    switch.touch()
    return env


@pytest.mark.parametrize(("failure", "message"), FAULTS, ids=["observation", "reward"])
def test_a_value_that_is_not_finite_is_named_at_its_step(tmp_path: Path, failure: str, message: str) -> None:
    env = failing_after(2, failure, tmp_path / "fail")
    with pytest.raises(EnvironmentFault, match=message.format("the toy", 3)):
        env.step(np.zeros(2, np.float32))


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_large_values_whose_sum_overflows_are_left_alone() -> None:
    env = make_env(TOY)
    env._check(np.full(3, np.finfo(np.float32).max, np.float32), 0.0)


@pytest.mark.parametrize("cores", [1, 3], ids=["in this process", "in others"])
@pytest.mark.parametrize(("failure", "message"), FAULTS, ids=["observation", "reward"])
def test_an_evaluation_says_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, failure: str, message: str
) -> None:
    pretend_cores(monkeypatch, cores)
    (tmp_path / "fail").touch()
    kwargs = {"failure": failure, "failure_file": str(tmp_path / "fail")}
    with (
        Evaluator(TOY, episodes=3, n_envs=3, seed=0, env_kwargs=kwargs) as evaluator,
        pytest.raises(EnvironmentFault, match=message.format("evaluation environment [012]", 1)),
    ):
        evaluator.evaluate(ElementwisePolicy())


@pytest.mark.parametrize("algo", ["qam", "sac"])
@pytest.mark.parametrize(
    ("failure", "found"), [("observation", "got observation[1] = nan"), ("reward", "got reward = inf")]
)
def test_a_run_ends_at_that_step_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], algo: str, failure: str, found: str
) -> None:
    (tmp_path / "fail").touch()
    words = ["--algo", algo, "--env", "Toy-v0", "--offline-steps", "0", "--online-steps", "9", "-f", str(tmp_path)]
    words += ["--eval-episodes", "1", "--verbose", "0", "--seed", "1", "--eval-env-kwargs", "success=sign"]
    words += ["--env-kwargs", f"failure={failure}", f"failure_file={tmp_path / 'fail'}"]
    assert main([*words, "-params", *(TINY if algo == "qam" else ["learning_starts=3"])]) == 1
    status = json.loads((tmp_path / algo / "Toy-v0_1" / "status.json").read_text())
    assert (status["state"], status["online_step"]) == ("failed", 0)
    for text in (status["reason"], capsys.readouterr().err):
        assert f"{found} from `Toy-v0`, training environment 0, at step 1 of its episode" in text
        assert "learning_rate" not in text
        assert "diverged" not in text
