"""A release that adds a setting changes no run: what was trained before is resumed, found and kept as it was."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from agents.common.common_settings import CommonSettings
from agents.common.method import Method
from agents.common.settings import Setting
from agents.fql import FQL
from tests import ROOT
from tests.zoo.envs import toys  # noqa: F401  registers the environments
from tests.zoo.helpers import stopped_at_an_evaluation
from tests.zoo.outcomes import config_of
from zoo.runs.folder import RunFolder
from zoo.runs.read import read_runs
from zoo.settings.record import RunSettings
from zoo.suites.jobs import JobStore, make_jobs
from zoo.suites.saved_scores import find_saved, write_scores
from zoo.suites.suite import Suite, read_suite
from zoo.train import main

PARAMS = yaml.safe_load("""
net_arch: [8]
ensemble_size: 2
flow_steps: 2
batch_size: 8
learning_starts: 4
buffer_size: 50
offline_steps: 0
online_steps: 12
eval_freq: 6
eval_episodes: 1
""")
SUITE = Suite(algorithms=["fql"], environments=["Toy-v0"], seeds=[1], params=PARAMS)


def job_in(logs):
    (job,) = make_jobs(SUITE, SUITE.runs(), logs)
    return job


def train(logs, code=0, resume=True):
    words = [*job_in(logs).words, "--verbose=0", "--n-eval-envs=1", "--device=cpu"]
    if not resume:
        words.remove("--resume")
    assert main(words) == code


@pytest.fixture
def release(monkeypatch):
    """Return what adds a setting to an algorithm, to all of them and to runs, as the next release may."""

    def add_settings():
        for owner in (FQL, Method, CommonSettings, RunSettings):
            name = "later_of_runs" if owner is RunSettings else "later"
            setting = Setting(default=0.25, doc="Came later.")
            setting.name, setting.type, setting.annotation = name, float, "float"
            monkeypatch.setitem(owner.declared(), name, setting)

    return add_settings


@pytest.mark.parametrize("is_done", [False, True])
def test_a_run_of_an_earlier_release_is_resumed(is_done, tmp_path, release):
    if is_done:
        train(tmp_path)
    else:
        with stopped_at_an_evaluation():
            train(tmp_path, code=3)
    release()
    train(tmp_path)
    (folder,) = tmp_path.glob("fql/*")
    assert RunFolder(folder).read_status()["online_step"] == 12
    assert "later" not in config_of(folder)["settings"]
    assert RunFolder(folder).read_config().settings["later"] == 0.25


def test_a_job_and_its_saved_scores_are_found_again_unless_the_later_setting_has_another_value(
    tmp_path, release, monkeypatch
):
    logs, scores = tmp_path / "logs", tmp_path / "scores"
    train(logs)
    job = job_in(logs)
    status = JobStore(logs).status(job)
    assert status.state.is_final
    write_scores([status], scores)
    name = job.name
    release()
    later = job_in(logs)
    assert later.settings["settings.later"] == later.settings["later_of_runs"] == 0.25
    assert later.name == name
    assert JobStore(logs).status(later).run.folders[0].path == status.run.folders[0].path
    assert find_saved([later], scores) == {name}
    monkeypatch.setitem(PARAMS, "later", 0.5)
    changed = job_in(logs)
    assert JobStore(logs).status(changed).run is None
    assert changed.name != name
    assert changed.settings_hash != later.settings_hash


def test_runs_of_two_releases_are_one_method(tmp_path, release):
    train(tmp_path)
    release()
    train(tmp_path, resume=False)
    for number in (1, 2):
        settings = config_of(tmp_path / "fql" / f"Toy-v0_{number}")["settings"]
        assert ("later" in settings) == (number == 2)
    assert list(read_runs([tmp_path]).runs["method"].unique()) == ["fql"]


@pytest.mark.few(2)
@pytest.mark.parametrize("algo", ["fql", "sac", "qam"])
def test_the_scores_of_the_mini_benchmark_are_still_those_of_its_settings(algo, release, tmp_path):
    release()
    suite = read_suite(ROOT / "benchmarks" / "suites" / "mini.yml")
    run = next(run for run in suite.runs() if run.algo == algo and run.label in ("", algo))
    (job,) = make_jobs(suite, [run], tmp_path)
    saved = pd.read_csv(Path(ROOT, "results", "mini", f"{algo}.csv"))
    assert set(saved["settings"][saved["environment"] == run.env]) == {job.settings_hash}
