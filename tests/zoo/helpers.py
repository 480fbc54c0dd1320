"""Command lines of short runs, and checks of their folders."""

import contextlib
import os
import signal

import numpy as np
import pandas as pd
import pytest

import agents
from tests.common.toys import assert_same, parameters_of
from tests.zoo.outcomes import status_of
from zoo.training.recorder import Recorder

ENV = "pointmaze-medium-navigate-singletask-task1-v0"
TINY = [
    "net_arch=[16,16]",
    "ensemble_size=2",
    "flow_steps=2",
    "batch_size=16",
    "horizon_length=2",
    "buffer_size=1000",
]
EVALUATIONS = ["--eval-freq", "10", "--eval-episodes", "2", "--n-eval-envs", "1"]
OF_RUNS = ["--eval-seed", "5", "--save-freq", "10"]  # flags of the fixture `runs`


def arguments(data, logs, *flags, steps=20, seeds=("--seed", "3"), verbose=0):
    """Return the words of a short offline run; further flags and settings may follow, and the last value wins."""
    words = (
        f"--algo qam --env {ENV} --dataset-dir {data} -f {logs} --verbose {verbose} --offline-steps {steps} "
        "--env-kwargs max_episode_steps=30"
    )
    return [*words.split(), *seeds, *EVALUATIONS, "-params", "log_interval=5", *TINY, *flags]


def folder_of(logs, number=1):
    return logs / "qam" / f"{ENV}_{number}"


def evaluations(logs):
    with np.load(folder_of(logs) / "evaluations.npz") as arrays:
        return dict(arrays)


def end_of(logs, number=1):
    """Return a run's state, offline step and online step."""
    status = status_of(folder_of(logs, number))
    return status["state"], status["offline_step"], status["online_step"]


def assert_same_run(logs, reference, number=1):
    """Check that two runs have equal final and best parameters, evaluations and last steps."""
    folder, expected = folder_of(logs, number), folder_of(reference, number)
    assert (folder / "evaluations.npz").read_bytes() == (expected / "evaluations.npz").read_bytes()
    for name in (f"{ENV}.zip", "best_model.zip"):
        models = (agents.QAM.load(folder / name, device="cpu") for folder in (folder, expected))
        assert_same(*map(parameters_of, models))
    assert end_of(logs, number) == end_of(reference, number)
    assert end_of(logs, number)[0] == "done"


def progress_of(logs, number=1):
    """Return a run's log without the columns that depend on time."""
    table = pd.read_csv(folder_of(logs, number) / "progress.csv")
    by_clock = "time/(fps|time_elapsed|total_seconds|updates_per_s)"
    return table.loc[:, ~table.columns.str.fullmatch(by_clock)].sort_index(axis=1)


@contextlib.contextmanager
def stopped_at_an_evaluation():
    """Let a signal stop the runs of this process at their first evaluation."""
    record = Recorder._record

    def record_and_stop(training, *arguments):
        record(training, *arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "_record", record_and_stop)
        yield
