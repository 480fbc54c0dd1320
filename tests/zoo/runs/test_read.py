"""Reading run folders, which `write_run` creates like ``train.py``."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.zoo.runs.helpers import CUBE, write_run
from zoo.datasets.names import split_environment
from zoo.envs.tasks import TASKS
from zoo.runs.folder import RunFolder, summarise
from zoo.runs.protocol import protocol_differences
from zoo.runs.read import read_runs, read_speed


def reasons(logs):
    return {Path(row["path"]).name: row["reason"] for row in read_runs([logs]).skipped()}


def methods(logs):
    return sorted(set(read_runs([logs]).counted()["method"]))


def test_evaluations_have_their_phase_step_and_score(tmp_path):
    write_run(tmp_path / "run", offline=(10, 20), online=(50,), seed=7)
    table = read_runs([tmp_path]).counted().set_index(["seed", "domain", "phase", "step"])
    about = (7, "scene-play")
    steps = [("offline", 1000), ("offline", 2000), ("online", 3000)]
    assert table.index.tolist() == [(*about, *step) for step in steps]
    assert table["score"].tolist() == [0.2, 0.4, 1.0]
    assert table["return"].tolist() == [-82.0, -64.0, -10.0]


@pytest.mark.parametrize("state", ["running", "failed", "interrupted"])
def test_a_run_that_is_not_done_is_listed_and_not_counted(tmp_path, state):
    run = write_run(tmp_path / "run", state=state)
    tables = read_runs([tmp_path])
    assert reasons(tmp_path)["run"].startswith(f"{state}: at offline step 3,000 of 3,000")
    assert tables.counted().empty
    assert len(tables.evaluations) == 3  # evaluations of unfinished runs are kept for `zoo monitor`
    (run / "evaluations.npz").unlink()  # as before the first evaluation
    assert reasons(tmp_path)["run"].startswith(state)


def test_finished_run_without_its_last_evaluation_is_listed(tmp_path):
    write_run(tmp_path / "run", offline_steps=4000)
    write_run(tmp_path / "past_its_end", offline_steps=2500)
    reason = "its last offline evaluation is at step 3,000, expected 4,000"
    assert reasons(tmp_path) == {"run": reason}
    tables = read_runs([tmp_path])
    assert set(tables.counted()["run"]) == {str(tmp_path / "past_its_end")}
    assert len(tables.evaluations) == 2 * 3  # kept for `zoo monitor`


@pytest.mark.parametrize(
    ("change", "name"),
    {
        "dataset: {size: 500}": "qam (dataset_size=500, dataset_fingerprint=None)",
        "settings: {net_arch: [128, 128]}": "qam (net_arch=128x2)",
        "pretrained_actor: {updates: 300}": "qam (pretraining_steps=300, pretrained_actor=True)",
        "profile: trqam": "qam (profile=trqam)",
        "success_at: any": "qam (success_at=any)",
        "behaviour: {function: f, fingerprint: 0123456789}": "qam (behaviour=01234567)",
        "dataset_replace_interval: 9": "qam (dataset_replace_interval=9)",
    }.items(),
)
def test_runs_of_another_protocol_are_another_row(tmp_path, change, name):
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1, **yaml.safe_load(change))
    assert name in methods(tmp_path)


@pytest.mark.parametrize(
    ("env", "rows"),
    {
        CUBE: ["qam (mujoco=before 3.5)", "qam (mujoco=from 3.5)"],
        "pointmaze-medium-navigate-singletask-task1-v0": ["qam"],
    }.items(),
)
def test_runs_in_another_simulator_are_another_row(tmp_path, env, rows):
    for seed, version in enumerate(["3.1.6", "3.4.0", "3.5.0", "4.0.0"]):
        folder = tmp_path / version
        write_run(folder, env=env, seed=seed)
        versions = {name: {"mujoco": version} for name in ("packages", "data")}
        (folder / "versions.json").write_text(json.dumps(versions))
    assert methods(tmp_path) == rows


def test_runs_of_several_environments_are_another_row(tmp_path):
    write_run(tmp_path / "alone", online=(40,), seed=0)
    write_run(tmp_path / "together", online=(40,), seed=1, seeds=[1, 2], n_envs=2)
    write_run(tmp_path / "several", online=(40,), seed=3, n_envs=2)
    alone, several, together = read_runs([tmp_path]).runs["method"]
    assert alone == together != several == "qam (n_envs=2)"


def test_settings_of_speed_make_no_other_row(tmp_path):
    write_run(tmp_path / "a", settings={"precision": "fp32"})
    write_run(tmp_path / "b", seed=1, settings={"precision": "tf32", "compile": "on"})
    write_run(tmp_path / "c", env=CUBE, sparse=False, settings={"inverse_temperature": 3.0})
    assert methods(tmp_path) == ["qam"]


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "scene-play-singletask-v0": "scene-play-singletask-task2-v0",
        "puzzle-4x4-play-singletask-v0": "puzzle-4x4-play-singletask-task4-v0",
        "cube-quadruple-play-100m-singletask-task3-v0": "cube-quadruple-play-singletask-task3-v0",
        "Pendulum-v1": "Pendulum-v1",
        "myenvs:my/Point-v0": "my/Point-v0",
    }.items(),
)
def test_names_of_one_task_meet(name, expected):
    assert split_environment(name)[0] == expected


def test_tasks_have_the_domains_of_settings_files():
    for name, task in TASKS.items():
        assert split_environment(name) == (name, task.domain)


def test_protocol_difference_names_the_field_and_both_values():
    run = {"offline_steps": 10_000, "online_steps": 0, "sparse": None}
    paper = {"offline_steps": 1_000_000, "online_steps": 5, "sparse": True}
    differences = protocol_differences(run, paper)
    assert differences == ["offline_steps 10,000 against 1,000,000"]
    assert len(protocol_differences({"online_steps": 9}, paper)) == 1


# -- damaged folders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"), [("departures", "gamma"), ("offline_steps", "many"), ("seeds", "1-2")]
)
def test_entry_of_another_type_makes_a_run_unreadable(tmp_path, name, value):
    write_run(tmp_path / "run", **{name: value})
    assert re.match(rf"config\.yml cannot be read: .*`{name}`", reasons(tmp_path)["run"])


@pytest.mark.parametrize("file", ["config.yml", "status.json", "evaluations.npz"])
def test_file_that_holds_nonsense_is_listed_and_the_others_count(tmp_path, file):
    write_run(tmp_path / "good", seed=1)
    for name, text in (("bytes", "\x00\x1b\xff" * 100), ("other", "- 1")):
        (write_run(tmp_path / name) / file).write_text(text, encoding="latin-1")
    bytes_reason, other_reason = reasons(tmp_path).values()
    assert bytes_reason.startswith(f"{file} ")
    assert other_reason.startswith(f"{file} ")
    assert len(read_runs([tmp_path]).counted()) == 3


def test_runs_that_never_report_a_success_have_none(tmp_path):
    write_run(tmp_path / "elsewhere", env=CUBE, offline=(10.0,), has_success=False)
    write_run(tmp_path / "loses", seed=1, offline=(10.0,), has_success=False)
    write_run(tmp_path / "wins", offline=(50,))
    tables = read_runs([tmp_path])
    assert tables.counted()["score"].tolist() == [10.0, 0.0, 1.0]
    assert tables.runs["never_reported"].eq(True).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("text", "reason"),
    {
        '{"state": "ended"}': "status.json cannot be read: `state` must be one of running, done",
        '{"state": "done"}': "status.json lacks 'updated'",
    }.items(),
)
def test_a_bad_status_is_named(tmp_path, text, reason):
    bad = write_run(tmp_path / "bad")
    (bad / "status.json").write_text(text)
    assert reasons(tmp_path)["bad"].startswith(reason)


# -- summaries of finished runs -----------------------------------------------------------------------------------


def test_finished_run_is_read_from_its_summary_with_same_numbers(tmp_path):
    for seed, about in enumerate([{}, {"env": "Pendulum-v1", "has_success": False}]):
        write_run(tmp_path / str(seed), seed=seed, online=(40,), **about)
    first_read = read_runs([tmp_path])
    for seed in (0, 1):
        folder = RunFolder(tmp_path / str(seed))
        folder.write_summary(summarise(folder.read_evaluations()))
        (tmp_path / str(seed) / "evaluations.npz").unlink()
    second_read = read_runs([tmp_path])
    pd.testing.assert_frame_equal(second_read.evaluations, first_read.evaluations)
    summary = tmp_path / "0" / "summary.json"
    summary.write_text(summary.read_text().replace('"phase": 1', '"phase": []'))
    assert reasons(tmp_path)["0"].startswith("summary.json cannot be read")


def test_finished_runs_are_read_once_by_who_remembers_them(tmp_path):
    finished = {}
    write_run(tmp_path / "done")
    write_run(tmp_path / "running", seed=1, state="running")
    first_read = read_runs([tmp_path], finished)
    assert list(finished) == [tmp_path / "done"]
    for name in ("done", "running"):
        (tmp_path / name / "evaluations.npz").write_text("")
    second_read = read_runs([tmp_path], finished)
    assert second_read.runs["kind"].notna().tolist() == [True, False]
    first = first_read.evaluations["run"].str.endswith("done")
    pd.testing.assert_frame_equal(second_read.evaluations, first_read.evaluations[first])


# -- names of methods -------------------------------------------------------------------------------------------------


def names(tables):
    """Return name of a run's folder -> method."""
    return tables.runs.set_index(tables.runs["run"].str.rpartition("/")[2])["method"].to_dict()


def test_a_name_has_all_settings_that_tell_runs_apart(tmp_path):
    for gamma in (0.5, 0.99):
        for temperature in (0.3, 99.0):
            settings = {"gamma": gamma, "inverse_temperature": temperature, "rho": 10 * gamma}
            settings |= {"tau": gamma, "utd_ratio": gamma, "warmup": gamma}
            about = {"settings": settings, "label": "ours"}
            write_run(tmp_path / f"{gamma} {temperature}", **about)
    assert names(read_runs([tmp_path]))["0.5 99.0"] == (
        "ours (gamma=0.5, inverse_temperature=99.0, rho=5.0, tau=0.5, utd_ratio=0.5, warmup=0.5)"
    )


@pytest.mark.parametrize(
    "text",
    [
        """
        qam (gamma=0.5, tau=0.1): {settings: {gamma: 0.5, tau: 0.1}}
        qam (gamma=0.9, tau=0.2): {settings: {gamma: 0.9, tau: 0.2}}
        """,
        # one label for two algorithms, which were also trained on other tasks
        """
        ours (algorithm=cgql): {algo: cgql, label: ours}
        ours (algorithm=cgql_mse): {algo: cgql_mse, label: ours, env: cube-double-play-singletask-task1-v0}
        """,
        # scores of two kinds on one environment
        """
        qam (score=success): {}
        qam (score=return): {seed: 1, offline: [10.0, 11.0, 12.0], has_success: false, score: return}
        """,
        # success that the return defines says nothing about the environment
        """
        qam (success_return=-50.0, score=success): {success_return: -50.0}
        qam (success_return=None, score=return): {seed: 1, offline: [10.0, 11.0, 12.0], has_success: false}
        """,
        # a failed run with other settings does not rename the other runs
        """
        qam: {}
        qam (gamma=0.5): {seed: 1, state: failed, settings: {gamma: 0.5}}
        """,
    ],
)
def test_methods_are_named_after_what_tells_them_apart(tmp_path, text):
    runs = yaml.safe_load(text)
    for name, entries in runs.items():
        write_run(tmp_path / name, **entries)
    assert names(read_runs([tmp_path])) == {name: name for name in runs}


def test_the_newest_finished_run_of_a_seed_replaces_the_others(tmp_path):
    for day, state in enumerate(("failed", "done", "done", "failed"), start=1):
        write_run(tmp_path / str(5 - day), state=state, updated=f"2026-11-0{day}T00:00:00+00:00")
    newest = str(tmp_path / "2")
    tables = read_runs([tmp_path])
    assert tables.runs["replaced_by"].fillna("").tolist() == [newest, "", newest, newest]
    assert set(tables.counted()["run"]) == {newest}
    assert reasons(tmp_path)["3"].startswith(f"duplicate: {newest} is a newer run")


# -- training time ----------------------------------------------------------------------------------------------------


HEADER = "time/total_timesteps,time/total_seconds,time/updates_per_s,time/fps\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEADER + "100,1,50.5,\n200,2,40.5,\n200,,,\n", (200, 40.5)),
        (HEADER + "100,1,50.5,\n300,2,,20\n", (300, 20.0)),
        (HEADER + "100,1,50.5,\n200,1,4", (100, 50.5)),  # the last row is incomplete
        ("", None),
        (HEADER + "x,1,2,\n", None),
    ],
)
def test_the_last_row_with_a_sound_speed_counts(tmp_path, text, expected):
    (tmp_path / "progress.csv").write_text(text)
    assert read_speed(RunFolder(tmp_path)) == expected
