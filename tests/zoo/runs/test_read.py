"""Reading run folders back. `write_run` makes folders as ``train.py`` leaves them."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.zoo.outcomes import status_of
from tests.zoo.runs.helpers import CUBE, write_run
from zoo.runs.protocol import protocol_differences
from zoo.runs.read import read_runs, split_environment


def reasons(logs):
    return {Path(row["path"]).name: row["reason"] for row in read_runs([logs]).skipped()}


def methods(logs):
    return sorted(set(read_runs([logs]).counted()["method"]))


def test_evaluations_are_counted_as_integers_with_phase_and_step(tmp_path):
    write_run(tmp_path / "run", offline=(10, 20), online=(50,), seed=7)
    table = read_runs([tmp_path]).counted()
    assert table["successes"].tolist() == [10, 20, 50]
    assert table["phase"].tolist() == ["offline", "offline", "online"]
    assert table["step"].tolist() == [1000, 2000, 3000]
    assert table["score"].tolist() == [0.2, 0.4, 1.0]
    assert table["return"].tolist() == [-82.0, -64.0, -10.0]
    about = table[["seed", "domain", "task"]].drop_duplicates()
    assert about.to_numpy().tolist() == [[7, "scene-play", "task1"]]


@pytest.mark.parametrize("state", ["running", "failed", "interrupted"])
def test_run_that_is_not_done_is_listed_with_its_progress_and_not_counted(tmp_path, state):
    run = write_run(tmp_path / "run", state=state)
    tables = read_runs([tmp_path])
    assert reasons(tmp_path)["run"].startswith(f"{state}: at offline step 3,000 of 3,000")
    assert tables.counted().empty
    assert len(tables.evaluations) == 3  # still there to be watched
    (run / "evaluations.npz").unlink()  # as before the first evaluation
    assert reasons(tmp_path)["run"].startswith(state)


def test_finished_run_without_its_last_evaluation_is_listed(tmp_path):
    write_run(tmp_path / "run", offline_steps=4000)
    reason = "its last offline evaluation is at step 3,000, expected 4,000"
    assert reasons(tmp_path) == {"run": reason}


def test_newest_of_two_runs_of_a_seed_counts_and_the_other_is_listed(tmp_path):
    write_run(tmp_path / "old", updated="2026-11-01T00:00:00+00:00")
    newest = write_run(tmp_path / "new", updated="2026-11-02T00:00:00+00:00")
    assert reasons(tmp_path)["old"].startswith(f"duplicate: {newest} is a newer run")
    assert set(read_runs([tmp_path]).counted()["run"]) == {str(newest)}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"dataset": {"size": 500}}, "qam (dataset_size=500)"),
        ({"settings": {"net_arch": [128, 128]}}, "qam (net_arch=128x2)"),
        ({"pretrained_actor": {"updates": 300}}, "qam (pretraining_steps=300)"),
        ({"profile": "trqam"}, "qam (profile=trqam)"),
        ({"settings": {"profile": "mine"}}, "qam (profile_=mine)"),
        ({"success_at": "any"}, "qam (success_at=any)"),
    ],
)
def test_runs_of_another_protocol_or_setting_are_another_row_named_after_it(tmp_path, change, name):
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1, **change)
    first, second = methods(tmp_path)
    assert name in (first, second)


def test_runs_of_several_environments_a_seed_make_fewer_updates_and_are_another_row(tmp_path):
    write_run(tmp_path / "alone", online=(40,), seed=0)
    write_run(tmp_path / "together", online=(40,), seed=1, seeds=[1, 2], n_envs=2)
    write_run(tmp_path / "several", online=(40,), seed=3, n_envs=4)
    alone, several, together = read_runs([tmp_path]).runs["method"]
    assert alone == together != several == "qam (n_envs=4)"


def test_settings_of_speed_and_those_that_differ_between_environments_only_make_no_other_row(
    tmp_path,
):
    write_run(tmp_path / "a", settings={"precision": "fp32"})
    write_run(tmp_path / "b", seed=1, settings={"precision": "tf32", "compile": "on"})
    write_run(tmp_path / "c", env=CUBE, sparse=False, settings={"inverse_temperature": 3.0})
    assert methods(tmp_path) == ["qam"]


def test_numbers_of_steps_that_differ_between_environments_are_separate_rows(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", env=CUBE, offline=(1, 2))
    assert methods(tmp_path) == ["qam (offline_steps=2,000)", "qam (offline_steps=3,000)"]


def test_unfinished_run_says_how_far_its_pretraining_is(tmp_path):
    path = write_run(tmp_path / "run", state="running", pretraining_steps=300)
    status = status_of(path) | {"pretraining_step": 20, "offline_step": 0}
    (path / "status.json").write_text(json.dumps(status))
    assert reasons(tmp_path)["run"] == "running: at pretraining step 20 of 300"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scene-play-singletask-v0", "scene-play-singletask-task2-v0"),
        ("puzzle-4x4-play-singletask-v0", "puzzle-4x4-play-singletask-task4-v0"),
        ("cube-quadruple-play-100m-singletask-task3-v0", "cube-quadruple-play-singletask-task3-v0"),
        ("Pendulum-v1", "Pendulum-v1"),
        ("myenvs:my/Point-v0", "my/Point-v0"),
    ],
)
def test_names_of_one_task_meet(name, expected):
    assert split_environment(name)[0] == expected


def test_protocol_difference_names_the_field_and_both_values():
    run = {"offline_steps": 10_000, "online_steps": 0, "sparse": None, "dataset_size": 1_001_000}
    paper = {"offline_steps": 1_000_000, "online_steps": 5, "sparse": True}
    paper["dataset_size"] = 1_000_000  # it may count the last states
    differences = protocol_differences("offline", run, paper)
    assert differences == ["offline_steps 10,000 against 1,000,000"]
    assert protocol_differences("online", {"dataset_size": 900_000}, paper)


# -- damaged folders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"), [("departures", "gamma"), ("offline_steps", "many"), ("seeds", "1-2")]
)
def test_entry_of_another_type_makes_a_run_unreadable(tmp_path, name, value):
    write_run(tmp_path / "run", **{name: value})
    reason = reasons(tmp_path)["run"]
    assert reason.startswith("config.yml cannot be read: ")
    assert f"`{name}`" in reason


@pytest.mark.parametrize("file", ["config.yml", "status.json", "evaluations.npz"])
def test_file_that_holds_nonsense_is_listed_and_the_others_count(tmp_path, file):
    write_run(tmp_path / "good", seed=1)
    for name, text in (("bytes", "\x00\x1b\xff" * 100), ("other", "- 1")):
        (write_run(tmp_path / name) / file).write_text(text, encoding="latin-1")
    assert len(reasons(tmp_path)) == 2
    assert all(reason.startswith(f"{file} ") for reason in reasons(tmp_path).values())
    assert len(read_runs([tmp_path]).counted()) == 3


def test_missing_parts_of_a_run_are_named(tmp_path):
    (write_run(tmp_path / "a") / "evaluations.npz").unlink()
    (write_run(tmp_path / "b") / "config.yml").write_text("- 1")
    (write_run(tmp_path / "c") / "status.json").write_text('{"state": "well"}')
    run = write_run(tmp_path / "d")
    with np.load(run / "evaluations.npz") as file:
        np.savez(run / "evaluations.npz", phase=file["phase"])
    no_results, no_config, no_status, no_arrays = reasons(tmp_path).values()
    assert no_results == "evaluations.npz is missing"
    assert no_config.startswith("config.yml cannot be read: it lacks algo, env, offline_steps")
    assert no_status.startswith("status.json has no state out of")
    assert no_arrays == "evaluations.npz lacks timesteps, results, ep_lengths, episode_seeds"


def test_runs_that_never_report_a_success_have_none_where_others_on_their_environment_do(tmp_path):
    write_run(tmp_path / "elsewhere", env=CUBE, offline=(10.0,), has_success=False)
    write_run(tmp_path / "loses", seed=1, offline=(10.0,), has_success=False)
    write_run(tmp_path / "wins", offline=(50,))
    tables = read_runs([tmp_path])
    assert tables.counted()["score"].tolist() == [10.0, 0.0, 1.0]
    assert tables.runs["never_reported"].eq(True).tolist() == [False, True, False]


@pytest.mark.parametrize("merge", [False, True])
def test_scores_of_two_kinds_on_an_environment_are_two_methods(tmp_path, merge):
    write_run(tmp_path / "a", offline=(50,))
    write_run(tmp_path / "b", seed=1, offline=(10.0,), has_success=False, score="return")
    counted = read_runs([tmp_path], merge_protocols=merge).counted()
    kinds = {"qam": "success", "qam (by return)": "return"}
    assert counted.set_index("method")["kind"].to_dict() == kinds


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({}, "status.json must have a whole number as `seed`, got None"),
        (
            {"seed": 0, "offline_step": "1"},
            "status.json must have a whole number as `offline_step`",
        ),
        (
            {"seed": 0, "offline_step": 1, "online_step": 0, "updated": "2026-11-01T00:00:00"},
            "status.json cannot be read: `updated` must have a time zone",
        ),
    ],
)
def test_a_bad_status_is_named(tmp_path, status, reason):
    bad = write_run(tmp_path / "bad")
    (bad / "status.json").write_text(json.dumps({"state": "done"} | status))
    assert reasons(tmp_path)["bad"].startswith(reason)


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("results", np.zeros(3), "must have `results` of"),
        (
            "successes",
            np.full((3, 50), "yes"),
            "must have finite numbers of shape (3, 50) as `succ",
        ),
        ("timesteps", np.full(3, np.nan), "must have finite numbers of shape (3,) as `timesteps`"),
        ("phase", np.full(3, 7), "must have 0 or 1 as `phase`, got [7]"),
    ],
)
def test_evaluations_of_another_form_are_named(tmp_path, name, values, reason):
    bad = write_run(tmp_path / "bad")
    with np.load(bad / "evaluations.npz") as file:
        arrays = dict(file)
    np.savez(bad / "evaluations.npz", **arrays | {name: values})
    assert reasons(tmp_path)["bad"].startswith(f"evaluations.npz {reason}")
