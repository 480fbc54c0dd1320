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
from tests.zoo.envs import toys  # noqa: F401  registers the toys
from zoo.train import main

ENV = "pointmaze-medium-navigate-singletask-task1-v0"
TINY = ["net_arch=[16,16]", "ensemble_size=2", "flow_steps=2", "batch_size=16", "horizon_length=2", "buffer_size=1000"]
EVALUATIONS = ["--eval-freq", "10", "--eval-episodes", "2", "--n-eval-envs", "1"]
ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.filterwarnings("ignore:no state in:UserWarning")  # two episodes need not reach the goal


def arguments(
    data: Path, logs: Path, *more: str, steps: int = 20, seeds: tuple[str, ...] = ("--seed", "3"), verbose: int = 0
) -> list[str]:
    words = ["--algo", "qam", "--env", ENV, "--dataset-dir", str(data), "-f", str(logs), *seeds]
    words += ["--verbose", str(verbose), "--offline-steps", str(steps), *EVALUATIONS]
    return [*words, "--env-kwargs", "max_episode_steps=30", "--log-interval", "5", "-params", *TINY, *more]


def train(capsys: pytest.CaptureFixture[str], words: list[str]) -> tuple[int, dict[str, Any], str]:
    code = main(words)
    output = capsys.readouterr()
    last = output.out.strip().splitlines()[-1:] or ["{}"]
    return code, json.loads(last[0]), output.err


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("logs")
    assert main(arguments(data, logs, "--label", "mine")) == 0
    return logs / "qam" / f"{ENV}_1"


def test_a_run_leaves_everything_in_its_folder(finished: Path) -> None:
    names = {path.name.partition(".tfevents")[0] for path in finished.iterdir()}
    assert names == {
        "config.yml", "args.yml", "command.txt", "versions.json", "status.json", "progress.csv", "events.out",
        "evaluations.npz", "checkpoint", f"{ENV}.zip", "best_model.zip", "learning_curve.png", "run.log",
        "manifest.json",
    }  # fmt: skip


def test_the_status_says_that_the_run_is_done(finished: Path) -> None:
    status = json.loads((finished / "status.json").read_text())
    assert {k: status[k] for k in ("state", "seed", "offline_step", "online_step")} == {
        "state": "done",
        "seed": 3,
        "offline_step": 20,
        "online_step": 0,
    }


def test_the_configuration_is_recorded_in_full(finished: Path) -> None:
    config = yaml.safe_load((finished / "config.yml").read_text())
    assert (config["algo"], config["env"], config["seed"], config["label"]) == ("qam", ENV, 3, "mine")
    assert config["settings"]["horizon_length"] == 2
    assert config["settings"]["tau"] == 0.005
    assert config["dataset"]["size"] == 2000
    assert set(config["settings"]) == set(agents.get("qam").method.declared())


def test_evaluations_are_in_sb3s_format(finished: Path) -> None:
    with np.load(finished / "evaluations.npz") as found:
        assert found["timesteps"].tolist() == [10, 20]
        assert found["phase"].tolist() == [0, 0]
        assert found["results"].shape == found["ep_lengths"].shape == found["successes"].shape == (2, 2)
        assert found["successes"].dtype.kind in "iu"


def test_the_final_model_loads_and_acts(finished: Path) -> None:
    model = agents.QAM.load(finished / f"{ENV}.zip", device="cpu")
    action, _ = model.predict(np.zeros(2, np.float32))
    assert model.action_space.contains(action)


def test_the_result_is_one_line_of_json(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result, _ = train(capsys, arguments(data, tmp_path, steps=10))
    assert code == 0
    assert result["episodes"] == 2
    assert 0 <= result["success"] <= 1
    assert result["updates_per_s"] > 0
    assert Path(result["run"]).is_dir()


def test_two_runs_with_one_seed_are_identical(data: Path, tmp_path: Path, finished: Path) -> None:
    assert main(arguments(data, tmp_path)) == 0
    again = tmp_path / "qam" / f"{ENV}_1"
    assert (again / "evaluations.npz").read_bytes() == (finished / "evaluations.npz").read_bytes()
    first, second = (agents.QAM.load(folder / f"{ENV}.zip", device="cpu") for folder in (finished, again))
    for name, value in first.policy.state_dict().items():
        assert (value == second.policy.state_dict()[name]).all(), name


def test_stacked_seeds_leave_one_run_folder_each(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result, _ = train(capsys, arguments(data, tmp_path, steps=10, seeds=("--seeds", "4-5", "9")))
    assert code == 0
    assert [run["seed"] for run in result["runs"]] == [4, 5, 9]
    for run in result["runs"]:
        config = yaml.safe_load((Path(run["run"]) / "config.yml").read_text())
        model = agents.QAM.load(Path(run["run"]) / f"{ENV}.zip", device="cpu")
        assert config["seed"] == run["seed"] == model.seed
        assert model.policy.num_replicas == 1


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


def test_every_stacked_seed_logs_its_own_values(data: Path, tmp_path: Path) -> None:
    words = [*arguments(data, tmp_path, "learning_starts=2", seeds=("--seeds", "4-5")), "--online-steps", "65"]
    assert main([*words, "--save-freq", "5", "--log-interval", "1"]) == 0
    first, second = (pd.read_csv(tmp_path / "qam" / f"{ENV}_{number}" / "progress.csv") for number in (1, 2))
    assert len(first) == len(second)
    assert set(first) == set(second) > {"train/total_loss", "rollout/ep_rew_mean", "eval/mean_reward"}
    assert (first["train/total_loss"].dropna() != second["train/total_loss"].dropna()).all()
    np.testing.assert_array_equal(first["time/total_timesteps"], second["time/total_timesteps"])


def test_offline_and_online_share_one_axis(data: Path, tmp_path: Path) -> None:
    words = [*arguments(data, tmp_path, "learning_starts=2"), "--online-steps", "20"]
    assert main(words) == 0
    with np.load(tmp_path / "qam" / f"{ENV}_1" / "evaluations.npz") as found:
        assert found["timesteps"].tolist() == [10, 20, 30, 40]
        assert found["phase"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env", "scene-play-singletask-task9-v0"], "closest: scene-play-singletask-task"),
        (["--algo", "qamm"], "unknown algorithm `qamm`; closest: qam"),
        (["--algo", "qam", "--seeds", "1-x"], "`--seeds` expects numbers or ranges such as 0-11, got '1-x'"),
        (["--algo", "qam", "--seeds", "1", "0-3"], "`--seeds` expects different seeds"),
        (["--seeds", "1", "4294967296"], "`--seeds` expects seeds <= 4294967295"),
        (["--env", "Pendulum-v1", "--offline-steps", "5"], "has no dataset to train on offline"),
        (["--env", "CartPole-v1", "--online-steps", "5"], "Discrete"),
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


def test_a_full_disk_while_training_is_reported(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.runs.folder.np.savez", full)
    assert main(arguments(data, tmp_path)) == 1
    assert "No space left on device" in capsys.readouterr().err
    status = json.loads((tmp_path / "qam" / f"{ENV}_1" / "status.json").read_text())
    assert status["state"] == "failed"


def test_ctrl_c_writes_a_checkpoint_and_exits_with_3(programs: Programs, data: Path, tmp_path: Path) -> None:
    ran = programs.run("train", arguments(data, tmp_path, steps=1_000_000), kill=("update", 12), by="SIGINT")
    assert ran.code == 3, ran.err
    assert "checkpoint in" in ran.err
    folder = tmp_path / "qam" / f"{ENV}_1"
    assert json.loads((folder / "status.json").read_text())["state"] == "interrupted"
    (checkpoint,) = (folder / "checkpoint").iterdir()
    assert agents.QAM.load(checkpoint / "model.zip", device="cpu").num_timesteps > 0


@pytest.mark.parametrize(("learning_starts", "is_said"), [(5, True), (4, False)])
def test_an_online_phase_without_updates_is_said_before_training_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], learning_starts: int, is_said: bool
) -> None:
    (tmp_path / "file").touch()  # as the log folder it is refused, before anything else is done
    words = ["--algo", "qam", "--env", "tests.zoo.envs.toys:Toy-v0", "--offline-steps", "0", "--online-steps", "5"]
    code, _, errors = train(
        capsys, [*words, "-f", str(tmp_path / "file"), "-params", f"learning_starts={learning_starts}"]
    )
    assert code == 2
    assert ("`learning_starts`" in errors and "--online-steps" in errors) == is_said
