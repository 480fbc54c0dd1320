"""Studies that are continued, with functions instead of training runs."""

import math
import shlex
import signal
import sqlite3

import optuna
import pytest
import yaml

from agents.common.sb3.environments import DivergedError
from zoo.settings.config import Benchmark, load_config
from zoo.settings.layers import parse_overrides
from zoo.settings.request import TrainRequest
from zoo.terminal.errors import Interrupted, UsageError
from zoo.terminal.messages import log_to_folders
from zoo.tune import main
from zoo.tuning import study
from zoo.tuning.study import Pruned

ENV = "pointmaze-medium-navigate-singletask-task1-v0"


def scored(*scores):
    """Return a training program's result with a success rate for each seed."""
    return {"runs": [{"success": score} for score in scores]}


def near_three(request):
    """Score two replicas by the distance of the inverse temperature from 3."""
    value = parse_overrides(request.hyperparams)["inverse_temperature"]
    score = 1 / (1 + abs(value - 3.0))
    return scored(score, score / 2)


def stop(request):
    raise Interrupted("stopped by a signal")


def stop_before_training(request):
    signal.raise_signal(signal.SIGTERM)  # the training loop handles signals itself
    return scored(1.0)


class Study:
    """A study in a log folder whose trials are a function of their requests."""

    def __init__(self, logs, call):
        self.logs, self.call, self.requests = logs, call, []
        self.folder = logs / "studies" / "s"
        self.objective = near_three

    def train(self, request, observe):
        self.requests.append(request)
        request.log_folder.mkdir(parents=True, exist_ok=True)
        return self.objective(request)

    def tune(self, flags="", code=0):
        """Run the program; return its result and its messages."""
        words = ["--algo", "qam", "--env", ENV, "-f", self.logs, "--seeds", "7", "8"]
        return self.call(main, *words, "--study-name", "s", *shlex.split(flags), code=code)

    @property
    def trials(self):
        url = f"sqlite:///{self.folder / 'study.db'}".replace("?", "%3F")
        return optuna.load_study(study_name="s", storage=url).trials

    @property
    def states(self):
        return [trial.state.name.lower() for trial in self.trials]


@pytest.fixture
def fake(call, monkeypatch, tmp_path):
    fake = Study(tmp_path / "my logs?", call)
    monkeypatch.setattr(study, "train", fake.train)
    return fake


def test_the_best_settings_are_a_file(fake):
    tau = "tau=0.01:0.1"
    result, _ = fake.tune(
        f"--n-trials 4 --search inverse_temperature {tau} --quick --offline-steps 1000 --eval-freq 100 "
        "--eval-episodes 2 -params rho=0.1"
    )
    trials, best = fake.trials, result["best"]
    assert result["trials"] == {"complete": 4}
    assert best["score"] == max(trial.value for trial in trials) == trials[best["trial"]].value
    text = (fake.folder / "best.yml").read_text()
    assert list(yaml.safe_load(text)) == [ENV]
    request = TrainRequest(algo="qam", env=ENV, conf_file=fake.folder / "best.yml")
    config = load_config(request, Benchmark("pointmaze-medium-navigate"))
    assert config.settings.items() >= best["settings"].items()
    assert "tuned here" in config.sources[-1]


def test_the_first_trial_has_untuned_settings_and_others_differ(fake, monkeypatch):
    # the first call ends before it has queued a trial, the second one after that
    for owner, name in ((study, "params_of"), (optuna.Study, "set_user_attr")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, None)
            fake.tune(code=1)
    fake.tune("--n-trials 3")
    values = [trial.params["inverse_temperature"] for trial in fake.trials]
    assert values[0] == 0.3
    assert len(set(values)) == 3


def test_a_trial_that_fails_is_recorded_and_the_study_goes_on(fake):
    errors = iter([RuntimeError("no memory"), Pruned("score 1"), DivergedError("loss = nan")])

    def fail_at_first(request):
        log_to_folders([request.log_folder])
        for error in errors:
            raise error
        return {"runs": [{"return": None}, {"return": 1.0}]}  # one seed has diverged

    fake.objective = fail_at_first
    result, messages = fake.tune("--n-trials 4 -params score=return")
    assert result["trials"] == {"fail": 1, "pruned": 1, "complete": 2}
    assert "trial 0 failed: RuntimeError: no memory" in messages
    assert "loss = nan" in messages
    assert "in fail_at_first" in (fake.folder / "trial_0" / "run.log").read_text()
    assert fake.trials[0].user_attrs["reason"] == "RuntimeError: no memory"
    # a diverged seed has the lowest return, which JSON has no number for
    assert [trial.value for trial in fake.trials[2:]] == [-math.inf, -math.inf]
    assert result["best"]["score"] is None


def test_bad_input_that_a_trial_finds_ends_the_study(fake):
    def refuse(request):
        request.log_folder.rmdir()  # the run is rejected before its folder is created
        raise UsageError("`--dataset` has no such file")

    fake.objective = refuse
    _, errors = fake.tune(code=2)
    assert errors.strip().endswith("`--dataset` has no such file")
    assert fake.states == ["fail"]


def test_other_settings_are_another_study(fake):
    fake.tune("--n-trials 1")
    for flags, difference in (
        ("-params rho=0", "rho: 0.5 (stored), 0.0 (now)"),
        ("--seeds 7", "seeds: [7, 8] (stored), [7] (now)"),
        ("--dataset generate", "dataset: auto (stored), generate (now)"),
        ("--search inverse_temperature=1:2", "'inverse_temperature': '1.0:2.0'"),
    ):
        assert difference in fake.tune(f"--n-trials 2 {flags}", code=2)[1]
    assert len(fake.trials) == 1


def signaled(call):
    """Return a function that is called while its process receives Ctrl-C."""

    def called(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        return call(*args, **kwargs)

    return called


@pytest.mark.parametrize("objective", [stop, stop_before_training])
def test_a_stopped_trial_continues_its_runs_and_counts_once(fake, objective, monkeypatch):
    fake.objective = objective
    with monkeypatch.context() as patch:
        # Ctrl-C while Optuna queues the trial again
        queue = study.RetryHeartbeatStaleTrialCallback
        patch.setattr(queue, "__call__", signaled(queue.__call__))
        fake.tune("--n-trials 3", code=3)
    assert fake.states == ["fail", "waiting"]
    fake.objective = near_three
    # the number of trials is the total of all calls, so the second call has nothing to do
    for _ in range(2):
        assert fake.tune("--n-trials 3")[0]["trials"] == {"complete": 3}
    assert fake.trials[0].params == fake.trials[1].params
    folders = [request.log_folder.name for request in fake.requests]
    assert folders == ["trial_0", "trial_0", "trial_2", "trial_3"]
    assert all(request.resume for request in fake.requests)


class Killed(BaseException):
    """Ends a call like a kill: nothing about its trial is recorded."""


def test_a_killed_trial_is_repeated_but_not_for_ever(fake, monkeypatch):
    monkeypatch.setattr(study, "MAX_RETRIES", 1)

    def train(request):
        raise Killed

    fake.objective = train
    for _ in range(2):
        with pytest.raises(Killed):
            fake.tune("--n-trials 1")
        with sqlite3.connect(fake.folder / "study.db") as database:
            database.execute("UPDATE trial_heartbeats SET heartbeat = '2000-01-01'")
    fake.objective = near_three
    assert {request.log_folder for request in fake.requests} == {fake.folder / "trial_0"}
    fake.tune("--n-trials 2")
    assert fake.states == ["fail", "fail", "complete"]
    assert fake.requests[-1].log_folder == fake.folder / "trial_2"


@pytest.mark.parametrize("content", ["some notes\n", "\0" * 4096])
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(fake, content, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text(content)
    assert "notes.txt cannot be opened" in fake.tune(f"--study-storage 'sqlite:///{file}'", 2)[1]
    assert file.read_text() == content
