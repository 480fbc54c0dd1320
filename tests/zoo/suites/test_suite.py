"""What a suite's file means, what is refused in it, and how far its runs are."""

import io
import re
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import yaml
from rich.console import Console

import zoo.suites.jobs
from tests.zoo.outcomes import refuses
from tests.zoo.runs.helpers import write_run
from zoo.algorithms.overview import update_operations
from zoo.runs.folder import RunFolder
from zoo.runs.resume import StoredRun
from zoo.settings.layers import merge
from zoo.settings.record import RunRecord, RunSettings
from zoo.suites.jobs import Job, JobStatus, JobStore, Progress, State, follow, make_jobs
from zoo.suites.suite import Run, Suite, read_suite, select

MAZE = "pointmaze-medium-navigate-singletask-task1-v0"


def write(folder, **values):
    """Write a suite's file: one that is right, except for what is given."""
    content = {"algorithms": ["fql"], "environments": [MAZE], "seeds": "0-1", **values}
    path = folder / "suite.yml"
    path.write_text(yaml.safe_dump(content))
    return path


def runs(folder, **values):
    return read_suite(write(folder, **values)).runs()


def test_every_algorithm_runs_on_every_environment_and_a_domain_stands_for_its_five_tasks(tmp_path):
    environments = [MAZE, "scene-play", "mine:Unversioned"]
    suite_runs = runs(tmp_path, algorithms=["fql", "qam"], environments=environments)
    tasks = [f"scene-play-singletask-task{task}-v0" for task in range(1, 6)]
    expected = product([MAZE, *tasks, "mine:Unversioned"], ["fql", "qam"])
    assert [(run.env, run.algo) for run in suite_runs] == list(expected)
    assert {run.seeds for run in suite_runs} == {(0, 1)}


@pytest.mark.parametrize(
    ("at_once", "groups"),
    [(1, [(0,), (1,), (2,), (7,)]), (3, [(0, 1, 2), (7,)]), ("all", [(0, 1, 2, 7)])],
)
def test_seeds_are_trained_in_groups(tmp_path, at_once, groups):
    assert [run.seeds for run in runs(tmp_path, seeds=["0-2", 7], seeds_at_once=at_once)] == groups


OVERRIDDEN = """
algorithms: [fql, qam, {algo: fql, label: FQL strong, params: {distill_weight: 1.0}}]
environments: [pointmaze-medium-navigate-singletask-task1-v0, scene-play-singletask-task2-v0]
params: {offline_steps: 10, distill_weight: 2.0}
overrides:
- {algorithms: fql, params: {distill_weight: 3.0}}
- {environments: scene-*, params: {offline_steps: 20}}
- {algorithms: [FQL *], environments: [scene-*], params: {eval_freq: 5}}
"""


def test_overrides_hold_where_their_patterns_match_and_the_last_wins(tmp_path):
    suite_runs = runs(tmp_path, **yaml.safe_load(OVERRIDDEN))
    params = {(run.name, run.env == MAZE): run.params for run in suite_runs}
    assert params["fql", True] == {"offline_steps": 10, "distill_weight": 3.0}
    assert params["qam", False] == {"offline_steps": 20, "distill_weight": 2.0}
    expected = {"offline_steps": 10, "distill_weight": 1.0}
    assert params["FQL strong", True] == expected
    assert params["FQL strong", False] == {**expected, "offline_steps": 20, "eval_freq": 5}


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "algorithm: [fql]": "algorithms",
        "seeds: null": "seeds",
        "seeds_at_once: 0": "seeds_at_once",
        "algorithms: [fqll]": "closest: fql",
        "algorithms: [fql, {algo: fql}]": "label",
        "algorithms: [{algo: fql, param: {}}]": "closest: params",
        "overrides: [{params: 2}]": "params",
        "environments: a": "environments",
        "{algorithms: [fql, bc], focus: bcc}": "closest: bc",
        "quick: 'no'": "quick",
        "{quick: true, profile: qam}": "give one of them",
        "algorithms: []": "lacks `algorithms`",
        "algorithms: [fbrac, bptt]": "fbrac twice",
        "overrides: [{algorithms: fql, environments: [scene-*, '*maze*']}]": "suite `scene-\\*`; choose from",
        "published: [qam2062]": "closest: qam2026",
    }.items(),
)
def test_a_wrong_file_is_refused(tmp_path, text, message):
    with refuses(message):
        runs(tmp_path, **yaml.safe_load(text))


def test_a_file_that_is_missing_or_no_mapping_is_refused(tmp_path):
    (tmp_path / "latin.yml").write_bytes("title: Größe".encode("latin-1"))
    (tmp_path / "list.yml").write_text("[1, 2]")
    for name in ("missing", "latin", "list"):
        with refuses(name):
            read_suite(tmp_path / f"{name}.yml")


def test_runs_are_selected_by_patterns():
    task = "scene-play-singletask-task2-v0"
    hot, big = {"algo": "qam", "label": "QAM hot"}, {"algo": "fql", "label": "FQL [big]"}
    suite_runs = Suite(["fql", hot, big], [MAZE, task], 0).runs()
    (run,) = select(suite_runs, ["QAM*"], ["scene-*"])
    assert (run.label, run.env) == ("QAM hot", task)
    assert {run.label for run in select(suite_runs, ["FQL [big]"], [])} == {"FQL [big]"}
    with refuses("`dsrl`"):
        select(suite_runs, ["dsrl"], [])


@pytest.fixture
def status(tmp_path):
    """Return what makes the status of a job whose run folder has some size."""

    def make(algo, env, state, seconds=0.0, size=0, seeds=2, reason=""):
        run = Run(algo, f"{env}-singletask-task1-v0", tuple(range(seeds)))
        config = RunRecord(algo, run.env, run=RunSettings(offline_steps=1_000))
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        (folder / "model").write_bytes(bytes(size))
        stored = StoredRun([RunFolder(folder)], config, [])
        return JobStatus(Job(run, (), config), state, stored, seconds, reason)

    return make


def test_what_is_left_takes_as_long_as_finished_jobs_of_its_algorithm_and_domain(status):
    statuses = [
        status("fql", "scene-play", State.DIVERGED, seconds=1.0),  # before its last step
        status("fql", "scene-play", State.FINISHED, seconds=20.0, size=400),
        status("fql", "cube-single-play", State.FINISHED, seconds=99.0, size=600),
        status("fql", "scene-play", State.WAITING, seeds=4),
        status("fql", "scene-play", State.INTERRUPTED, size=300),
    ]
    progress = Progress(statuses)
    assert progress.left == statuses[3:]
    assert progress.costs == pytest.approx((40.0 + 20.0, 4 * 250 + 2 * 250 - 300))


def test_an_algorithm_without_a_finished_job_takes_as_long_as_its_operations_say(status):
    done = status("fql", "scene-play", State.FINISHED, seconds=20.0)
    operations = update_operations()
    for algo in ("qam", "bc"):
        progress = Progress([done, status(algo, "cube-single-play", State.WAITING)])
        assert progress.costs[0] == pytest.approx(20.0 * operations[algo] / operations["fql"])
    unlisted = status("sac", "scene-play", State.WAITING)  # the table lacks it
    assert Progress([done, unlisted]).costs[0] > 0


def test_the_time_of_a_suite_without_a_finished_job_is_unknown_and_a_finished_suite_costs_nothing(
    status,
):
    progress = Progress([status("qam", "scene-play", State.WAITING)])
    assert progress.summary()["hours_left"] is None
    assert "the remaining time is unknown" in str(progress)
    result = Progress([status("qam", "scene-play", State.DIVERGED)]).summary()
    assert result["hours_left"] == 0.0
    assert result["gigabytes_left"] == 0.0


def test_failures_are_named_with_their_reason_and_counted(status):
    statuses = [
        status("qam", "scene-play", State.FAILED, reason="no luck"),
        status("fql", "scene-play", State.DIVERGED, reason="training diverged: NaN"),
        status("qam", "scene-play", State.FINISHED, seconds=3_600.0, size=10**6),
    ]
    progress = Progress(statuses, workers=4)
    result = progress.summary()
    assert result == result | {"failed": 1, "diverged": 1, "done": 1, "runs": 6}
    reasons = [problem["reason"] for problem in result["problems"]]
    assert reasons == ["no luck", "training diverged: NaN"]
    text = str(progress)
    assert "failed: qam on scene-play-singletask-task1-v0, seeds 0, 1: no luck" in text
    assert "1.0 h of one worker, 0.2 h with 4 workers, and 0.0 GB" in text


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
