"""A run that is killed and resumed ends as one that never was: same parameters, same evaluations, to the last bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import agents
from agents.common.engine.checkpoint import find_checkpoints
from benchmarks.fault_suite.programs import Programs

ENV = "pointmaze-medium-navigate-singletask-task1-v0"
KILLED = -9
TINY = ["net_arch=[16,16]", "ensemble_size=2", "flow_steps=2", "batch_size=8", "horizon_length=3", "buffer_size=40"]
OFFLINE, ONLINE = 24, 60


class Runner:
    """Starts training programs that can be killed at a chosen point."""

    def __init__(self, data: Path, programs: Programs) -> None:
        self.data, self.programs = data, programs

    def __call__(
        self,
        logs: Path,
        *more: str,
        kill: tuple[str, int] | None = None,
        by: str = "SIGKILL",
        seeds: tuple[str, ...] = ("--seed", "3"),
    ) -> int:
        words = ["--algo", "qam", "--env", ENV, "--dataset-dir", str(self.data), "-f", str(logs), "--verbose", "0"]
        words += ["--offline-steps", str(OFFLINE), "--online-steps", str(ONLINE), "--resume", *seeds]
        words += ["--eval-freq", "10", "--eval-episodes", "2", "--n-eval-envs", "1", "--save-freq", "7"]
        words += ["--env-kwargs", "max_episode_steps=9", "--log-interval", "5", "--device", "cpu"]
        words += ["-params", *TINY, "learning_starts=4", *more]
        return self.programs.run("train", words, kill=kill, by=by).code


@pytest.fixture(scope="module")
def run(data: Path, programs: Programs) -> Runner:
    return Runner(data, programs)


def folder_of(logs: Path, number: int = 1) -> Path:
    return logs / "qam" / f"{ENV}_{number}"


def parameters(path: Path) -> dict[str, torch.Tensor]:
    return agents.QAM.load(path, device="cpu").policy.state_dict()


def assert_same_run(logs: Path, reference: Path, number: int = 1, online: int = ONLINE) -> None:
    """Check final and best parameters, evaluations and the log of two runs."""
    found, expected = folder_of(logs, number), folder_of(reference, number)
    assert (found / "evaluations.npz").read_bytes() == (expected / "evaluations.npz").read_bytes()
    for name in (f"{ENV}.zip", "best_model.zip"):
        first, second = parameters(found / name), parameters(expected / name)
        assert all(torch.equal(first[key], second[key]) for key in second), name
    status = json.loads((found / "status.json").read_text())
    assert (status["state"], status["offline_step"], status["online_step"]) == ("done", OFFLINE, online)


def log_of(logs: Path) -> pd.DataFrame:
    """Return the log without what depends on the time of day, columns sorted."""
    table = pd.read_csv(folder_of(logs) / "progress.csv")
    clock = [name for name in table if name in ("time/fps", "time/time_elapsed", "time/updates_per_s")]
    return table.drop(columns=clock).sort_index(axis=1)


def test_the_reference_run_has_both_phases_on_one_axis(reference: Path) -> None:
    with np.load(folder_of(reference) / "evaluations.npz") as found:
        assert found["timesteps"].tolist() == [10, 20, 24, 30, 40, 50, 60, 70, 80, 84]
        assert found["phase"].tolist() == [0] * 3 + [1] * 7


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "kill",
    [
        ("step", 25),  # online, in the middle of a chunk and of an episode
        ("update", 18),  # offline
        ("write", 44),  # within a checkpoint online
        ("status", 12),  # behind the last checkpoint, before the final files
        ("update", 3),  # before the first checkpoint
        ("evaluation", 2),  # between an evaluation's result and its checkpoint
        ("write", 12),  # within the third checkpoint, offline
        ("model", 1),  # behind the first best model, before its checkpoint
    ],
    ids=str,
)
def test_a_killed_run_ends_as_an_uninterrupted_one(
    run: Runner, reference: Path, tmp_path: Path, kill: tuple[str, int]
) -> None:
    assert run(tmp_path, kill=kill) == KILLED
    assert json.loads((folder_of(tmp_path) / "status.json").read_text())["state"] == "running"
    assert run(tmp_path) == 0
    assert_same_run(tmp_path, reference)
    pd.testing.assert_frame_equal(log_of(tmp_path), log_of(reference))
    assert pd.read_csv(folder_of(tmp_path) / "progress.csv").columns[0] == "time/total_timesteps"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kill", "by"),
    [
        (("update", 11), "SIGKILL"),  # the first evaluation has just begun
        (("update", 15), "SIGKILL"),  # behind the checkpoint that met it, at step 14
        (("write", 14), "SIGKILL"),  # within the checkpoint at step 21, beside the second evaluation
        (("evaluation", 3), "SIGKILL"),
        (("step", 25), "SIGKILL"),
        (("model", 1), "SIGKILL"),
        (("update", 12), "SIGTERM"),
        (("step", 8), "SIGTERM"),  # the evaluation at step 30 is under way
    ],
    ids=str,
)
def test_a_run_that_evaluates_beside_training_ends_as_an_uninterrupted_one(
    run: Runner, reference: Path, tmp_path: Path, kill: tuple[str, int], by: str
) -> None:
    words = ("--seed", "3", "--eval-mode", "async")
    assert run(tmp_path, kill=kill, by=by, seeds=words) == {"SIGKILL": KILLED, "SIGTERM": 3}[by]
    assert run(tmp_path, seeds=words) == 0
    assert_same_run(tmp_path, reference)
    evaluations = [log_of(logs).filter(like="eval/").dropna() for logs in (tmp_path, reference)]
    pd.testing.assert_frame_equal(*(table.reset_index(drop=True) for table in evaluations))


@pytest.mark.few(1)
@pytest.mark.parametrize("at", [("step", 31), ("update", 12)], ids=["online", "offline"])
def test_a_run_that_was_asked_to_stop_ends_as_an_uninterrupted_one(
    run: Runner, reference: Path, tmp_path: Path, at: tuple[str, int]
) -> None:
    assert run(tmp_path, kill=at, by="SIGTERM") == 3
    assert json.loads((folder_of(tmp_path) / "status.json").read_text())["state"] == "interrupted"
    assert run(tmp_path) == 0
    assert_same_run(tmp_path, reference)
    pd.testing.assert_frame_equal(log_of(tmp_path), log_of(reference))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("play", "finished", "step"),
    [
        (2, 0, (10, 0)),  # offline
        (20, 2, (24, 0)),  # at the end of the offline phase
        (29, 3, (24, 6)),  # online, where the step is finished first
        (83, 9, (24, 60)),  # at the end
    ],
)
def test_an_evaluation_is_abandoned_where_the_run_is_to_stop_and_made_again(
    run: Runner, reference: Path, tmp_path: Path, play: int, finished: int, step: tuple[int, int]
) -> None:
    assert run(tmp_path, kill=("play", play), by="SIGTERM") == 3
    status = json.loads((folder_of(tmp_path) / "status.json").read_text())
    assert (status["state"], status["offline_step"], status["online_step"]) == ("interrupted", *step)
    evaluations = folder_of(tmp_path) / "evaluations.npz"
    assert finished == (len(np.load(evaluations)["timesteps"]) if evaluations.exists() else 0)
    assert run(tmp_path) == 0
    assert_same_run(tmp_path, reference)
    tables = [
        log.sort_values(["time/total_timesteps", "eval/mean_reward"]) for log in map(log_of, (tmp_path, reference))
    ]
    pd.testing.assert_frame_equal(*(table.reset_index(drop=True) for table in tables))


@pytest.mark.slow
@pytest.mark.parametrize("kill", [("update", 12), ("step", 31)], ids=str)
def test_stacked_seeds_resume_together(run: Runner, tmp_path: Path, kill: tuple[str, int]) -> None:
    stack = ("--seeds", "4", "9")
    assert run(tmp_path / "whole", seeds=stack) == 0
    assert run(tmp_path / "killed", seeds=stack, kill=kill) == KILLED
    assert run(tmp_path / "killed", seeds=stack) == 0
    for number in (1, 2):
        assert_same_run(tmp_path / "killed", tmp_path / "whole", number)
    assert not folder_of(tmp_path / "killed", 3).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kill",
    [
        ("update", 9),  # while pretraining, behind its first checkpoint
        ("update", 3),  # before that
        ("evaluation", 1),  # where pretraining ends
        ("update", 25),  # offline
        ("step", 15),  # online
    ],
    ids=str,
)
def test_a_run_resumes_across_the_end_of_pretraining(run: Runner, tmp_path: Path, kill: tuple[str, int]) -> None:
    words = ("pretraining_steps=11", "--online-steps", "20")
    assert run(tmp_path / "whole", *words) == 0
    assert run(tmp_path / "killed", *words, kill=kill) == KILLED
    assert run(tmp_path / "killed", *words) == 0
    assert_same_run(tmp_path / "killed", tmp_path / "whole", online=20)
    pd.testing.assert_frame_equal(log_of(tmp_path / "killed"), log_of(tmp_path / "whole"))
    with np.load(folder_of(tmp_path / "whole") / "evaluations.npz") as found:
        assert found["timesteps"].tolist() == [0, 10, 20, 24, 30, 40, 44]


@pytest.mark.slow
def test_a_damaged_checkpoint_makes_way_for_the_one_before_it(run: Runner, reference: Path, tmp_path: Path) -> None:
    assert run(tmp_path, kill=("step", 30)) == KILLED
    newest, older = find_checkpoints(folder_of(tmp_path) / "checkpoint")
    assert newest > older
    content = (newest / "model.zip").read_bytes()
    (newest / "model.zip").write_bytes(content[: len(content) // 2])
    assert run(tmp_path) == 0
    assert_same_run(tmp_path, reference)


@pytest.mark.slow
def test_a_run_without_a_readable_checkpoint_is_not_begun_again(run: Runner, tmp_path: Path) -> None:
    assert run(tmp_path, kill=("step", 30)) == KILLED
    for checkpoint in find_checkpoints(folder_of(tmp_path) / "checkpoint"):
        (checkpoint / "model.zip").write_bytes(b"")
    status = (folder_of(tmp_path) / "status.json").read_text()
    assert run(tmp_path) == 2
    assert (folder_of(tmp_path) / "status.json").read_text() == status
    assert not folder_of(tmp_path, 2).exists()
