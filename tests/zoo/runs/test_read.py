"""Reading run folders back. `write_run` makes folders as ``train.py`` leaves them."""

import datetime
import json
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
import yaml

from agents.common.files.manifest import read_manifest
from zoo import plain_yaml
from zoo.runs.folder import RunFolder, UnreadableRun, find_run_folders
from zoo.runs.protocol import describe_layers, protocol_differences
from zoo.runs.read import read_runs, short_name, split_environment

ENV = "scene-play-singletask-task1-v0"


def write_run(
    folder,
    *,
    algo="qam",
    env=ENV,
    seed=0,
    offline=(10, 20, 30),
    online=(),
    episodes=50,
    every=1000,
    state="done",
    updated="2026-11-01T00:00:00+00:00",
    settings=None,
    has_success=True,
    **config,
):
    """Write a run with the given numbers of successes, or mean returns without success, at its evaluations."""
    folder.mkdir(parents=True)
    counts = [*offline, *online]
    successes = np.arange(episodes) < np.array(counts)[:, None]
    steps = every * np.arange(1, len(counts) + 1)
    arrays = {
        "timesteps": steps,
        "phase": np.repeat([0, 1], [len(offline), len(online)]),
        "results": np.where(successes, -10.0, -100.0),
        "ep_lengths": np.full(successes.shape, 200),
        "successes": successes,
        "episode_seeds": np.arange(episodes) + np.zeros((len(counts), 1), int),
    }
    if not has_success:
        del arrays["successes"]
        arrays["results"] = np.array(counts)[:, None] + np.linspace(-1, 1, episodes)
    np.savez(folder / "evaluations.npz", **arrays)
    values = {
        "algo": algo,
        "env": env,
        "seed": seed,
        "offline_steps": every * len(offline),
        "online_steps": every * len(online),
        "eval_episodes": episodes,
        "sparse": True,
        "dataset": {"name": "scene-play-v0", "size": 1_000_000, "fingerprint": "0123456789abcdef"},
        "settings": {"net_arch": [512, 512, 512, 512], "gamma": 0.99, **(settings or {})},
        **config,
    }
    (folder / "config.yml").write_text(yaml.safe_dump(values))
    if state == "running":  # nobody holds the lock; an older status would be that of a dead run
        updated = datetime.datetime.now(datetime.UTC).isoformat()
    status = {"state": state, "seed": seed, "offline_step": int(steps[-1]), "online_step": 0, "updated": updated}
    (folder / "status.json").write_text(json.dumps(status))
    return folder


def reasons(tables):
    return {entry["path"].rsplit("/", 1)[-1]: entry["reason"] for entry in tables.skipped()}


def methods(tables):
    return sorted(set(tables.counted()["method"]))


def test_runs_are_found_anywhere_below_and_checkpoints_inside_them_are_not_runs(tmp_path):
    run = write_run(tmp_path / "a" / "b" / "run")
    (run / "checkpoint").mkdir()
    (run / "checkpoint" / "status.json").write_text("{}")
    assert [folder.path for folder in find_run_folders([tmp_path, run])] == [run]


def test_path_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a folder of runs, got `.*nowhere`"):
        find_run_folders([tmp_path / "nowhere"])


def test_evaluations_are_counted_as_integers_with_phase_and_step(tmp_path):
    write_run(tmp_path / "run", offline=(10, 20), online=(50,), seed=7)
    table = read_runs([tmp_path]).counted()
    assert table["successes"].tolist() == [10, 20, 50]
    assert table["phase"].tolist() == ["offline", "offline", "online"]
    assert table["step"].tolist() == [1000, 2000, 3000]
    assert table["score"].tolist() == [0.2, 0.4, 1.0]
    assert table["return"].tolist() == [-82.0, -64.0, -10.0]
    assert set(table["seed"]) == {7}
    assert set(table["domain"]) == {"scene-play"}
    assert set(table["task"]) == {"task1"}


def test_label_names_the_method_and_the_algorithm_stays_known(tmp_path):
    write_run(tmp_path / "run", label="my idea")
    tables = read_runs([tmp_path])
    assert methods(tables) == ["my idea"]
    assert set(tables.counted()["algorithm"]) == {"qam"}


@pytest.mark.parametrize("state", ["running", "failed", "interrupted"])
def test_run_that_is_not_done_is_listed_with_its_progress_and_not_counted(tmp_path, state):
    write_run(tmp_path / "run", state=state)
    tables = read_runs([tmp_path])
    assert reasons(tables)["run"].startswith(f"{state}: at offline step 3,000 of 3,000")
    assert tables.counted().empty
    assert len(tables.evaluations) == 3  # still there to be watched


def test_failed_run_is_listed_with_its_reason(tmp_path):
    status = write_run(tmp_path / "run", state="failed") / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"reason": "training diverged:\nloss"}))
    assert reasons(read_runs([tmp_path]))["run"].endswith("; training diverged: loss")


def test_run_that_has_not_been_evaluated_yet_is_listed(tmp_path):
    run = write_run(tmp_path / "run", state="running")
    (run / "evaluations.npz").unlink()
    assert reasons(read_runs([tmp_path]))["run"].startswith("running")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda run: (run / "evaluations.npz").write_bytes(b"PK\x03\x04nonsense"), "evaluations.npz cannot be read"),
        (lambda run: (run / "evaluations.npz").write_bytes(b""), "evaluations.npz cannot be read"),
        (lambda run: (run / "evaluations.npz").unlink(), "evaluations.npz is missing"),
        (lambda run: (run / "config.yml").unlink(), "config.yml is missing"),
        (lambda run: (run / "config.yml").write_text("a: [1"), "config.yml cannot be read"),
        (lambda run: (run / "config.yml").write_text("- 1"), "config.yml lacks algo, env, offline_steps"),
        (lambda run: (run / "status.json").unlink(), "status.json is missing"),
        (lambda run: (run / "status.json").write_text("{"), "status.json cannot be read"),
        (lambda run: (run / "status.json").write_text('{"state": "well"}'), "status.json has no state out of"),
    ],
)
def test_damaged_run_is_listed_with_the_reason_and_the_others_count(tmp_path, damage, reason):
    damage(write_run(tmp_path / "bad"))
    write_run(tmp_path / "good", seed=1)
    tables = read_runs([tmp_path])
    assert reasons(tables)["bad"].startswith(reason)
    assert len(tables.counted()) == 3


def test_truncated_evaluations_are_listed(tmp_path):
    path = write_run(tmp_path / "run") / "evaluations.npz"
    path.write_bytes(path.read_bytes()[:-200])
    assert "evaluations.npz cannot be read" in reasons(read_runs([tmp_path]))["run"]


def test_pickled_array_is_not_read(tmp_path):
    np.savez(write_run(tmp_path / "run") / "evaluations.npz", timesteps=np.array([{}], dtype=object))
    assert "holds Python objects" in reasons(read_runs([tmp_path]))["run"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"successes": np.full((3, 50), 2)}, "successes are not all 0 or 1"),
        ({"successes": np.zeros((2, 50))}, "beside successes"),
        ({"successes": np.zeros(3)}, "instead of (evaluations, episodes)"),
        ({"phase": np.array([1, 0, 1])}, "phase is not 0 and then 1"),
        ({"timesteps": np.array([3, 2, 1])}, "timesteps decrease"),
    ],
)
def test_arrays_that_do_not_fit_together_are_listed(tmp_path, change, reason):
    change_arrays(write_run(tmp_path / "run"), **change)
    assert reason in reasons(read_runs([tmp_path]))["run"]


def change_arrays(run, **change):
    """Replace arrays of a run's evaluations; None removes one."""
    with np.load(run / "evaluations.npz") as file:
        arrays = dict(file) | change
    np.savez(run / "evaluations.npz", **{name: array for name, array in arrays.items() if array is not None})


def test_run_that_knows_success_is_scored_by_it_alone(tmp_path):
    write_run(tmp_path / "run", offline=(10, 20))
    tables = read_runs([tmp_path])
    assert tables.counted()["kind"].tolist() == ["success", "success"]
    assert tables.runs["kind"].tolist() == ["success"]


def test_run_without_success_is_scored_by_its_mean_return(tmp_path):
    write_run(tmp_path / "run", env="Pendulum-v1", offline=(), online=(-1500.0, -300.0), has_success=False)
    tables = read_runs([tmp_path])
    found = tables.counted()
    assert found["kind"].tolist() == ["return", "return"]
    assert found["score"].tolist() == pytest.approx([-1500.0, -300.0])
    assert found["return"].tolist() == found["score"].tolist()
    assert found["successes"].isna().all()
    assert tables.runs["kind"].tolist() == ["return"]
    assert tables.skipped() == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"results": np.full((3, 50), np.nan)}, "results are not all finite"),
        ({"results": np.full((3, 50), np.inf)}, "results are not all finite"),
        ({"results": np.zeros(3)}, "results have shape (3,) instead of (evaluations, episodes)"),
        ({"results": None}, "evaluations.npz lacks results"),
        ({"ep_lengths": np.zeros((3, 2))}, "ep_lengths have shape (3, 2) beside results (3, 50)"),
    ],
)
def test_returns_that_no_evaluation_gives_are_listed(tmp_path, change, reason):
    change_arrays(write_run(tmp_path / "run", has_success=False), **change)
    assert reason in reasons(read_runs([tmp_path]))["run"]


def test_one_name_may_have_runs_with_success_and_runs_with_returns(tmp_path):
    write_run(tmp_path / "a", algo="sac", offline=(10, 20, 30))
    write_run(tmp_path / "b", algo="sac", env="Pendulum-v1", offline=(), online=(1.0, 2.0), has_success=False)
    assert methods(read_runs([tmp_path])) == ["sac"]


def test_numbers_of_steps_may_differ_between_environments_that_are_scored_by_return(tmp_path):
    write_run(tmp_path / "a", env="Pendulum-v1", offline=(), online=(1.0, 2.0), has_success=False)
    write_run(tmp_path / "b", env="HalfCheetah-v5", offline=(), online=(1.0, 2.0, 3.0), has_success=False)
    assert methods(read_runs([tmp_path])) == ["qam"]


def test_returns_after_other_numbers_of_steps_on_one_environment_are_separate_rows(tmp_path):
    write_run(tmp_path / "a", env="Pendulum-v1", offline=(), online=(1.0, 2.0), has_success=False)
    write_run(tmp_path / "b", env="Pendulum-v1", seed=1, offline=(), online=(1.0, 2.0, 3.0), has_success=False)
    assert methods(read_runs([tmp_path])) == ["qam (online_steps=2,000)", "qam (online_steps=3,000)"]


def test_departures_from_the_protocol_are_kept_and_separate_no_runs(tmp_path):
    write_run(tmp_path / "a", departures=["horizon_length 10 instead of 5"])
    write_run(tmp_path / "b", seed=1, departures=[])
    write_run(tmp_path / "c", seed=2)  # an older run, which does not say
    tables = read_runs([tmp_path])
    found = dict(zip(tables.runs["seed"], tables.runs["departures"], strict=True))
    assert found == {0: ("horizon_length 10 instead of 5",), 1: (), 2: ()}
    assert methods(tables) == ["qam"]


@pytest.mark.parametrize("departures", ["horizon_length 10", {"horizon_length": 10}, [10], None])
def test_departures_that_are_no_list_of_texts_make_a_run_unreadable(tmp_path, departures):
    write_run(tmp_path / "run", departures=departures)
    expected = f"config.yml has `departures` = {departures!r}, expected a list of texts"
    assert reasons(read_runs([tmp_path]))["run"] == expected


def test_finished_run_without_its_last_evaluation_is_listed(tmp_path):
    write_run(tmp_path / "run", offline_steps=4000)
    assert reasons(read_runs([tmp_path]))["run"] == "its last offline evaluation is at step 3,000, expected 4,000"


def test_newest_of_two_runs_of_a_seed_counts_and_the_other_is_listed(tmp_path):
    write_run(tmp_path / "old", updated="2026-11-01T00:00:00+00:00")
    write_run(tmp_path / "new", updated="2026-11-02T00:00:00+00:00")
    tables = read_runs([tmp_path])
    assert reasons(tables)["old"].startswith(f"duplicate: {tmp_path / 'new'} is a newer run")
    assert set(tables.counted()["run"]) == {str(tmp_path / "new")}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"offline": (1, 2, 3, 4)}, "qam (offline_steps=4,000)"),
        ({"online": (1,)}, "qam (online_steps=1,000)"),
        ({"episodes": 20, "offline": (1, 2, 3)}, "qam (eval_episodes=20)"),
        ({"sparse": False}, "qam (sparse=False)"),
        ({"dataset": {"size": 500}}, "qam (dataset_size=500)"),
        ({"settings": {"net_arch": [128, 128]}}, "qam (net_arch=128x2)"),
        ({"pretraining_steps": 300, "settings": {"pretraining_steps": 300}}, "qam (pretraining_steps=300)"),
        ({"pretrained_actor": {"updates": 300}}, "qam (pretraining_steps=300)"),
        ({"profile": "trqam"}, "qam (profile=trqam)"),
        ({"settings": {"inverse_temperature": 3.0}}, "qam (inverse_temperature=3.0)"),
        ({"settings": {"profile": "mine"}}, "qam (profile_=mine)"),
    ],
)
def test_runs_of_another_protocol_or_setting_are_another_row_named_after_it(tmp_path, change, name):
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1, **change)
    found = methods(read_runs([tmp_path]))
    assert len(found) == 2
    assert name in found


def test_protocols_can_be_merged_into_one_row(tmp_path):
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1, sparse=False)
    assert methods(read_runs([tmp_path], merge_protocols=True)) == ["qam"]


def test_settings_that_differ_between_environments_only_stay_in_one_row(tmp_path):
    write_run(tmp_path / "a", sparse=True, settings={"inverse_temperature": 1.0})
    write_run(
        tmp_path / "b",
        env="cube-double-play-singletask-task1-v0",
        sparse=False,
        settings={"inverse_temperature": 3.0},
    )
    assert methods(read_runs([tmp_path])) == ["qam"]


def test_numbers_of_steps_that_differ_between_environments_are_separate_rows(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", env="cube-double-play-singletask-task1-v0", offline=(1, 2))
    assert methods(read_runs([tmp_path])) == ["qam (offline_steps=2,000)", "qam (offline_steps=3,000)"]


def test_profiles_that_differ_between_environments_are_separate_rows(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", env="cube-double-play-singletask-task1-v0", profile="trqam")
    assert methods(read_runs([tmp_path])) == ["qam (profile=qam)", "qam (profile=trqam)"]


def test_seeds_that_began_with_flows_of_their_own_share_a_row(tmp_path):
    for seed in (0, 1):
        write_run(
            tmp_path / str(seed), seed=seed, pretrained_actor={"updates": 300, "fingerprint": f"{seed}", "path": "x"}
        )
    assert methods(read_runs([tmp_path])) == ["qam"]


def test_unfinished_run_says_how_far_its_pretraining_is(tmp_path):
    path = write_run(tmp_path / "run", state="running", pretraining_steps=300)
    status = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps(status | {"pretraining_step": 20, "offline_step": 0}))
    assert reasons(read_runs([tmp_path]))["run"] == "running: at pretraining step 20 of 300"


def test_failed_run_with_other_settings_renames_no_row(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", seed=1, state="failed", settings={"gamma": 0.5})
    assert methods(read_runs([tmp_path])) == ["qam"]


def test_speed_settings_do_not_separate_runs(tmp_path):
    write_run(tmp_path / "a", settings={"precision": "fp32", "device": "cpu"})
    write_run(tmp_path / "b", seed=1, settings={"precision": "tf32", "device": "cuda"})
    assert methods(read_runs([tmp_path])) == ["qam"]


def test_folder_without_runs_gives_empty_tables(tmp_path):
    tables = read_runs([tmp_path])
    assert tables.runs.empty
    assert tables.counted().empty
    assert tables.skipped() == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scene-play-singletask-v0", "scene-play-singletask-task2-v0"),
        ("puzzle-4x4-play-singletask-v0", "puzzle-4x4-play-singletask-task4-v0"),
        ("puzzle-4x5-play-singletask-v0", "puzzle-4x5-play-singletask-task2-v0"),
        ("antmaze-large-navigate-singletask-v0", "antmaze-large-navigate-singletask-task1-v0"),
        ("antsoccer-arena-navigate-singletask-v0", "antsoccer-arena-navigate-singletask-task4-v0"),
        ("cube-quadruple-play-100m-singletask-task3-v0", "cube-quadruple-play-singletask-task3-v0"),
        ("cube-double-play-singletask-task2-v0", "cube-double-play-singletask-task2-v0"),
        ("Pendulum-v1", "Pendulum-v1"),
    ],
)
def test_names_of_one_task_meet(name, expected):
    assert split_environment(name)[0] == expected


def test_short_name_keeps_domain_and_task():
    assert short_name("cube-double-play-singletask-task2-v0") == "cube-double-play task2"


@pytest.mark.parametrize(
    ("layers", "text"),
    [([512] * 4, "512x4"), ([256, 128], "256-128"), ({"pi": [64], "qf": [32, 32]}, "pi 64x1, qf 32x2"), (None, None)],
)
def test_layers_are_described_in_short(layers, text):
    assert describe_layers(layers) == text


def test_protocol_difference_names_the_field_and_both_values():
    ours = {"offline_steps": 10_000, "online_steps": 0, "net_arch": "512x4", "sparse": None}
    theirs = {"offline_steps": 1_000_000, "online_steps": 500_000, "net_arch": "512x4", "sparse": True}
    assert protocol_differences("offline", ours, theirs) == ["offline_steps 10,000 against 1,000,000"]


def test_online_steps_matter_to_online_scores_only():
    ours, theirs = {"online_steps": 1000}, {"online_steps": 2000}
    assert protocol_differences("offline", ours, theirs) == []
    assert protocol_differences("online", ours, theirs) == ["online_steps 1,000 against 2,000"]


def test_dataset_size_may_count_the_last_states():
    assert protocol_differences("offline", {"dataset_size": 1_001_000}, {"dataset_size": 1_000_000}) == []
    assert protocol_differences("offline", {"dataset_size": 900_000}, {"dataset_size": 1_000_000})


# -- hostile folders --------------------------------------------------------------------------------------------------

HOSTILE = (
    "abc", "", "=cmd()", "\x1b[2J", "a" * 50_000, 10**30, -1, 1.5, float("nan"), float("inf"), True, None, [], [1],
    [[]], ["../.."], {}, {"a": {"b": [1]}}, {"x": 1, 1: "x"}, {"size": "abc"}, {"profile": 1, "profile_": 2},
    datetime.date(2026, 1, 1),
)  # fmt: skip
"""Values that an entry may have which the zoo did not write."""

ENTRIES = (
    *(("config.yml", name) for name in (
        "algo", "env", "label", "seed", "seeds", "folders", "profile", "offline_steps", "online_steps",
        "pretraining_steps", "eval_episodes", "sparse", "dataset", "dataset.size", "dataset.fingerprint", "settings",
        "settings.net_arch", "settings.gamma", "pretrained_actor", "pretrained_actor.updates", "departures", "unknown",
    )),
    *(("status.json", name) for name in (
        "state", "seed", "offline_step", "online_step", "pretraining_step", "updated", "reason", "unknown",
    )),
)  # fmt: skip


def change_entry(path, name, value):
    """Replace one entry of a text file of a run."""
    read, write = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    content = read(path.read_text())
    *outer, last = name.split(".")
    inner = content
    for part in outer:
        inner = inner.setdefault(part, {})
    inner[last] = str(value) if path.suffix == ".json" and isinstance(value, datetime.date) else value
    path.write_text(write(content))


@pytest.mark.parametrize(("file", "name"), ENTRIES)
def test_no_value_of_any_entry_fails_the_others(tmp_path, file, name):
    write_run(tmp_path / "good", seed=1)
    for number, value in enumerate(HOSTILE):
        change_entry(write_run(tmp_path / f"bad{number}", seed=2 + number) / file, name, value)
    tables = read_runs([tmp_path])
    assert len(tables.runs) == 1 + len(HOSTILE)
    assert str(tmp_path / "good") in set(tables.counted()["run"])
    merged = read_runs([tmp_path], merge_protocols=True)
    assert set(merged.runs["run"]) == set(tables.runs["run"])


@pytest.mark.parametrize(
    ("file", "name", "value", "reason"),
    [
        ("status.json", "offline_step", "abc", "status.json has `offline_step` = 'abc', expected a whole number >= 0"),
        ("status.json", "online_step", True, "status.json has `online_step` = True, expected a whole number >= 0"),
        ("status.json", "online_step", float("inf"), "status.json has `online_step` = inf, expected a whole number"),
        ("status.json", "seed", [1], "status.json has `seed` = [1], expected a whole number"),
        ("config.yml", "seed", [1], "config.yml has `seed` = [1], expected a whole number"),
        ("config.yml", "seeds", "abc", "config.yml has `seeds` = 'abc', expected a list of whole numbers >= 0"),
        ("config.yml", "seeds", [], "config.yml has `seeds` = [], expected a list of whole numbers >= 0"),
        ("config.yml", "folders", ["../a"], "config.yml has `folders` = ['../a'], expected a list of names of folders"),
        ("config.yml", "offline_steps", {}, "config.yml has `offline_steps` = {}, expected a whole number"),
        ("config.yml", "env", 3, "config.yml has `env` = 3, expected a text"),
        ("config.yml", "label", "a" * 20_000, "config.yml has `label` = 'aaaa"),
        ("config.yml", "settings.net_arch", {"a": {"b": 1}}, "config.yml has `settings.net_arch` = {'a'"),
        ("config.yml", "dataset.size", "abc", "config.yml has `dataset.size` = 'abc', expected a whole number"),
        ("config.yml", "settings", {"a\x1b": 1}, "config.yml has 'a\\x1b' among its `settings`, expected names"),
        ("config.yml", "settings", {"a": {"b_": 1}}, "config.yml has 'b_' among its `settings`, expected names"),
    ],
)
def test_entry_of_another_type_makes_a_run_unreadable(tmp_path, file, name, value, reason):
    change_entry(write_run(tmp_path / "run") / file, name, value)
    assert reasons(read_runs([tmp_path]))["run"].startswith(reason)


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def replace_by_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("file", ["config.yml", "status.json", "evaluations.npz"])
@pytest.mark.parametrize(
    "damage",
    [
        replace_by_folder, replace_by_pipe,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x00\x1b\xff" * 100),
        lambda path: path.write_text("\t- a: \x1b[2J"),
        lambda path: path.write_text("[" * 500_000),
        lambda path: path.write_text('{"a":' * 100_000),
        lambda path: path.write_text("9" * 10_000),
        lambda path: path.write_text('"' + "a" * 3_000_000 + '"'),
        lambda path: path.write_text("a: &a [x,x]\n" + "".join(f"b{n}: &a [*a,*a]\n" for n in range(40))),
    ],
    ids=["folder", "pipe", "empty", "bytes", "tab", "deep", "deep mapping", "digits", "long", "aliases"],
)  # fmt: skip
def test_file_that_holds_nonsense_is_listed_and_the_others_count(tmp_path, file, damage):
    write_run(tmp_path / "good", seed=1)
    damage(write_run(tmp_path / "bad") / file)
    tables = read_runs([tmp_path])
    assert reasons(tables)["bad"].startswith(f"{file} ")
    assert reasons(tables)["bad"].isprintable()
    assert len(tables.counted()) == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("file", ["config.yml", "status.json", "evaluations.npz"])
def test_file_that_may_not_be_read_is_listed(tmp_path, file):
    (write_run(tmp_path / "run") / file).chmod(0)
    assert reasons(read_runs([tmp_path]))["run"].startswith(f"{file} cannot be read: ")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"timesteps": np.array([1, 2, np.nan])}, "timesteps are not whole numbers from 0 to"),
        ({"timesteps": np.array([1, 2, np.inf])}, "timesteps are not whole numbers"),
        ({"timesteps": np.array([1, 2, 2.5])}, "timesteps are not whole numbers"),
        ({"timesteps": np.array([-1, 2, 3])}, "timesteps are not whole numbers"),
        ({"timesteps": np.array([1, 2, 2**63], dtype=np.uint64)}, "timesteps are not whole numbers"),
        ({"timesteps": np.array([False, True, True])}, "timesteps are not whole numbers"),
        ({"timesteps": np.array(["1", "2", "3"])}, "timesteps are not numbers but <U1"),
        ({"results": np.full((3, 50), "a")}, "results are not numbers but <U1"),
        ({"ep_lengths": np.full((3, 50), 1j)}, "ep_lengths are not numbers but complex128"),
        ({"phase": np.array(["a", "b", "c"])}, "phase are not numbers"),
        ({"successes": np.full((3, 50), "x")}, "successes are not numbers"),
    ],
)
def test_evaluations_of_another_type_are_listed(tmp_path, change, reason):
    change_arrays(write_run(tmp_path / "run"), **change)
    assert reason in reasons(read_runs([tmp_path]))["run"]


def test_evaluations_that_claim_gigabytes_take_no_memory(tmp_path):
    run = write_run(tmp_path / "bad")
    with zipfile.ZipFile(run / "evaluations.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("timesteps", "phase", "results", "ep_lengths", "episode_seeds"):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 21, 1)}
                )
                for _ in range(16):
                    file.write(bytes(1 << 20))
    write_run(tmp_path / "good", seed=1)
    tracemalloc.start()
    tables = read_runs([tmp_path])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    expected = "evaluations.npz cannot be read: its arrays take 83.9 MB, expected at most 67.1 MB"
    assert reasons(tables)["bad"] == expected
    assert peak < 16 << 20
    assert len(tables.counted()) == 3


def test_evaluations_with_a_header_of_a_million_million_elements_are_listed(tmp_path):
    run = write_run(tmp_path / "run")
    with zipfile.ZipFile(run / "evaluations.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["results.npy"] = members["results.npy"].replace(b"(3, 50), }          ", b"(1000000000000, 50)}")
    with zipfile.ZipFile(run / "evaluations.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "it claims 400,000,000,000,000 bytes" in reasons(read_runs([tmp_path]))["run"]


def test_what_the_files_of_many_runs_share_is_read_once(tmp_path, monkeypatch):
    read, reads = plain_yaml.read, []
    monkeypatch.setattr(plain_yaml, "read", lambda text, *more: reads.append(text) or read(text, *more))
    for seed in range(6):
        write_run(tmp_path / str(seed), seed=seed, settings={"gamma": 0.9 if seed == 5 else 0.99})
    runs = read_runs([tmp_path]).runs
    assert len(reads) == 2
    assert sorted(runs["seed"]) == list(range(6))
    assert [settings["gamma"] for settings in runs.sort_values("seed")["settings"]] == ["0.99"] * 5 + ["0.9"]
    assert runs["problem"].isna().all()


def test_a_manifest_is_read_once_until_it_is_replaced(tmp_path, monkeypatch):
    folder = RunFolder(write_run(tmp_path / "run"))
    folder.write_config(folder.read_config())
    found, reads = read_manifest, []
    monkeypatch.setattr("zoo.runs.folder.read_manifest", lambda path: reads.append(path) or found(path))
    for _ in range(3):
        folder.read_config()
    assert len(reads) == 1
    folder.write_config({**folder.read_config(), "label": "other"})
    assert folder.read_config()["label"] == "other"
    folder.config.write_text("algo: qam\n")
    with pytest.raises(UnreadableRun, match="damaged"):
        folder.read_config()
