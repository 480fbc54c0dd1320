"""What is said while jobs are trained."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

import zoo.suites.jobs
from tests.zoo.runs.helpers import write_run
from zoo.settings.layers import merge
from zoo.suites.jobs import JobStore, State, follow, make_jobs
from zoo.suites.suite import Suite

MAZE = "pointmaze-medium-navigate-singletask-task1-v0"


@pytest.fixture
def store(tmp_path):
    return JobStore(tmp_path)


@pytest.fixture
def jobs(tmp_path):
    """Return a job that is done, and one that this process trains, of two seeds."""
    suite = Suite(["fql", "bc"], [MAZE], "0-1", quick=True, params={"offline_steps": 40})
    jobs = make_jobs(suite, suite.runs(), tmp_path)
    together = {"seeds": [0, 1], "folders": [f"{MAZE}_1", f"{MAZE}_2"]}
    for job, state in zip(jobs, ("done", "running"), strict=True):
        for seed in (0, 1):
            entries = {**merge({}, job.settings), "seed": seed, **together}
            folder = tmp_path / job.algo / f"{MAZE}_{seed + 1}"
            write_run(folder, offline=(2 * seed,), episodes=4, interval=12, state=state, **entries)
    return jobs


def test_a_terminal_shows_step_and_score_of_what_runs(jobs, store, monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None)
    monkeypatch.setattr(zoo.suites.jobs, "terminal", lambda: console)
    lock = store.lock(jobs[1])
    with lock, follow(store, jobs) as report:
        report()
        report()  # too soon
    shown = " ".join(console.file.getvalue().split())
    # 0 of 4 episodes of one seed, 2 of 4 of the other
    assert re.search(r" bc pointmaze-medium-navigate task1 2 running 12/40 [\d:]+ 25\.0 12 ", shown)
    assert "1 of 2 jobs are done, 1 running" in shown


def test_elsewhere_a_line_says_what_has_changed(jobs, store, caplog, monkeypatch):
    monkeypatch.setattr(zoo.suites.jobs, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(zoo.suites.jobs, "MAX_READING_SHARE", float("inf"))
    with follow(store, jobs) as report:
        report()
        report()
    assert caplog.text.count("1 of 2 jobs are done, 1 interrupted") == 1


def test_a_job_that_is_due_again_says_which_setting_has_changed(jobs, store):
    job = jobs[0]
    settings = job.config.settings
    changed = replace(job, config=replace(job.config, settings={**settings, "gamma": 0.5}))
    status = store.status(changed)
    assert status.state is State.WAITING
    path = store.status(job).run.folders[0].path
    assert status.reason == f"{path} differs in gamma: {settings['gamma']} there, 0.5 now"
