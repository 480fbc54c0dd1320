"""The meaning of a suite's file, values that are rejected in it, and the states of its jobs."""

import contextlib
import shutil
from dataclasses import replace
from itertools import product

import pytest
import yaml

from tests.zoo.outcomes import change_status, refuses
from tests.zoo.runs.helpers import write_run
from zoo.runs.resume import stored_runs
from zoo.settings.layers import nested
from zoo.suites.jobs import State, make_jobs, print_jobs, status_of, summarise, warn_of_failure
from zoo.suites.suite import Suite, read_suite, select
from zoo.terminal.errors import TRACEBACK_HINT

MAZE = "pointmaze-medium-navigate-singletask-task1-v0"


def write(folder, **values):
    """Write a valid suite file, except for the given values."""
    content = {"algorithms": ["fql"], "environments": [MAZE], "seeds": "0-1", **values}
    path = folder / "suite.yml"
    path.write_text(yaml.safe_dump(content))
    return path


def runs(folder, **values):
    return read_suite(write(folder, **values)).runs()


def test_every_algorithm_runs_on_every_environment(tmp_path):
    tasks = [f"scene-play-singletask-task{task}-v0" for task in range(1, 6)]
    environments = [MAZE, "scene-play", tasks[1], "mine:Unversioned"]
    suite_runs = runs(tmp_path, algorithms=["fql", "qam"], environments=environments)
    expected = product([MAZE, *tasks, "mine:Unversioned"], ["fql", "qam"])
    assert [(run.env, run.algo) for run in suite_runs] == list(expected)
    assert {run.seeds for run in suite_runs} == {(0, 1)}


@pytest.mark.parametrize(
    ("at_once", "groups"),
    [(1, [(0,), (1,), (2,), (7,)]), (3, [(0, 1, 2), (7,)]), ("all", [(0, 1, 2, 7)])],
)
def test_seeds_are_trained_in_groups(tmp_path, at_once, groups):
    assert [run.seeds for run in runs(tmp_path, seeds=["0-2", 7], seeds_at_once=at_once)] == groups
    sb3_runs = runs(tmp_path, algorithms=["sac"], seeds_at_once=at_once)
    assert [run.seeds for run in sb3_runs] == [(0,), (1,)]


def test_the_settings_of_a_variant_win_over_those_of_all_runs(tmp_path):
    variant = {"algo": "fql", "label": 2, "params": {"distill_weight": 1.0}}
    suite = Suite(["fql", variant], [MAZE], 0, params={"gamma": 0.5, "distill_weight": 2.0})
    jobs = make_jobs(suite, suite.runs(), tmp_path, "cpu")
    weights = {job.name.partition("-")[0]: job.settings["settings.distill_weight"] for job in jobs}
    assert weights == {"fql": 2.0, "2": 1.0}
    assert {job.settings["settings.gamma"] for job in jobs} == {0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "algorithm: [fql]": "algorithms",
        "seeds: null": "seeds",
        "seeds_at_once: 0": "seeds_at_once",
        "seeds_at_once: true": "seeds_at_once",
        "algorithms: [fqll]": "closest: fql",
        "algorithms: [fql, {algo: fql}]": "label",
        "environments: a": "environments",
        "{algorithms: [fql, bc], focus: bcc}": "closest: bc",
        "environments: [5]": "must list names",
        "algorithms: [{algo: [fql]}]": "must be an id or a mapping with `algo`",
        "algorithms: [{algo: fql, pparams: {}}]": "closest: params",
        "params: [gamma]": "`params` of",
        "algorithms: []": "lacks `algorithms`",
        "quick: 'no'": "must be true or false",
        "algorithms: [fbrac, bptt]": "fbrac twice",
        "published: [qam2062]": "closest: qam2026",
    }.items(),
)
def test_a_wrong_file_is_refused(tmp_path, text, message):
    with refuses(message):
        runs(tmp_path, **yaml.safe_load(text))


def test_a_file_that_is_missing_or_no_mapping_is_refused(tmp_path):
    (tmp_path / "list.yml").write_text("[1, 2]")
    for name in ("missing", "list"):
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
def jobs(tmp_path):
    """Return three jobs of two seeds each: done, dead (its process is gone), and not started."""
    suite = Suite(["fql", "bc", "qam"], [MAZE], "0-1", quick=True, params={"offline_steps": 40})
    jobs = make_jobs(suite, suite.runs(), tmp_path, "cpu")
    for job, state in zip(jobs, ("done", "running"), strict=False):
        write_runs(job, state)
    write_runs(jobs[0], "running", first=3)  # the job was also started outside of the suite
    return jobs


def write_runs(job, state, first=1):
    """Write the run folders of a job."""
    together = {"seeds": [0, 1], "folders": [f"{MAZE}_{first}", f"{MAZE}_{first + 1}"]}
    for seed in (0, 1):
        entries = {**nested(job.settings), "seed": seed, **together}
        entries["settings"]["compile"] = "on"  # as on another machine
        folder = job.log_folder / job.config.algo / together["folders"][seed]
        write_run(folder, offline=(seed,), episodes=4, interval=12, state=state, **entries)


def test_run_folders_and_locks_tell_the_state_of_each_job(jobs):
    def states():
        return [status.state for status in map(status_of, jobs)]

    assert states() == [State.FINISHED, State.INTERRUPTED, State.WAITING]
    other_seeds = [replace(job, run=replace(job.run, seeds=(0,))) for job in jobs]
    assert {status_of(job).state for job in other_seeds} == {State.WAITING}
    other_settings = replace(jobs[0], config=replace(jobs[0].config, profile="other"))
    assert len({job.name for job in (*jobs, *other_seeds, other_settings)}) == 7
    with jobs[0].make_lock(), jobs[1].make_lock(), jobs[2].make_lock():
        assert states() == [State.FINISHED, State.RUNNING, State.RUNNING]
    shutil.rmtree(jobs[1].log_folder / "bc")
    write_runs(jobs[1], "failed")
    jobs[2].log_file.touch()
    assert states() == [State.FINISHED, State.FAILED, State.FAILED]
    result = summarise(list(map(status_of, jobs)))
    assert result == result | {"jobs": 3, "runs": 6, "done": 1, "failed": 2, "waiting": 0}


def test_a_job_that_ends_while_its_runs_are_read_is_not_interrupted(jobs, monkeypatch):
    with contextlib.ExitStack() as held:
        held.enter_context(jobs[1].make_lock())

        def read(*arguments):
            runs = stored_runs(*arguments)
            held.close()
            return runs

        monkeypatch.setattr("zoo.suites.jobs.stored_runs", read)
        assert status_of(jobs[1]).state == State.RUNNING


def test_a_job_with_a_final_state_has_not_failed(jobs, caplog, capsys, monkeypatch):
    write_runs(jobs[2], "failed")
    for folder in (jobs[2].log_folder / "qam").iterdir():
        change_status(folder, failure="diverged")
    job_and_seeds = f"qam on {MAZE}, seeds 0, 1"
    for job in jobs:
        warn_of_failure(job, "killed by signal 9")
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "done",
        "interrupted",
        "diverged",
    ]
    log = f"\xff\nDivergedError: the last message\n{TRACEBACK_HINT}\n"
    jobs[2].log_file.parent.mkdir()
    for job in jobs:
        job.log_file.write_bytes(log.encode("latin-1"))
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "60")
    with jobs[1].make_lock():  # the last messages of running and finished jobs are not shown
        print_jobs([status_of(job) for job in reversed(jobs)])
    shown = capsys.readouterr().err
    assert max(map(len, shown.splitlines())) <= 60
    words = " ".join(shown.split())
    assert "diverged qam pointmaze-medium-navigate task1 0, 1" in words
    message = "DivergedError: the last message"
    assert words.endswith(f"! diverged: {job_and_seeds}; last message: {message}")
    change_status(folder, state="interrupted", failure=None)
    assert status_of(jobs[2]).state == State.INTERRUPTED


def test_settings_of_a_file_are_those_of_the_jobs(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "conf.yml").write_text(f"{MAZE}: {{distill_weight: 7.0}}")
    values = {"params": {"gamma": 0.9}, "dataset": "generate", "dataset_dir": "data"}
    values |= {"env_kwargs": {"max_episode_steps": 5}, "gym_packages": ["json"]}
    label = "/" + "𠀀" * 300
    variant = {"algo": "fql", "label": label}
    suite = Suite([variant], [MAZE], "0-1", quick=True, conf="~/conf.yml", **values)
    (job,) = make_jobs(suite, suite.runs(), tmp_path, "cpu")
    assert job.settings["settings.distill_weight"] == 7.0
    words = f"--algo=fql --env={MAZE} --seeds 0 1 --quick --hyperparams gamma=0.9 --conf-file={tmp_path}/conf.yml "
    words += "--resume --dataset=generate --dataset-dir=data --env-kwargs max_episode_steps=5 "
    words += f"--gym-packages json --device=cpu --log-folder={tmp_path} --label={label}"
    assert " ".join(job.words) == words
    with job.make_lock():  # its file's name is valid
        assert job.log_file.parent == tmp_path / ".jobs"
