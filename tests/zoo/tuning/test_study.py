"""How a study goes on, with functions in place of training runs."""

import contextlib
import functools
import os
import shlex
import shutil
import signal
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml

from tests.zoo.tuning.fakes import ENV, near_three, scored, use_fakes, words
from zoo.runs.folder import RunFolder
from zoo.settings.config import Benchmark, Overrides, TrialSettings, load_config
from zoo.terminal.errors import Interrupted, UsageError
from zoo.train import main as train
from zoo.training.flags import make_parser, read_request
from zoo.tune import main
from zoo.tuning import options
from zoo.tuning.options import open_storage
from zoo.tuning.study import Pruned, first_attempt, read_trial, warn_if_settings_differ


def folder(logs):
    return logs / "studies" / "s"


def study_of(logs):
    return optuna.load_study(study_name="s", storage=open_storage(str(folder(logs) / "study.db")))


def trials(logs):
    return study_of(logs).trials


def params_of(logs):
    return [trial.params for trial in trials(logs)]


def states(logs):
    return pd.read_csv(folder(logs) / "trials.csv")["state"].tolist()


def record_requests(objective):
    """Return a list that takes the request of every trial from now on."""
    requests = []

    def train(request):
        requests.append(request)
        return near_three(request)

    objective(train)
    return requests


@pytest.fixture
def tune(call):
    """Return what runs the program, and returns its exit code, its result and what it said."""
    return functools.partial(call, main)


def test_samplers_look_for_the_highest_score(objective, tmp_path, tune):
    objective(near_three)
    tune(*words(tmp_path, "--n-trials", "2"))
    study = study_of(tmp_path)
    assert (
        study.best_value
        == max(trial.value for trial in study.trials)
        > min(trial.value for trial in study.trials)
    )


@pytest.mark.slow
def test_the_total_counts_the_trials_of_all_calls_and_what_one_draws_depends_on_its_number_alone(
    objective, tmp_path, tune
):
    one_call, several_calls = tmp_path / "one", tmp_path / "several"
    assert tune(*words(one_call, "--n-trials", "4"))[0]["trials"] == {"complete": 4}
    for flags, count in (
        (["--n-trials", "1"], 1),
        (["--n-trials", "1"], 2),
        (["--max-total-trials", "4"], 4),
        (["--max-total-trials", "4"], 4),
    ):
        result, _ = tune(*words(several_calls, *flags))
        assert result["trials"] == {"complete": count}
    assert params_of(one_call) == params_of(several_calls)
    assert trials(one_call)[0].user_attrs["settings"] == {"inverse_temperature": 0.3}


@pytest.mark.few(1)
@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe"])
def test_every_sampler_proposes_different_settings(objective, tmp_path, sampler):
    assert (
        main(words(tmp_path, "--n-trials", "3", "--sampler", sampler, "--n-startup-trials", "2"))
        == 0
    )
    assert len({trial.params["inverse_temperature"] for trial in trials(tmp_path)}) == 3


def test_the_results_are_a_table_a_settings_file_and_figures(tmp_path, tune, monkeypatch):
    use_fakes(monkeypatch, with_figures=True)
    tau = "per_network.critic.tau=0.01:0.1"
    command = words(
        tmp_path, "--n-trials", "12", "--search", "inverse_temperature", "flow_steps=[2, 5]", tau
    )
    result, _ = tune(*command)
    table = pd.read_csv(result["folder"] + "/trials.csv")
    best = result["best"]
    assert table["score"].max() == best["score"] == sum(best["scores"]) / 2
    assert table["score"].idxmax() == best["trial"]
    assert np.allclose(table["seed 7"] / 2, table["seed 8"])
    assert set(table["flow_steps"]) == {2, 5}
    config = load_config(
        "qam", ENV, Benchmark("pointmaze-medium-navigate"), Overrides(conf=result["best_conf"])
    )
    assert config.settings["per_network"]["critic"]["tau"] == best["settings"].pop(
        "per_network.critic.tau"
    )
    assert {name: config.settings[name] for name in best["settings"]} == best["settings"]
    assert "tuned here" in config.sources[-1]
    assert [Path(path).name for path in result["figures"]] == [
        "history.png",
        "slices.png",
        "importances.png",
    ]
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in result["figures"])


def test_the_next_command_trains_the_best_settings_as_the_study_did(objective, tmp_path, tune):
    logs = tmp_path / "my logs"
    command = [
        *words(tmp_path),
        "-f",
        str(logs),
        "--quick",
        "--n-evaluations",
        "4",
        "--offline-steps",
        "1000",
    ]
    result, _ = tune(
        *command, "-params", "rho=0.1", "--n-trials", "1", "--env-kwargs", "max_episode_steps=9"
    )
    program, subcommand, *typed = shlex.split(result["next"])
    assert (program, subcommand) == ("zoo", "train")
    request = read_request(make_parser().parse_args(typed))
    assert request.seeds is None
    assert request.eval_seed == 0
    assert request.run == {"offline_steps": 1000}
    assert request.quick
    trial = read_trial(request.study, request.trial_id, request.log_folder, "qam")
    warn_if_settings_differ(replace(request, trial=trial), trial)
    assert (logs / "studies" / "s").is_dir()


def test_folders_of_runs_with_spaces_and_a_command_of_several_lines_are_kept_apart(
    objective, tmp_path, tune, monkeypatch
):
    def train(request):
        for seed in (7, 8):
            RunFolder.create(request.log_folder, "qam", ENV, seed)
        return near_three(request)

    objective(train)
    monkeypatch.setattr("sys.orig_argv", ["zoo", "tune", "-params", "a\nqam: 3"])
    result, _ = tune(*words(tmp_path, "--n-trials", "1"), "-f", str(tmp_path / "my logs"))
    (paths,) = pd.read_csv(result["folder"] + "/trials.csv")["runs"]
    assert shlex.split(paths) == result["best"]["runs"]
    assert len(result["best"]["runs"]) == 2
    assert list(yaml.safe_load(Path(result["best_conf"]).read_text())) == [ENV]


def test_the_training_runs_get_what_the_command_line_says(objective, tmp_path):
    requests = record_requests(objective)
    flags = (
        "--quick",
        "--n-evaluations",
        "4",
        "--offline-steps",
        "1000",
        "--n-trials",
        "1",
        "--eval-episodes",
        "3",
    )
    assert main(words(tmp_path, *flags, "-params", "rho=0.1")) == 0
    (request,) = requests
    assert request.seeds == (7, 8)
    assert request.eval_seed == 1_000_000
    assert request.quick
    assert request.run == {"offline_steps": 1000, "eval_freq": 250, "eval_episodes": 3}
    assert request.hyperparams == ("rho=0.1",)
    assert request.storage == "auto"
    assert request.resume is False
    assert request.trial == TrialSettings({"inverse_temperature": 3.0}, "study s, trial 0")
    assert request.log_folder == folder(tmp_path) / "trial_0"


def test_seeds_are_apart_from_those_of_a_report(objective, tmp_path, tune):
    runs = []
    objective(lambda args: runs.append(args) or scored(0.5))
    arguments = f"--algo qam --env {ENV} -f {tmp_path} --n-trials 1".split()
    result, _ = tune(*arguments)
    assert (runs[0].seeds, runs[0].eval_seed) == ((1_000_000,), 1_000_000)
    assert result["study"] == f"qam_{ENV}"
    assert result["best"]["seeds"] == [1_000_000]


def test_a_trial_that_fails_is_recorded_and_the_study_goes_on(objective, tmp_path, tune):
    def fail_first(args):
        number = args.trial.source[-1]
        if number == "0":
            raise RuntimeError("no memory")
        if number == "1":
            raise Pruned("score 1")
        return near_three(args)

    objective(fail_first)
    result, _ = tune(*words(tmp_path, "--n-trials", "3"))
    assert result["trials"] == {"failed": 1, "pruned": 1, "complete": 1}
    table = pd.read_csv(folder(tmp_path) / "trials.csv")
    assert table["reason"].tolist()[:2] == ["RuntimeError: no memory", "score 1"]


def test_bad_input_that_a_trial_finds_ends_the_study(objective, tmp_path, tune):
    def refuse(args):
        raise UsageError("`--dataset` has no such file")

    objective(refuse)
    _, errors = tune(*words(tmp_path), code=2)
    assert errors.strip().endswith("`--dataset` has no such file")
    assert states(tmp_path) == ["failed"]


def test_other_settings_are_another_study(objective, tmp_path, tune):
    tune(*words(tmp_path, "--n-trials", "1"))
    for flags, difference in (
        (["-params", "rho=0"], "rho: 0.5 there, 0.0 now"),
        (["--search", "inverse_temperature=1:2"], "'inverse_temperature': '1.0:2.0'"),
    ):
        _, errors = tune(*words(tmp_path, "--n-trials", "1", *flags), code=2)
        assert difference in errors
    assert len(trials(tmp_path)) == 1


# -- trials that do not end by themselves -----------------------------------------------------------------------------


def test_a_stopped_trial_is_tried_again_by_the_next_call(objective, tmp_path, tune):
    def stop(args):
        raise Interrupted("stopped by a signal")

    objective(stop)
    tune(*words(tmp_path, "--max-total-trials", "1"), code=3)
    assert states(tmp_path) == ["retried", "waiting"]

    requests = record_requests(objective)
    result, _ = tune(*words(tmp_path, "--max-total-trials", "1"))
    assert result["trials"] == {"retried": 1, "complete": 1}
    assert requests[0].resume
    assert requests[0].log_folder == folder(tmp_path) / "trial_0"
    first, second = trials(tmp_path)
    assert first.params == second.params


def test_a_study_whose_trial_was_stopped_proposes_what_an_undisturbed_one_does(
    objective, tmp_path, tune
):
    def stop(args):
        raise Interrupted("stopped by a signal")

    command = ("--max-total-trials", "3", "--sampler", "random")
    tune(*words(tmp_path / "whole", *command))
    objective(stop)
    tune(*words(tmp_path / "stopped", *command), code=3)
    objective(near_three)
    tune(*words(tmp_path / "stopped", *command))
    assert params_of(tmp_path / "stopped")[1:] == params_of(tmp_path / "whole")


def test_no_trial_begins_after_a_signal_between_two(objective, tmp_path, tune):
    objective(lambda args: os.kill(os.getpid(), signal.SIGTERM) or near_three(args))
    _, errors = tune(*words(tmp_path, "--n-trials", "2"), code=3)
    assert "the same command continues the study" in errors
    assert states(tmp_path) == ["complete"]


class Killed(BaseException):
    """Ends a call as a kill does: nothing is recorded of its trial."""


@pytest.fixture
def short_grace(monkeypatch):
    """Let a trial count as killed after a second without a heartbeat."""
    monkeypatch.setattr(options, "GRACE_SECONDS", 1)


def kill_in(number):
    """Return an objective that is killed in a trial."""

    def train(args):
        if args.trial.source.endswith(f"trial {number}"):
            raise Killed
        return near_three(args)

    return train


def results_of(logs):
    """Return parameters and score of each trial that was trained to its end."""
    return [(trial.params, trial.value) for trial in trials(logs) if trial.value is not None]


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("random", marks=pytest.mark.slow)])
def test_a_study_that_was_killed_twice_ends_as_an_undisturbed_one(
    objective, tmp_path, tune, short_grace, sampler
):
    command = f"--max-total-trials 6 --sampler {sampler} --n-startup-trials 2".split()
    tune(*words(tmp_path / "whole", *command))
    for number in (2, 5):  # the repetition of trial 2 is trial 3
        objective(kill_in(number))
        with pytest.raises(Killed):
            main(words(tmp_path / "killed", *command))
    objective(near_three)
    result, _ = tune(*words(tmp_path / "killed", *command))
    assert result["trials"] == {"complete": 6, "retried": 2}
    assert results_of(tmp_path / "killed") == results_of(tmp_path / "whole")
    table = pd.read_csv(folder(tmp_path / "killed") / "trials.csv").set_index("number")
    assert table["retry_of"].dropna().to_dict() == {3: 2, 6: 5}


def test_a_trial_that_was_killed_too_often_is_not_tried_again(
    objective, tmp_path, monkeypatch, short_grace
):
    monkeypatch.setattr(options, "MAX_RETRIES", 0)
    objective(kill_in(0))
    with pytest.raises(Killed):
        main(words(tmp_path, "--n-trials", "1"))
    objective(near_three)
    assert main(words(tmp_path, "--n-trials", "1")) == 0
    first, second = trials(tmp_path)
    assert first.params != second.params


def take_over(logs):
    """Let another start count a trial as killed, and put it into the queue again."""
    study = study_of(logs)
    trial = study.trials[-1]
    study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    optuna.storages.RetryHeartbeatStaleTrialCallback()(study, trial)


def test_a_trial_that_another_start_has_taken_over_ends_and_the_call_goes_on(
    objective, tmp_path, tune
):
    def suspended(args):
        if args.trial.source.endswith("trial 0"):
            take_over(tmp_path)
        return near_three(args)

    objective(suspended)
    result, errors = tune(*words(tmp_path, "--max-total-trials", "2"))
    assert result["trials"] == {"retried": 1, "complete": 2}
    assert "trial 0: another start repeats it" in errors
    assert [trial.number for trial in trials(tmp_path) if first_attempt(trial) == 0] == [1]


def test_a_stopped_trial_that_another_start_has_taken_over_is_repeated_once(
    objective, tmp_path, tune
):
    def stop(args):
        take_over(tmp_path)
        raise Interrupted("stopped by a signal")

    objective(stop)
    tune(*words(tmp_path, "--n-trials", "1"), code=3)
    assert states(tmp_path) == ["retried", "waiting"]


def test_a_repeated_trial_waits_for_a_process_that_was_only_suspended(
    objective, tmp_path, tune, monkeypatch
):
    monkeypatch.setattr("zoo.tuning.study.POLL_SECONDS", 0.01)
    held = []

    def stop(request):
        held.append(RunFolder.create(request.log_folder, "qam", ENV, 7))
        raise Interrupted("stopped by a signal")

    def wait(text):
        assert "is still being trained by process" in text
        held.pop().lock.release()

    objective(stop)
    tune(*words(tmp_path, "--n-trials", "1"), code=3)
    objective(near_three)
    monkeypatch.setattr("zoo.tuning.study.say_once", wait)
    tune(*words(tmp_path, "--n-trials", "1"))
    assert held == []


def test_a_database_that_has_lost_its_study_is_not_written_over(objective, tmp_path, tune):
    assert main(words(tmp_path, "--n-trials", "1")) == 0
    (folder(tmp_path) / "study.db").unlink()
    _, errors = tune(*words(tmp_path, "--n-trials", "1"), code=2)
    assert "put a copy of the database back" in errors


@pytest.mark.parametrize("content", ["some notes\n", "\0" * 4096])
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(objective, tmp_path, tune, content):
    file = tmp_path / "notes.txt"
    file.write_text(content)
    _, errors = tune(*words(tmp_path, "--storage", str(file)), code=2)
    assert "notes.txt cannot be opened" in errors
    assert file.read_text() == content


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["s?a=1", "p%41", "b{x}", "a 'b' \"c\"", "Größe #1"])
def test_a_study_is_kept_under_its_own_name_whatever_letters_that_has(
    objective, tmp_path, tune, name
):
    command = [*words(tmp_path, "--n-trials", "1"), "--study-name", name]
    tune(*command)
    assert tune(*command)[0]["trials"] == {"complete": 2}
    assert list(tmp_path.rglob("*.db")) == [tmp_path / "studies" / name / "study.db"]
    assert read_trial(name, "0", tmp_path, "qam").source.startswith(f"study {name}, trial 0")


def test_a_locked_database_is_named_with_what_to_do(objective, tmp_path, tune, monkeypatch):
    monkeypatch.setattr(options, "LOCK_SECONDS", 0.01)
    file = tmp_path / "study.db"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        _, errors = tune(*words(tmp_path, "--storage", str(file)), code=2)
    assert "study.db cannot be opened" in errors
    assert "database is locked" in errors


# -- training with the settings of a trial -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Return a log folder with a study of four trials; nobody may change it."""
    folder = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as patch:
        use_fakes(patch)
        assert main(words(folder, "--n-trials", "4")) == 0
    return folder


def test_a_trial_is_found_by_number_and_the_best_by_its_score(logs):
    first = read_trial("s", "0", logs, "qam")
    assert first.settings == {"inverse_temperature": 0.3}
    assert first.source.startswith("study s, trial 0 (score 0.")
    scores = [read_trial("s", str(number), logs, "qam").source for number in range(4)]
    best = max(scores, key=lambda text: float(text.split("score ")[1].rstrip(")")))
    assert read_trial("s", "best", logs, "qam").source == best


def test_what_a_run_changes_besides_its_seeds_is_told_where_it_begins_with_a_trial(logs, capsys):
    command = f"--algo qam --env {ENV} --study s --trial-id best"
    trial = read_trial("s", "best", logs, "qam")

    def warning(flags):
        request = read_request(make_parser().parse_args(f"{command} {flags}".split()))
        warn_if_settings_differ(replace(request, trial=trial), trial)
        return capsys.readouterr().err

    assert warning("") == ""
    differences = "were tuned otherwise: offline_steps: 1000000 there, 5 now; env_kwargs: not set"
    assert differences in warning("--offline-steps 5 --env-kwargs k=1")


def test_a_study_is_named_by_its_file_too(logs, tmp_path, monkeypatch):
    file = str(logs / "studies" / "s" / "study.db")
    shutil.copy(file, tmp_path / "a:b.db")
    monkeypatch.chdir(tmp_path)
    for study in (file, f"{file}:s", "a:b.db", "a:b.db:s"):
        assert read_trial(study, "0", Path("elsewhere"), "qam").settings == {
            "inverse_temperature": 0.3
        }


@pytest.mark.parametrize(
    ("study", "trial", "algo", "message"),
    [
        ("t", "0", "qam", "there are: s"),
        ("s", "9", "qam", "0, 1, 2, 3; or best"),
        ("s", "0", "fql", "tuned qam"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(logs, study, trial, algo, message):
    with pytest.raises(UsageError, match=message):
        read_trial(study, trial, logs, algo)


def test_a_database_of_several_studies_asks_for_one(logs, objective, tmp_path):
    file = Path(shutil.copytree(logs, tmp_path / "logs")) / "studies" / "s" / "study.db"
    assert (
        main([*words(tmp_path, "--n-trials", "1", "--storage", str(file)), "--study-name", "t"])
        == 0
    )
    with pytest.raises(UsageError, match="s, t"):
        read_trial(str(file), "0", tmp_path, "qam")
    assert read_trial(f"{file}:t", "0", tmp_path, "qam").source.startswith("study t, trial 0")


def test_study_and_trial_belong_together(capsys):
    assert train(f"--algo qam --env {ENV} --study s".split()) == 2
    assert "--trial-id" in capsys.readouterr().err
