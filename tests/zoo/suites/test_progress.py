"""What is said while jobs are trained."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import zoo.suites.progress
from zoo.runs.episodes import EpisodeResults
from zoo.runs.folder import RunFolder, with_evaluation
from zoo.settings.layers import merge
from zoo.settings.record import RunRecord
from zoo.suites.jobs import make_jobs
from zoo.suites.progress import follow
from zoo.suites.store import JobStore, State
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
            folder = RunFolder.create(tmp_path, job.algo, MAZE, seed)
            record = RunRecord.read({**merge({}, job.settings), "seed": seed, **together})
            folder.write_config(record)
            folder.write_status(state, seed, 0, 0)
            speed = "time/total_timesteps,time/time_elapsed,time/updates_per_s\n12,3,4.0\n"
            folder.progress.write_text(speed)
            one_row = np.ones((1, 4), int)
            successes = np.array([[seed, seed, 0, 0]])
            results = EpisodeResults(successes, one_row, one_row, one_row[0], np.array([True]))
            folder.write_evaluations(with_evaluation({}, 10, 0, results))
            folder.lock.release()
    return jobs


def test_a_terminal_shows_phase_step_and_score_of_what_runs(jobs, store, monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=200, highlight=False)
    monkeypatch.setattr(zoo.suites.progress, "terminal", lambda: console)
    ended = iter([False, True])
    lock = store.lock(jobs[1])
    lock.path.parent.mkdir()
    with lock:
        follow(store, jobs, lambda seconds: next(ended))
    shown = console.file.getvalue()
    # 0 of 4 episodes of one seed, 2 of 4 of the other
    assert f"bc on {MAZE}, seeds 0, 1: offline step 12 of 40, success 25.0%" in shown
    assert "1 of 2 jobs are done, 1 running" in shown


def test_elsewhere_a_line_says_what_has_changed(jobs, store, caplog):
    ended = iter([False, False, True])
    follow(store, jobs, lambda seconds: next(ended))
    assert caplog.text.count("1 of 2 jobs are done, 1 interrupted") == 1


def test_a_job_that_is_due_again_says_which_setting_has_changed(jobs, store):
    job = jobs[0]
    settings = job.config.settings
    changed = replace(job, config=replace(job.config, settings={**settings, "gamma": 0.5}))
    status = store.status(changed)
    assert status.state is State.WAITING
    path = store.status(job).run.folders[0].path
    assert status.reason == f"{path} differs in gamma: {settings['gamma']} there, 0.5 now"
