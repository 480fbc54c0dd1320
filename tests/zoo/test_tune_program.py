"""The tuning program: its command line, and studies whose trials are training runs on a small generated maze."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from optuna.pruners import ThresholdPruner

from tests.zoo.helpers import ENV, TINY
from tests.zoo.outcomes import config_of, status_of
from tests.zoo.programs import run_program
from zoo.runs.read import read_runs
from zoo.train import main as train
from zoo.tune import main


def run_words(data, logs, flags, steps=20):
    """Return what the command lines of a study and of a run of its settings share."""
    words = (
        f"--algo qam --env {ENV} --dataset-dir {data} -f {logs} --seeds 4-5 "
        f"--offline-steps {steps} --eval-episodes 2 --n-eval-envs 1 --log-interval 5 "
        f"--env-kwargs max_episode_steps=30 --verbose 0 {flags} -params"
    )
    return [*words.split(), *TINY]


def arguments(data, logs, flags, steps=20):
    return ["--study-name", "s", *run_words(data, logs, flags, steps)]


def table(logs):
    return pd.read_csv(logs / "studies" / "s" / "trials.csv", float_precision="round_trip")


# -- command line -----------------------------------------------------------------------------------------------------


def test_optuna_is_asked_for_by_its_install_command(monkeypatch, tmp_path, refusal):
    monkeypatch.setitem(sys.modules, "optuna", None)
    words = ["--algo", "qam", "--env", ENV, "-f", tmp_path]
    message = "needs Optuna; install it with `pip install 'optuna>=5'`"
    assert f"`zoo tune` {message}" in refusal(main, *words)
    assert f"`--study` {message}" in refusal(train, *words, "--study", "s", "--trial-id", "best")


@pytest.mark.parametrize(
    ("words", "message"),
    {
        "--n-evaluations 2 --eval-freq 3": "`--n-evaluations` and `--eval-freq` both say",
        "--storage nosuch://a.db": "the study's database nosuch://a.db cannot be opened",
        "--storage /nowhere/a.db": "the study's database /nowhere/a.db cannot be opened",
        "--algo bc": "there is no setting to search: `bc` declares none",
    }.items(),
)
def test_bad_input_is_refused_before_any_work(words, message, tmp_path, refusal):
    assert message in refusal(main, *f"--algo qam --env {ENV} -f {tmp_path} {words}".split())


# -- studies ----------------------------------------------------------------------------------------------------------


def test_a_trial_is_a_training_run(data, tmp_path, call):
    words = arguments(data, tmp_path, "--n-trials 2 --n-evaluations 2", steps=21)
    result, _ = call(main, *words)
    assert result["trials"] == {"complete": 2}
    for number, row in table(tmp_path).iterrows():
        for seed, run in zip((4, 5), map(Path, row["runs"].split()), strict=True):
            assert run.parent == tmp_path / "studies" / "s" / f"trial_{number}" / "qam"
            config = config_of(run)
            assert config["settings"]["inverse_temperature"] == row["inverse_temperature"]
            assert config["sources"][-1].startswith("-params")
            assert f"study s, trial {number}" in config["sources"]
            # seeds of evaluation are not those that a report uses
            assert (config["seed"], config["eval_seed"]) == (seed, 1_000_000)
            assert np.load(run / "evaluations.npz")["timesteps"].tolist() == [11, 21]
            assert status_of(run)["state"] == "done"


@pytest.mark.slow
def test_a_trial_can_be_trained_again(data, tmp_path, call):
    result, _ = call(main, *arguments(data, tmp_path, "--n-trials 2 --eval-freq 10"))
    flags = "--eval-freq 10 --eval-seed 1000000 --study s --trial-id best"
    assert train(run_words(data, tmp_path, flags)) == 0
    for number, run in enumerate(result["best"]["runs"], 1):
        repeated = tmp_path / "qam" / f"{ENV}_{number}" / "evaluations.npz"
        assert repeated.read_bytes() == (Path(run) / "evaluations.npz").read_bytes()


def test_a_pruned_run_is_interrupted_and_never_counts(data, tmp_path, call, monkeypatch):
    pruner = ThresholdPruner(lower=2.0, n_warmup_steps=1)
    monkeypatch.setattr("zoo.tuning.options.Plan.make_pruner", lambda _: pruner)
    call(main, *arguments(data, tmp_path, "--n-trials 1 --eval-freq 5"), code=1)
    assert table(tmp_path)["state"].tolist() == ["pruned"]
    for run in table(tmp_path)["runs"][0].split():
        status = status_of(run)
        assert (status["state"], status["offline_step"]) == ("interrupted", 5)
        assert status["reason"] == "Pruned: score 0 in evaluation 1, at step 5"
    assert read_runs([tmp_path / "studies" / "s"]).counted().empty


# -- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_several_starts_share_a_study(data, tmp_path):
    words = arguments(data, tmp_path, "--max-total-trials 3 --eval-freq 10")
    with ThreadPoolExecutor(2) as pool:
        for ended in pool.map(run_program, ["tune"] * 2, [words] * 2):
            assert ended.result["trials"] == {"complete": 3}, ended.err


@pytest.mark.slow
@pytest.mark.parametrize(("by", "state"), [("SIGTERM", "interrupted"), ("SIGKILL", "running")])
def test_a_study_that_was_stopped_continues_its_trial_from_the_checkpoint(
    data, tmp_path, by, state
):
    """The result is that of a study that was never stopped."""
    flags = "--max-total-trials 1 --eval-freq 100 --save-freq 20"
    logs = tmp_path / "stopped"
    words = arguments(data, logs, flags, steps=60)
    assert run_program("tune", words, kill=("update", 30), by=by).code != 0
    assert status_of(logs / f"studies/s/trial_0/qam/{ENV}_1")["state"] == state
    evaluations = set()
    for folder in (tmp_path / "undisturbed", logs):
        ended = run_program("tune", arguments(data, folder, flags, steps=60))
        assert ended.code == 0, ended.err
        last = Path(table(folder)["runs"].iloc[-1].split()[0])
        evaluations.add((last / "evaluations.npz").read_bytes())
    assert len(evaluations) == 1
    assert table(logs)["state"].tolist() == ["retried", "complete"]
    assert "resuming" in (last / "run.log").read_text()
