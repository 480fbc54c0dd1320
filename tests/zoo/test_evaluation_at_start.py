"""Evaluation before the first update: it changes nothing of what comes after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import agents
from benchmarks.fault_suite.programs import Programs
from tests.zoo.envs import toys  # noqa: F401  registers the toys
from tests.zoo.test_resume_program import KILLED, Runner, assert_same_run, folder_of
from tests.zoo.test_train_program import ENV, arguments
from zoo.playing.evaluate import Evaluator
from zoo.train import main

pytestmark = pytest.mark.filterwarnings("ignore:no state in:UserWarning")  # two episodes need not reach the goal
AT_START = "eval_at_start=true"


def evaluations(logs: Path, number: int = 1) -> dict[str, np.ndarray]:
    with np.load(folder_of(logs, number) / "evaluations.npz") as found:
        return dict(found)


def model_of(logs: Path, name: str = f"{ENV}.zip") -> agents.QAM:
    return agents.QAM.load(folder_of(logs) / name, device="cpu")


@pytest.fixture(scope="module")
def without(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("without")
    assert main([*arguments(data, logs, "learning_starts=2"), "--online-steps", "20"]) == 0
    return logs


@pytest.mark.slow
def test_training_and_the_other_evaluations_are_those_of_a_run_without_it(
    data: Path, tmp_path: Path, without: Path
) -> None:
    words = [*arguments(data, tmp_path, "learning_starts=2"), "--online-steps", "20"]
    assert main([*words, "--eval-at-start", "--eval-mode", "async"]) == 0
    found, expected = evaluations(tmp_path), evaluations(without)
    assert found["timesteps"].tolist() == [0, *expected["timesteps"]] == [0, 10, 20, 30, 40]
    assert found["phase"].tolist() == [0, 0, 0, 1, 1]  # one evaluation where the online phase begins
    for name, column in expected.items():
        assert np.array_equal(found[name][1:], column), name
    first, second = (model_of(logs).policy.state_dict() for logs in (tmp_path, without))
    assert all(torch.equal(first[name], second[name]) for name in second)
    assert yaml.safe_load((folder_of(tmp_path) / "config.yml").read_text())["eval_at_start"] is True


@pytest.mark.parametrize(("algo", "settings"), [("qam", ["net_arch=[8]", "ensemble_size=2"]), ("sac", [])])
def test_an_online_run_begins_in_the_online_phase(tmp_path: Path, algo: str, settings: list[str]) -> None:
    words = ["--algo", algo, "--env", "Toy-v0", "--online-steps", "20", "-f", str(tmp_path), "--seed", "1"]
    words += ["--eval-freq", "10", "--eval-episodes", "2", "--n-eval-envs", "1", "--verbose", "0", "--eval-at-start"]
    assert main([*words, "-params", *settings, "batch_size=8", "learning_starts=5"]) == 0
    with np.load(tmp_path / algo / "Toy-v0_1" / "evaluations.npz") as found:
        assert found["timesteps"].tolist() == [0, 10, 20]
        assert found["phase"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(("bonus", "best"), [(0.0, 10), (1.0, 0)], ids=["as good as after training", "better"])
def test_an_untrained_model_is_the_best_only_if_it_is_better(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bonus: float, best: int
) -> None:
    """No model reaches the goal in 30 steps, so all returns are equal."""
    finish, steps = Evaluator.finish, []

    def changed(self: Evaluator) -> object:
        results = finish(self)
        steps.append(len(steps))
        return replace(results, returns=results.returns + (bonus if len(steps) == 1 else 0))

    monkeypatch.setattr(Evaluator, "finish", changed)
    assert main([*arguments(data, tmp_path, AT_START)]) == 0
    assert len(steps) == 3
    assert len({*evaluations(tmp_path)["results"][1:].ravel()}) == 1
    assert model_of(tmp_path, "best_model.zip").num_timesteps == best


@pytest.fixture(scope="module")
def run(data: Path, programs: Programs) -> Runner:
    return Runner(data, programs)


@pytest.fixture(scope="module")
def whole(run: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("whole")
    assert run(logs, AT_START) == 0
    return logs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kill", "by"),
    [
        (("evaluation", 1), "SIGKILL"),  # between the first result and the first update
        (("play", 1), "SIGTERM"),  # within the first evaluation, made again
        (("update", 3), "SIGKILL"),  # before the first checkpoint
        (("update", 18), "SIGKILL"),
        (("step", 25), "SIGKILL"),  # online
    ],
    ids=str,
)
def test_a_run_resumes_across_it(run: Runner, whole: Path, tmp_path: Path, kill: tuple[str, int], by: str) -> None:
    assert run(tmp_path, AT_START, kill=kill, by=by) == {"SIGKILL": KILLED, "SIGTERM": 3}[by]
    assert run(tmp_path, AT_START) == 0
    assert_same_run(tmp_path, whole)
    assert evaluations(tmp_path)["timesteps"].tolist() == [0, 10, 20, 24, 30, 40, 50, 60, 70, 80, 84]
