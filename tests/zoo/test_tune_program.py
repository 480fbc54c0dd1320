"""The tuning program: its command line, and studies whose trials are short runs on a small generated maze dataset."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import optuna
import pytest
from optuna.pruners import ThresholdPruner

from tests.zoo.helpers import ENV, TINY
from tests.zoo.outcomes import config_of, status_of
from tests.zoo.programs import run_program
from zoo.runs.read import read_runs
from zoo.tune import main


def arguments(data, logs, flags, steps=20):
    words = (
        f"--study-name s --algo qam --env {ENV} --dataset-dir {data} -f {logs} --seeds 4-5 "
        f"--offline-steps {steps} --eval-episodes 2 --env-kwargs max_episode_steps=30 "
        f"--verbose 0 {flags} -params"
    )
    return [*words.split(), *TINY]


def trials(logs):
    url = f"sqlite:///{logs / 'studies' / 's' / 'study.db'}"
    return optuna.load_study(study_name="s", storage=url).trials


# -- command line -----------------------------------------------------------------------------------------------------


def test_optuna_is_asked_for_by_its_install_command(monkeypatch, tmp_path, refusal):
    monkeypatch.setitem(sys.modules, "optuna", None)
    words = ["--algo", "qam", "--env", ENV, "-f", tmp_path]
    message = "`zoo tune` needs Optuna; install it with `pip install 'optuna>=5'`"
    assert message in refusal(main, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    {
        "--algo bc": "there is no setting to search: `bc` declares none",
        "--study-storage sqlite:////no/such/a.db": "database sqlite:////no/such/a.db cannot be opened",
        "--study-name a/b": "`--study-name` must be a folder name",
        "-f /dev/null": "`--log-folder` must be a folder",
    }.items(),
)
def test_what_cannot_begin_is_refused(tmp_path, refusal, words, message):
    words = f"--algo qam --env {ENV} -f {tmp_path} {words}".split()
    assert message in refusal(main, *words)
    assert not list(tmp_path.iterdir())


# -- studies ----------------------------------------------------------------------------------------------------------


def test_a_trial_is_a_training_run(data, tmp_path, call):
    result, _ = call(main, *arguments(data, tmp_path, "--n-trials 2 --eval-freq 11", steps=21))
    assert result["trials"] == {"complete": 2}
    for trial in trials(tmp_path):
        runs = sorted((tmp_path / "studies" / "s" / f"trial_{trial.number}" / "qam").iterdir())
        for seed, run in zip((4, 5), runs, strict=True):
            config = config_of(run)
            assert config["settings"]["inverse_temperature"] == trial.params["inverse_temperature"]
            # tuning uses other evaluation seeds than a report
            assert (config["seed"], config["eval_seed"]) == (seed, 1_000_000)
            assert np.load(run / "evaluations.npz")["timesteps"].tolist() == [11, 21]
            assert status_of(run)["state"] == "done"


def test_a_pruned_run_is_interrupted_and_never_counts(data, tmp_path, call, monkeypatch):
    pruner = ThresholdPruner(lower=2.0, n_warmup_steps=1)
    monkeypatch.setattr("zoo.tuning.study.MedianPruner", lambda *_, **__: pruner)
    call(main, *arguments(data, tmp_path, "--n-trials 1 --eval-freq 5"), code=1)
    (trial,) = trials(tmp_path)
    assert trial.state.name == "PRUNED"
    for run in tmp_path.glob("studies/s/trial_0/qam/*"):
        status = status_of(run)
        assert (status["state"], status["offline_step"]) == ("interrupted", 5)
        assert status["reason"] == "Pruned: score 0 in evaluation 1, at step 5"
    assert read_runs([tmp_path / "studies" / "s"]).counted().empty


# -- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_several_starts_share_a_study(data, tmp_path):
    words = arguments(data, tmp_path, "--n-trials 3 --eval-freq 10")
    with ThreadPoolExecutor(2) as pool:
        for ended in pool.map(run_program, ["tune"] * 2, [words] * 2):
            assert ended.code == 0, ended.err
    ended = trials(tmp_path)
    assert {trial.state.name for trial in ended} == {"COMPLETE"}
    assert len(ended) in (3, 4)  # both programs may start the last trial
    assert len({trial.params["inverse_temperature"] for trial in ended}) == len(ended)
