"""How a study goes on, with functions in place of training runs."""

import contextlib
import os
import shlex
import shutil
import signal
import sqlite3
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml

from agents.common.replicas import DivergedError
from tests.zoo.outcomes import refuses
from zoo.runs.folder import RunFolder
from zoo.settings.config import Benchmark, load_config
from zoo.settings.request import TrainRequest, read_request
from zoo.terminal.errors import Interrupted, UsageError
from zoo.train import make_parser
from zoo.tune import main
from zoo.tuning import options, study
from zoo.tuning.options import open_storage
from zoo.tuning.study import Pruned, first_attempt, read_trial, with_trial

ENV = "pointmaze-medium-navigate-singletask-task1-v0"
DRAW_FIGURES = study.draw_figures


def scored(*scores):
    """Return a training program's result with a success rate for each seed."""
    runs = []
    for seed, score in enumerate(scores, start=7):
        runs.append({"seed": seed, "success": score, "return": 0.0})
    return {"runs": runs}


def near_three(request):
    """Score two replicas by how near the inverse temperature is to 3."""
    score = 1 / (1 + abs(request.trial.settings["inverse_temperature"] - 3.0))
    return scored(score, score / 2)


def command(logs, flags=""):
    """Return a command line of ``zoo tune`` with a name of its study."""
    first = ["--algo", "qam", "--env", ENV, "-f", str(logs), "--seeds", "7", "8"]
    return [*first, "--study-name", "s", *shlex.split(flags)]


class Study:
    """A study in a log folder whose trials are a function of their requests."""

    def __init__(self, logs, call):
        self.logs, self.call, self.requests = logs, call, []
        self.folder = logs / "studies" / "s"
        self.objective = near_three

    def train(self, request, observe):
        self.requests.append(request)
        return self.objective(request)

    def tune(self, flags="", code=0):
        """Run the program; return its result and what it said."""
        return self.call(main, *command(self.logs, flags), code=code)

    def load(self):
        storage = open_storage(str(self.folder / "study.db"))
        return optuna.load_study(study_name="s", storage=storage)

    @property
    def params(self):
        return [trial.params for trial in self.load().trials]

    @property
    def table(self):
        return pd.read_csv(self.folder / "trials.csv")

    @property
    def states(self):
        return self.table["state"].tolist()


@pytest.fixture
def make(call, monkeypatch):
    """Return what makes studies in folders; none draws figures, which takes longer than all the rest."""
    monkeypatch.setattr(study, "draw_figures", lambda *about: [])

    def make_study(logs):
        fake = Study(logs, call)
        monkeypatch.setattr(study, "train", fake.train)
        return fake

    return make_study


@pytest.fixture
def fake(make, tmp_path):
    return make(tmp_path)


def stop(request):
    raise Interrupted("stopped by a signal")


def test_quasi_random_trials_have_different_settings(fake):
    fake.tune("--n-trials 3 --sampler qmc --n-startup-trials 2")
    assert len({params["inverse_temperature"] for params in fake.params}) == 3


def test_the_results_are_a_table_a_settings_file_and_figures(fake, monkeypatch):
    monkeypatch.setattr(study, "draw_figures", DRAW_FIGURES)
    result, _ = fake.tune(
        "--n-trials 12 --search inverse_temperature 'flow_steps=[2, 5]' tau=0.01:0.1"
    )
    table, best = fake.table, result["best"]
    assert table["score"].max() == best["score"] == np.mean(best["scores"])
    assert table["score"].idxmax() == best["trial"]
    assert fake.load().best_value == best["score"]  # samplers and pruners look for the highest
    assert table["score"].min() < best["score"]
    assert np.allclose(table["seed 7"] / 2, table["seed 8"])
    assert set(table["flow_steps"]) == {2, 5}
    request = TrainRequest(algo="qam", env=ENV, conf_file=result["best_conf"])
    config = load_config(request, Benchmark("pointmaze-medium-navigate"))
    assert config.settings.items() >= best["settings"].items()
    assert "tuned here" in config.sources[-1]
    names = []
    for figure in map(Path, result["figures"]):
        names.append(figure.stem)
        assert figure.read_bytes().startswith(b"\x89PNG")
    assert names == ["history", "slices", "importances"]


def test_the_next_command_trains_the_best_settings_as_the_study_did(make, tmp_path):
    fake = make(tmp_path / "my logs")
    result, _ = fake.tune(
        "--quick --n-evaluations 4 --offline-steps 1000 -params rho=0.1 --n-trials 1 "
        "--env-kwargs max_episode_steps=9"
    )
    program, subcommand, *typed = shlex.split(result["next"])
    assert (program, subcommand) == ("zoo", "train")
    request = read_request(make_parser().parse_args(typed))
    assert (request.seeds, request.eval_seed, request.quick) == (None, 0, True)
    assert request.run == {"offline_steps": 1000}
    assert with_trial(request).trial.settings == result["best"]["settings"]
    assert fake.folder.is_dir()


def test_folders_of_runs_with_spaces_and_a_command_of_several_lines_are_kept_apart(
    make, tmp_path, monkeypatch
):
    def train(request):
        for seed in (7, 8):
            RunFolder.create(request.log_folder, "qam", ENV, seed)
        return near_three(request)

    fake = make(tmp_path / "my logs")
    fake.objective = train
    monkeypatch.setattr("sys.orig_argv", ["zoo", "tune", "-params", "a\nqam: 3"])
    result, _ = fake.tune("--n-trials 1")
    (paths,) = fake.table["runs"]
    assert shlex.split(paths) == result["best"]["runs"]
    assert len(result["best"]["runs"]) == 2
    assert list(yaml.safe_load(Path(result["best_conf"]).read_text())) == [ENV]


def test_seeds_are_apart_from_those_of_a_report(fake, call):
    fake.objective = lambda request: scored(0.5)
    result, _ = call(main, *f"--algo qam --env {ENV} -f {fake.logs} --n-trials 1".split())
    assert fake.requests[0].seeds == (1_000_000,)
    assert result["study"] == f"qam_{ENV}"
    assert result["best"]["seeds"] == [1_000_000]


def test_a_trial_that_fails_is_recorded_and_the_study_goes_on(fake):
    errors = iter([RuntimeError("no memory"), Pruned("score 1"), DivergedError("loss = nan")])

    def fail_at_first(request):
        for error in errors:
            raise error
        return near_three(request)

    fake.objective = fail_at_first
    result, _ = fake.tune("--n-trials 4")
    assert result["trials"] == {"failed": 1, "pruned": 1, "complete": 2}
    table = fake.table.iloc[:3]
    assert table["reason"].tolist() == ["RuntimeError: no memory", "score 1", "loss = nan"]
    assert table["score"].iloc[-1] == 0.0  # the worst success rate


def test_bad_input_that_a_trial_finds_ends_the_study(fake):
    def refuse(request):
        raise UsageError("`--dataset` has no such file")

    fake.objective = refuse
    _, errors = fake.tune(code=2)
    assert errors.strip().endswith("`--dataset` has no such file")
    assert fake.states == ["failed"]


def test_other_settings_are_another_study(fake):
    fake.tune("--n-trials 1")
    for flags, difference in (
        ("-params rho=0", "rho: 0.5 there, 0.0 now"),
        ("--search inverse_temperature=1:2", "'inverse_temperature': '1.0:2.0'"),
    ):
        assert difference in fake.tune(f"--n-trials 1 {flags}", code=2)[1]
    assert len(fake.params) == 1


# -- trials that do not end by themselves -----------------------------------------------------------------------------


def test_a_stopped_trial_is_tried_again_and_the_study_proposes_what_an_undisturbed_one_does(
    make, tmp_path
):
    flags = "--max-total-trials 3 --sampler random"
    undisturbed = make(tmp_path / "undisturbed")
    undisturbed.tune(flags)
    stopped = make(tmp_path / "stopped")
    stopped.objective = stop
    stopped.tune(flags, code=3)
    assert stopped.states == ["retried", "waiting"]
    stopped.objective = near_three
    for _ in range(
        2
    ):  # the total counts the trials of all calls, so that the second has nothing to do
        assert stopped.tune(flags)[0]["trials"] == {"retried": 1, "complete": 3}
    assert stopped.params == [undisturbed.params[0], *undisturbed.params]
    repetition = stopped.requests[1]
    assert repetition.resume
    assert repetition.log_folder == stopped.folder / "trial_0"


def test_no_trial_begins_after_a_signal_between_two(fake):
    fake.objective = lambda request: os.kill(os.getpid(), signal.SIGTERM) or near_three(request)
    _, errors = fake.tune("--n-trials 2", code=3)
    assert "the same command continues the study" in errors
    assert fake.states == ["complete"]


class Killed(BaseException):
    """Ends a call as a kill does: nothing is recorded of its trial."""


@pytest.fixture
def short_grace(monkeypatch):
    """Let a trial count as killed after a second without a heartbeat."""
    monkeypatch.setattr(options, "GRACE_SECONDS", 1)


def kill(fake, number, flags):
    """Kill a call in one of its trials."""

    def train(request):
        if request.trial.source.endswith(f"trial {number}"):
            raise Killed
        return near_three(request)

    fake.objective = train
    with pytest.raises(Killed):
        fake.tune(flags)
    fake.objective = near_three


@pytest.mark.few(1)
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_study_that_was_killed_twice_ends_as_an_undisturbed_one(
    make, tmp_path, short_grace, sampler
):
    flags = f"--max-total-trials 6 --sampler {sampler} --n-startup-trials 2"
    undisturbed = make(tmp_path / "undisturbed")
    undisturbed.tune(flags)
    killed = make(tmp_path / "killed")
    for number in (2, 5):  # the repetition of trial 2 is trial 3
        kill(killed, number, flags)
    result, _ = killed.tune(flags)
    assert result["trials"] == {"complete": 6, "retried": 2}
    ended = [trial for trial in killed.load().trials if trial.value is not None]
    for trial, expected in zip(ended, undisturbed.load().trials, strict=True):
        assert (trial.params, trial.value) == (expected.params, expected.value)
    retries = killed.table.set_index("number")["retry_of"].dropna()
    assert retries.to_dict() == {3: 2, 6: 5}


def test_a_trial_that_was_killed_too_often_is_not_tried_again(fake, monkeypatch, short_grace):
    monkeypatch.setattr(options, "MAX_RETRIES", 0)
    kill(fake, 0, "--n-trials 1")
    fake.tune("--n-trials 1")
    first, second = fake.params
    assert first != second


def take_over(fake):
    """Let another start count a trial as killed, and put it into the queue again."""
    loaded = fake.load()
    trial = loaded.trials[-1]
    loaded.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    optuna.storages.RetryHeartbeatStaleTrialCallback()(loaded, trial)


def test_a_trial_that_another_start_has_taken_over_ends_and_the_call_goes_on(fake):
    def suspended(request):
        if request.trial.source.endswith("trial 0"):
            take_over(fake)
        return near_three(request)

    fake.objective = suspended
    result, errors = fake.tune("--max-total-trials 2")
    assert result["trials"] == {"retried": 1, "complete": 2}
    assert "trial 0: another start repeats it" in errors
    assert [trial.number for trial in fake.load().trials if first_attempt(trial) == 0] == [1]


def test_a_stopped_trial_that_another_start_has_taken_over_is_repeated_once(fake):
    fake.objective = lambda request: take_over(fake) or stop(request)
    fake.tune("--n-trials 1", code=3)
    assert fake.states == ["retried", "waiting"]


def test_a_repeated_trial_waits_for_a_process_that_was_only_suspended(fake, monkeypatch):
    monkeypatch.setattr(study, "POLL_SECONDS", 0.01)
    held = []

    def stop_locked(request):
        held.append(RunFolder.create(request.log_folder, "qam", ENV, 7))
        stop(request)

    def wait(text):
        assert "is still being trained by process" in text
        held.pop().lock.release()

    fake.objective = stop_locked
    fake.tune("--n-trials 1", code=3)
    fake.objective = near_three
    monkeypatch.setattr(study, "say_once", wait)
    fake.tune("--n-trials 1")
    assert held == []


# -- where a study is kept --------------------------------------------------------------------------------------------


def test_a_database_that_has_lost_its_study_is_not_written_over(fake):
    fake.tune("--n-trials 1")
    (fake.folder / "study.db").unlink()
    assert "put a copy of the database back" in fake.tune("--n-trials 1", code=2)[1]


@pytest.mark.parametrize("content", ["some notes\n", "\0" * 4096])
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(fake, content):
    file = fake.logs / "notes.txt"
    file.write_text(content)
    assert "notes.txt cannot be opened" in fake.tune(f"--storage {file}", code=2)[1]
    assert file.read_text() == content
    assert not fake.folder.exists()


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["s?a=1", "p%41", "b{x}", "a 'b' \"c\"", "Größe #1"])
def test_a_study_is_kept_under_its_own_name_whatever_letters_that_has(fake, name):
    flags = f"--n-trials 1 --study-name {shlex.quote(name)}"
    fake.tune(flags)
    assert fake.tune(flags)[0]["trials"] == {"complete": 2}
    assert list(fake.logs.rglob("*.db")) == [fake.logs / "studies" / name / "study.db"]
    assert read_trial(name, "0", fake.logs, "qam").source.startswith(f"study {name}, trial 0")


def test_a_locked_database_is_named_with_what_to_do(fake, monkeypatch):
    monkeypatch.setattr(options, "LOCK_SECONDS", 0.01)
    file = fake.logs / "study.db"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        _, errors = fake.tune(f"--storage {file}", code=2)
    assert "study.db cannot be opened" in errors
    assert "database is locked" in errors


# -- training with the settings of a trial -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Return a log folder with a study of four trials; nobody may change it."""
    folder = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "draw_figures", lambda *about: [])
        patch.setattr(study, "train", Study(folder, None).train)
        assert main(command(folder, "--n-trials 4")) == 0
    return folder


def test_a_trial_is_found_by_number_and_the_best_by_its_score(logs):
    read = partial(read_trial, "s", log_folder=logs, algo="qam")
    first = read("0")
    assert first.settings == {"inverse_temperature": 0.3}
    assert first.source.startswith("study s, trial 0 (score 0.")
    sources = [read(str(number)).source for number in range(4)]
    best = max(sources, key=lambda text: float(text.split("score ")[1].rstrip(")")))
    assert read("best").source == best


def test_what_a_run_changes_besides_its_seeds_is_told_where_it_begins_with_a_trial(logs, capsys):
    def warning(flags):
        words = f"--algo qam --env {ENV} -f {logs} --study s --trial-id best {flags}".split()
        with_trial(read_request(make_parser().parse_args(words)))
        return capsys.readouterr().err

    assert warning("") == ""
    differences = "were tuned otherwise: offline_steps: 1000000 there, 5 now; env_kwargs: not set"
    assert differences in warning("--offline-steps 5 --env-kwargs k=1")


def test_a_study_is_named_by_its_file_too(logs, tmp_path, monkeypatch):
    file = str(logs / "studies" / "s" / "study.db")
    shutil.copy(file, tmp_path / "a:b.db")
    monkeypatch.chdir(tmp_path)
    for name in (file, f"{file}:s", "a:b.db", "a:b.db:s"):
        trial = read_trial(name, "0", Path("elsewhere"), "qam")
        assert trial.settings == {"inverse_temperature": 0.3}


@pytest.mark.parametrize(
    ("name", "trial", "algo", "message"),
    [
        ("t", "0", "qam", "there are: s"),
        ("s", "9", "qam", "0, 1, 2, 3; or best"),
        ("s", "0", "fql", "tuned qam"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(logs, name, trial, algo, message):
    with refuses(message):
        read_trial(name, trial, logs, algo)


def test_a_database_of_several_studies_asks_for_one(logs, fake):
    file = Path(shutil.copytree(logs, fake.logs / "logs")) / "studies" / "s" / "study.db"
    fake.tune(f"--n-trials 1 --storage {file} --study-name t")
    with refuses("s, t"):
        read_trial(str(file), "0", fake.logs, "qam")
    assert read_trial(f"{file}:t", "0", fake.logs, "qam").source.startswith("study t, trial 0")
