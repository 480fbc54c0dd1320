"""Replicas that diverge: their runs fail, and the other replicas continue undisturbed."""

import numpy as np
import pandas as pd
import pytest
import torch

import agents
from agents.common.engine.trainer import Trainer
from agents.common.model_file import find_checkpoints
from agents.common.sb3.model import FlowAlgorithm
from agents.qam import QAM
from tests.zoo import helpers
from tests.zoo.envs.toys import ToyEnv
from tests.zoo.helpers import ENV, TINY, assert_same_run, folder_of, progress_of
from tests.zoo.outcomes import status_of
from zoo.runs.locks import Lock
from zoo.train import main

OFFLINE, ONLINE = 20, 30


def arguments(data, logs, *flags):
    """Return the words of a run with both phases."""
    phases = f"learning_starts=2 --online-steps {ONLINE} --save-freq 12 --env-kwargs max_episode_steps=15"
    return helpers.arguments(data, logs, *phases.split(), *flags, steps=OFFLINE, seeds=())


def break_after(monkeypatch, update, replicas, then=lambda update: None):
    """Set parameters of some replicas to NaN after an update, counted from the start of the run."""

    original = Trainer.update

    def changed(trainer, batch_size):
        info = original(trainer, batch_size)
        if trainer.model._n_updates == update:
            with torch.no_grad():
                for net in trainer.policy.nets.values():
                    next(net.parameters())[replicas] = torch.nan
        then(trainer.model._n_updates)
        return info

    monkeypatch.setattr(Trainer, "update", changed)


@pytest.fixture(scope="module")
def healthy(data, tmp_path_factory):
    logs = tmp_path_factory.mktemp("healthy")
    assert main(arguments(data, logs, "--seeds", "4-6")) == 0
    return logs


def assert_untouched(logs, healthy, *numbers):
    """Check that runs equal the runs of undisturbed training; logs may differ in values that depend on all replicas."""
    for number in numbers:
        assert_same_run(logs, healthy, number)
        order = ["time/total_timesteps", "eval/mean_reward"]
        tables = []
        for folder in (logs, healthy):
            table = progress_of(folder, number).drop(columns="time/episodes")
            tables.append(table.sort_values(order, ignore_index=True))
        pd.testing.assert_frame_equal(*tables)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("update", "step", "evaluated"),
    [(13, 15, [10]), (27, 30, [10, 20])],
    ids=["offline", "online"],
)
def test_a_replica_that_diverges_fails_and_others_are_untouched(
    data, tmp_path, healthy, monkeypatch, call, update, step, evaluated
):
    break_after(monkeypatch, update, [1])
    result, _ = call(main, *arguments(data, tmp_path, "--seeds", "4-6"))
    failed = folder_of(tmp_path, 2)
    status = status_of(failed)
    assert (status["state"], status["step"]) == ("failed", step)
    assert status["failure"] == "diverged"
    assert status["reason"].endswith(f" not finite at step {step}")
    with np.load(failed / "evaluations.npz") as history:
        assert history["timesteps"].tolist() == evaluated
    assert not (failed / f"{ENV}.zip").exists()
    best = agents.QAM.load(failed / "best_model.zip", device="cpu")
    assert all(value.isfinite().all() for value in best.policy.state_dict().values())
    assert [run["seed"] for run in result["runs"] if run.get("reason")] == [5]
    assert_untouched(tmp_path, healthy, 1, 3)


def test_environments_of_a_diverged_replica_get_no_nan(tmp_path, monkeypatch):
    played = []
    original = ToyEnv.step

    def recorded(self, action):
        played.append(action)
        return original(self, action)

    monkeypatch.setattr(ToyEnv, "step", recorded)
    break_after(monkeypatch, 3, [0])
    words = (
        f"--algo qam --env Toy-v0 --offline-steps 0 --online-steps 40 -f {tmp_path} "
        "--eval-freq 100 --eval-episodes 1 --n-eval-envs 1 --seeds 1 2 --verbose 0"
    ).split()
    assert main([*words, "-params", *TINY, "learning_starts=6", "log_interval=1000"]) == 0
    assert len(played) >= 40
    assert np.isfinite(played).all()
    assert status_of(tmp_path / "qam" / "Toy-v0_1")["state"] == "failed"
    assert status_of(tmp_path / "qam" / "Toy-v0_2")["state"] == "done"


@pytest.mark.slow
def test_replica_whose_plans_are_not_finite_fails_at_evaluation(
    data, tmp_path, healthy, monkeypatch
):
    original = QAM.act

    def act(self, observations, noise, nets):
        actions = original(self, observations, noise, nets)
        # only in an evaluation's episodes, so that parameters and losses are finite
        if observations.shape[1] == 2:
            actions[2] = torch.inf * actions[2]
            actions[2, 0, 0] = torch.nan
        return actions

    monkeypatch.setattr(QAM, "act", act)
    assert main(arguments(data, tmp_path, "--seeds", "4-6")) == 0
    status = status_of(folder_of(tmp_path, 3))
    assert (status["state"], status["step"]) == ("failed", 10)
    assert "actions sampled in the evaluation at step 10 are not finite" in status["reason"]
    assert not (folder_of(tmp_path, 3) / "evaluations.npz").exists()
    assert_untouched(tmp_path, healthy, 1, 2)


@pytest.mark.parametrize(
    ("update", "step", "checkpoints"),
    [
        (13, 15, ["step_000000012.0"]),
        (11, 12, []),  # checked before step 15, because no checkpoint may contain NaN
        (24, 20, ["step_000000024.0", "step_000000012.0"]),
    ],
)
def test_a_run_ends_at_once_when_every_replica_has_failed(
    data, tmp_path, monkeypatch, call, update, step, checkpoints
):
    break_after(monkeypatch, update, [0, 1])
    _, errors = call(main, *arguments(data, tmp_path, "--seeds", "4", "5"), code=1)
    assert ("all replicas have diverged (seed 4: " in errors) == (update < OFFLINE)
    for number in (1, 2):
        status = status_of(folder_of(tmp_path, number))
        assert (status["state"], status["failure"]) == ("failed", "diverged")
        assert status["offline_step"] == step
    folder = folder_of(tmp_path)
    assert not (folder / f"{ENV}.zip").exists()
    assert [path.name for path in find_checkpoints(folder / "checkpoint")] == checkpoints


class Killed(BaseException):
    """Simulates the end of a process."""


@pytest.mark.slow
def test_a_resumed_run_remembers_who_has_failed(data, tmp_path, healthy, monkeypatch):
    def breaking_off(update):
        if update == 17:
            raise Killed

    # A process would release its lock when it ends.
    monkeypatch.setattr(Lock, "take", lambda self: True)
    words = arguments(data, tmp_path, "--seeds", "4-6", "--resume")
    with pytest.MonkeyPatch.context() as patch:
        break_after(patch, 8, [0], breaking_off)
        with pytest.raises(Killed):
            main(words)
    failed = status_of(folder_of(tmp_path))
    assert (failed["state"], failed["step"]) == ("failed", 10)
    monkeypatch.setattr(FlowAlgorithm, "find_divergence", lambda self: {})  # disable later checks
    assert main(words) == 0
    assert status_of(folder_of(tmp_path)) == failed
    assert not (folder_of(tmp_path) / f"{ENV}.zip").exists()
    assert_untouched(tmp_path, healthy, 2, 3)
