"""Killed and resumed runs: offline, the result is bitwise that of an uninterrupted run; online, nothing is lost."""

import functools
import os
from dataclasses import replace

import pandas as pd
import pytest

import agents
from agents.common.model_file import find_checkpoints, step_of
from tests.zoo.datasets.conftest import write_shard
from tests.zoo.envs import toys  # noqa: F401  registers the toys
from tests.zoo.helpers import (
    ENV,
    arguments,
    assert_same_run,
    end_of,
    evaluations,
    folder_of,
    progress_of,
)
from tests.zoo.outcomes import status_of
from tests.zoo.programs import run_program
from zoo.evaluation.evaluator import Evaluator
from zoo.train import main

KILLED = -9
STOPPED = 3, "interrupted"
ENDINGS = {"SIGKILL": (KILLED, "running"), "SIGINT": STOPPED, "SIGTERM": STOPPED}
"""Signals -> exit code and state of a run that one of them ends."""
OFFLINE, ONLINE = 24, 60
TIMES = [10, 20, 24, 30, 40, 50, 60, 70, 80, 84]
KINDS = {
    "plain": ("", TIMES),
    "stacked": ("--seeds 4 9", TIMES),
    "pretraining": ("pretraining_steps=11 --online-steps 20", [0, 10, 20, 24, 30, 40, 44]),
    "at start": ("eval_at_start=true", [0, *TIMES]),
    "shards": ("dataset_replace_interval=5 --dataset SHARDS", TIMES),
    "large": ("net_arch=[64,64]", TIMES),  # its model is larger than 100 kB
}
"""Kinds of runs: their arguments, and the steps of their evaluations."""


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """Return a function that runs a training program, kills it at an event if asked, and returns its exit code."""
    shards = tmp_path_factory.mktemp("shards")
    for number, episodes in enumerate((4, 3, 4)):  # trajectories of each file
        write_shard(shards, number, episodes)

    def ended(logs, kind="plain", kill=None, by="SIGKILL", **options):
        words = (
            f"--algo qam --env {ENV} --dataset-dir {data} -f {logs} --verbose 0 --resume --device cpu "
            f"--offline-steps {OFFLINE} --online-steps {ONLINE} --save-freq 7 "
            "--eval-freq 10 --eval-episodes 2 --n-eval-envs 1 --env-kwargs max_episode_steps=9 "
            "-params log_interval=5 net_arch=[16,16] ensemble_size=2 flow_steps=2 batch_size=8 horizon_length=3 "
            f"buffer_size=40 learning_starts=4 {KINDS[kind][0].replace('SHARDS', str(shards))}"
        ).split()
        if kind != "stacked":
            words = ["--seed", "3", *words]
        return run_program("train", words, kill=kill, by=by, **options).code

    return ended


@pytest.fixture(scope="module")
def uninterrupted(run, tmp_path_factory):
    """Return a function that trains an uninterrupted run of each kind once, and returns its logs."""

    @functools.cache
    def train(kind):
        logs = tmp_path_factory.mktemp("whole")
        assert run(logs, kind) == 0
        assert evaluations(logs)["timesteps"].tolist() == KINDS[kind][1]
        return logs

    return train


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("kind", "kill", "by"),
    [
        ("plain", ("play", 2), "SIGKILL"),  # during an evaluation
        ("plain", ("write", 8), "SIGKILL"),  # while a checkpoint is written
        ("plain", ("update", 15), "SIGINT"),
        ("plain", ("update", 3), "SIGKILL"),  # before the first checkpoint
        ("plain", ("evaluation", 2), "SIGKILL"),  # between a result and its checkpoint
        ("plain", ("model", 1), "SIGKILL"),  # after the first best model, before its checkpoint
        ("stacked", ("update", 12), "SIGKILL"),
        ("pretraining", ("update", 9), "SIGKILL"),  # after its first checkpoint
        ("pretraining", ("evaluation", 1), "SIGKILL"),  # when pretraining ends
        ("at start", ("evaluation", 1), "SIGKILL"),  # between the first result and the first update
        ("at start", ("play", 1), "SIGTERM"),  # during the first evaluation, which is then repeated
        ("shards", ("update", 17), "SIGKILL"),  # after the third replacement of files
        ("shards", ("update", 11), "SIGKILL"),  # immediately after the second one
    ],
    ids=str,
)
def test_a_run_killed_offline_ends_as_an_uninterrupted_one(
    run, uninterrupted, tmp_path, kind, kill, by
):
    code, state = ENDINGS[by]
    assert run(tmp_path, kind, kill, by) == code
    assert end_of(tmp_path)[0] == state
    assert run(tmp_path, kind) == 0
    expected = uninterrupted(kind)
    for number in (1, 2) if kind == "stacked" else (1,):
        assert_same_run(tmp_path, expected, number)
    counts = [len(list(logs.glob("qam/*/status.json"))) for logs in (tmp_path, expected)]
    assert counts[0] == counts[1]
    pd.testing.assert_frame_equal(progress_of(tmp_path), progress_of(expected))


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("kind", "kill", "by"),
    [
        ("plain", ("step", 25), "SIGKILL"),  # in the middle of a chunk and of an episode
        ("plain", ("step", 31), "SIGINT"),
        ("stacked", ("step", 31), "SIGKILL"),
        ("plain", ("write", 44), "SIGKILL"),  # while a checkpoint is written
        ("plain", ("status", 12), "SIGKILL"),  # after the last checkpoint, before the final files
        ("shards", ("step", 25), "SIGKILL"),
    ],
    ids=str,
)
def test_a_run_killed_online_goes_on_from_its_checkpoint(
    run, uninterrupted, tmp_path, kind, kill, by
):
    code, state = ENDINGS[by]
    assert run(tmp_path, kind, kill, by) == code
    ended, *steps = end_of(tmp_path)
    assert ended == state
    if by == "SIGINT":  # the run has written a checkpoint at its last step
        assert step_of(find_checkpoints(folder_of(tmp_path) / "checkpoint")[0]) == sum(steps)
    first_evaluations = evaluations(tmp_path)
    assert run(tmp_path, kind) == 0
    all_evaluations, expected = evaluations(tmp_path), evaluations(uninterrupted(kind))
    assert all_evaluations["timesteps"].tolist() == KINDS[kind][1]
    assert end_of(tmp_path) == ("done", OFFLINE, ONLINE)
    # evaluations from before the kill, and all offline evaluations, are unchanged
    for name, values in first_evaluations.items():
        assert all_evaluations[name][: len(values)].tolist() == values.tolist()
    offline = expected["phase"] == 0
    assert all_evaluations["results"][offline].tolist() == expected["results"][offline].tolist()
    steps = progress_of(tmp_path)["time/total_timesteps"]
    assert steps.is_monotonic_increasing


@pytest.mark.slow
@pytest.mark.parametrize(
    ("play", "finished", "step"),
    [
        (2, 0, (10, 0)),  # offline
        (20, 2, (24, 0)),  # at the end of the offline phase
    ],
)
def test_an_evaluation_is_abandoned_at_a_stop_and_made_again(
    run, uninterrupted, tmp_path, play, finished, step
):
    reference = uninterrupted("plain")
    assert run(tmp_path, kill=("play", play), by="SIGTERM") == 3
    assert end_of(tmp_path) == ("interrupted", *step)
    has_history = (folder_of(tmp_path) / "evaluations.npz").exists()
    assert finished == (len(evaluations(tmp_path)["timesteps"]) if has_history else 0)
    assert run(tmp_path) == 0
    assert_same_run(tmp_path, reference)


@pytest.mark.slow
def test_a_damaged_checkpoint_makes_way_for_the_one_before_it(run, uninterrupted, tmp_path):
    newest_damaged, all_damaged = tmp_path / "one", tmp_path / "both"
    for logs, damaged in ((newest_damaged, 1), (all_damaged, 2)):
        assert run(logs, kill=("update", 17)) == KILLED
        newest, older = find_checkpoints(folder_of(logs) / "checkpoint")
        for checkpoint in (newest, older)[:damaged]:
            os.truncate(checkpoint / "model.zip", 1000)
    assert run(newest_damaged) == 0
    assert len([*newest_damaged.rglob("damaged_step_*")]) == 1
    assert_same_run(newest_damaged, uninterrupted("plain"))
    status = status_of(folder_of(all_damaged))
    assert run(all_damaged) == 2
    assert status_of(folder_of(all_damaged)) == status
    assert not folder_of(all_damaged, 2).exists()


@pytest.mark.slow
def test_a_run_whose_files_cannot_grow_goes_on_when_they_can(run, uninterrupted, tmp_path):
    assert run(tmp_path, "large", limits={"RLIMIT_FSIZE": 100_000}) == 1
    run(tmp_path, "large", ("update", 1))
    assert end_of(tmp_path)[0] == "running"
    assert run(tmp_path, "large") == 0
    assert_same_run(tmp_path, uninterrupted("large"))


@pytest.mark.parametrize(
    ("bonus", "success", "best"),
    [(0.0, 0, 10), (1.0, 0, 0), (1.0, 1, 10)],
    ids=["as good as after training", "better", "better but without success"],
)
def test_an_untrained_model_is_the_best_only_if_it_is_better(
    data, tmp_path, monkeypatch, bonus, success, best
):
    """No model reaches the goal within 30 steps, so all returns are equal."""
    evaluate, changes = Evaluator.evaluate, iter([(bonus, 0), (0.0, success), (0.0, None)])

    def changed(self, *arguments):
        results = evaluate(self, *arguments)
        added, is_success = next(changes)
        # at last, no episode reports whether it is a success
        successes = None if is_success is None else results.successes | is_success
        return replace(results, returns=results.returns + added, successes=successes)

    monkeypatch.setattr(Evaluator, "evaluate", changed)
    assert main(arguments(data, tmp_path, "eval_at_start=true")) == 0
    history = evaluations(tmp_path)
    assert len({*history["results"][1:].ravel()}) == 1
    assert history["successes"].tolist() == [[0, 0], [success, success], [0, 0]]
    model = agents.QAM.load(folder_of(tmp_path) / "best_model.zip", device="cpu")
    assert model.num_timesteps == best
