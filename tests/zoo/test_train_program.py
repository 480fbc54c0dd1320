"""The training program, end to end on a small generated maze dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import agents
from benchmarks.fault_suite.programs import Programs
from tests.zoo.envs import toys
from tests.zoo.outcomes import call
from zoo.train import main

ENV = "pointmaze-medium-navigate-singletask-task1-v0"
TINY = ["net_arch=[16,16]", "ensemble_size=2", "flow_steps=2", "batch_size=16", "horizon_length=2", "buffer_size=1000"]
EVALUATIONS = ["--eval-freq", "10", "--eval-episodes", "2", "--n-eval-envs", "1"]
OF_RUNS = ["--eval-seed", "5", "--save-freq", "10"]  # of the fixture `runs`
ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.filterwarnings("ignore:no state in:UserWarning")  # two episodes need not reach the goal


def arguments(
    data: Path, logs: Path, *more: str, steps: int = 20, seeds: tuple[str, ...] = ("--seed", "3"), verbose: int = 0
) -> list[str]:
    words = ["--algo", "qam", "--env", ENV, "--dataset-dir", str(data), "-f", str(logs), *seeds]
    words += ["--verbose", str(verbose), "--offline-steps", str(steps), *EVALUATIONS]
    return [*words, "--env-kwargs", "max_episode_steps=30", "--log-interval", "5", "-params", *TINY, *more]


def train(capsys: pytest.CaptureFixture[str], words: list[str]) -> tuple[int, dict[str, Any], str]:
    return call(capsys, main, *words)


@pytest.fixture
def finished(runs: Path) -> Path:
    return runs / "qam" / f"{ENV}_1"


def test_a_run_leaves_everything_in_its_folder(finished: Path) -> None:
    names = {path.name.partition(".tfevents")[0] for path in finished.iterdir()}
    assert names == {
        "config.yml", "args.yml", "command.txt", "versions.json", "status.json", "progress.csv", "events.out",
        "evaluations.npz", "checkpoint", f"{ENV}.zip", "best_model.zip", "learning_curve.png", "run.log",
        "manifest.json",
    }  # fmt: skip


def test_the_configuration_is_recorded_in_full(finished: Path) -> None:
    config = yaml.safe_load((finished / "config.yml").read_text())
    assert (config["algo"], config["env"], config["seed"], config["seeds"]) == ("qam", ENV, 3, [3, 4])
    assert config["settings"]["horizon_length"] == 2
    assert config["settings"]["tau"] == 0.005
    assert config["dataset"]["size"] == 2000
    assert set(config["settings"]) == set(agents.get("qam").method.declared()) - {"per_network"}  # which is not given


def test_evaluations_are_in_sb3s_format(finished: Path) -> None:
    with np.load(finished / "evaluations.npz") as found:
        assert found["timesteps"].tolist() == [10, 20]
        assert found["phase"].tolist() == [0, 0]
        assert found["results"].shape == found["ep_lengths"].shape == found["successes"].shape == (2, 2)
        assert found["successes"].dtype.kind in "iu"


def test_the_same_seeds_give_the_same_runs_and_the_result_is_one_line_of_json(
    data: Path, tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result, _ = train(capsys, arguments(data, tmp_path, *OF_RUNS, seeds=("--seeds", "3-4")))
    assert (code, result["updates_per_s"] > 0, len(result["runs"])) == (0, True, 2)
    for run, seed in zip(result["runs"], (3, 4), strict=True):
        again = Path(run["run"])
        finished = runs / "qam" / again.name
        assert (run["seed"], run["episodes"], 0 <= run["success"] <= 1) == (seed, 2, True)
        assert json.loads((again / "status.json").read_text())["state"] == "done"
        assert (again / "evaluations.npz").read_bytes() == (finished / "evaluations.npz").read_bytes()
        first, second = (agents.QAM.load(folder / f"{ENV}.zip", device="cpu") for folder in (finished, again))
        assert second.policy.num_replicas == 1
        for name, value in first.policy.state_dict().items():
            assert (value == second.policy.state_dict()[name]).all(), name


@pytest.mark.slow
def test_evaluations_beside_training_give_the_same_run(data: Path, tmp_path: Path) -> None:
    words = [*arguments(data, tmp_path, "learning_starts=2", seeds=("--seeds", "4-5")), "--online-steps", "25"]
    for mode in ("sync", "async"):
        assert main([*words, "--eval-mode", mode]) == 0
    folders = [tmp_path / "qam" / f"{ENV}_{number}" for number in (1, 2, 3, 4)]
    for first, second in zip(folders[:2], folders[2:], strict=True):
        assert (first / "evaluations.npz").read_bytes() == (second / "evaluations.npz").read_bytes()
        for name in ("best_model.zip", f"{ENV}.zip"):
            a, b = (agents.QAM.load(folder / name, device="cpu") for folder in (first, second))
            assert a.num_timesteps == b.num_timesteps
            assert all(torch.equal(a.policy.state_dict()[key], value) for key, value in b.policy.state_dict().items())
        logs = [pd.read_csv(folder / "progress.csv").sort_values("time/total_timesteps") for folder in (first, second)]
        evaluations = [log.filter(like="eval/").dropna().to_numpy() for log in logs]
        np.testing.assert_array_equal(*evaluations)
        assert len(evaluations[0]) == 5


@pytest.mark.slow
def test_a_crash_of_the_evaluation_beside_training_ends_the_run_with_its_traceback(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fail").touch()
    words = ["--algo", "qam", "--env", "Toy-v0", "--online-steps", "20", "-f", str(tmp_path), "--seed", "1"]
    words += ["--offline-steps", "0", *EVALUATIONS, "-params", *TINY]
    words += ["--eval-mode", "async", "--eval-env-kwargs", "failure=raise", f"failure_file={tmp_path / 'fail'}"]
    assert main(words) == 1
    assert "ArithmeticError: the toy broke" in capsys.readouterr().err
    status = json.loads((tmp_path / "qam" / "Toy-v0_1" / "status.json").read_text())
    assert status["state"] == "failed"
    assert "ArithmeticError: the toy broke" in status["reason"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env", "scene-play-singletask-task9-v0"], "closest: scene-play-singletask-task"),
        (["--algo", "qamm"], "unknown algorithm `qamm`; closest: qam"),
        (["--algo", "qam", "--seeds", "1", "0-3"], "`--seeds` expects different seeds"),
        (["--env", "Pendulum-v1", "--offline-steps", "5"], "has no dataset to train on offline"),
        (["-params", "rho"], "expects key=value"),
        (["--log-folder", "/proc/nowhere"], "the log folder must be writable"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    base = ["--algo", "qam", "--env", ENV, "--dataset-dir", str(data), "-f", str(tmp_path / "logs"), "--verbose", "0"]
    assert main([*base, *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("config.yml"))


def test_ctrl_c_writes_a_checkpoint_and_exits_with_3(programs: Programs, data: Path, tmp_path: Path) -> None:
    ran = programs.run("train", arguments(data, tmp_path, steps=1_000_000), kill=("update", 12), by="SIGINT")
    assert ran.code == 3, ran.err
    assert "checkpoint in" in ran.err
    folder = tmp_path / "qam" / f"{ENV}_1"
    assert json.loads((folder / "status.json").read_text())["state"] == "interrupted"
    (checkpoint,) = (folder / "checkpoint").iterdir()
    assert agents.QAM.load(checkpoint / "model.zip", device="cpu").num_timesteps > 0


def test_an_online_phase_without_updates_is_said_before_training_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()  # as the log folder it is refused, before anything else is done
    words = ["--algo", "qam", "--env", "tests.zoo.envs.toys:Toy-v0", "--offline-steps", "0", "--online-steps", "5"]
    code, _, errors = train(capsys, [*words, "-f", str(tmp_path / "file"), "-params", "learning_starts=5"])
    assert code == 2
    assert "`learning_starts`" in errors


def test_a_run_is_done_when_its_replay_buffer_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--algo", "qam", "--env", toys.TOY, "--offline-steps", "0", "--online-steps", "4", "--seed", "1"]
    words += ["--eval-episodes", "1", "-f", str(tmp_path), "--save-replay-buffer", "-params", *TINY]
    model = agents.get("qam").algorithm
    with monkeypatch.context() as patched:
        patched.setattr(model, "save_replay_buffer", lambda self, file: "no room".no_such_name)
        assert main(words) == 1
    assert json.loads(next(tmp_path.glob("qam/*/status.json")).read_text())["state"] == "failed"
    code, result, _ = train(capsys, words)
    assert code == 0
    assert (Path(result["run"]) / "replay_buffer.npz").is_file()
