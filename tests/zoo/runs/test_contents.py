"""Reading many runs: those that have ended are read once, and only while their files stay as they are."""

import contextlib
import os
import shutil
import sqlite3
import time
import weakref

import pandas as pd
import pytest

from tests.zoo.runs.helpers import write_run
from zoo.runs import contents
from zoo.runs.folder import RunFolder
from zoo.runs.read import read_runs


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """Return a folder of three runs that ended long ago; every reading that has news is cached."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(contents, "MIN_NEW_RUNS", 1)
    for seed in range(3):
        age(write_run(tmp_path / "logs" / f"run_{seed}", seed=seed, offline=(10, 20 + seed)))
    return tmp_path / "logs"


@pytest.fixture
def reads(monkeypatch):
    """Return a list that grows by the name of each run whose evaluations are read."""
    names = []
    read = RunFolder.read_evaluations

    def noting(folder):
        names.append(folder.path.name)
        return read(folder)

    monkeypatch.setattr(RunFolder, "read_evaluations", noting)
    return names


def age(run, seconds=1.7e9):
    for file in run.iterdir():
        os.utime(file, (seconds, seconds))


def assert_same(tables, others):
    pd.testing.assert_frame_equal(tables.runs, others.runs)
    pd.testing.assert_frame_equal(tables.evaluations, others.evaluations)


def test_a_second_look_reads_no_finished_run_again_and_shows_the_same(logs, reads):
    write_run(logs / "returns", env="Pendulum-v1", offline=(1.0, 2.5), has_success=False)
    age(logs / "returns")
    first = read_runs([logs])
    assert reads == ["returns", "run_0", "run_1", "run_2"]
    assert_same(read_runs([logs]), first)
    assert len(reads) == 4
    read_runs([logs / "run_1"])  # the others stay in the cache
    read_runs([logs])
    assert len(reads) == 4


def test_a_deleted_run_leaves_the_cache_when_it_is_next_written(logs, tmp_path):
    read_runs([logs])
    shutil.rmtree(logs / "run_0")
    age(write_run(logs / "run_3", seed=3))
    read_runs([logs])
    (file,) = (tmp_path / "cache").rglob("*.sqlite")
    with contextlib.closing(sqlite3.connect(file)) as cache:
        assert cache.execute("SELECT COUNT(*) FROM runs").fetchone() == (3,)


@pytest.mark.parametrize("file", ["status.json", "config.yml", "evaluations.npz"])
def test_a_run_with_a_changed_file_is_read_again(logs, reads, file):
    read_runs([logs])
    os.utime(logs / "run_1" / file, (1.6e9, 1.6e9))
    assert len(read_runs([logs]).runs) == 3
    assert reads[3:] == ["run_1"]


def test_what_may_still_change_is_read_at_every_look(logs, reads):
    age(write_run(logs / "running", seed=7, state="running"))
    write_run(logs / "recent", seed=8)
    damaged = write_run(logs / "damaged", seed=9)
    (damaged / "evaluations.npz").write_text("")
    age(damaged)
    read_runs([logs])
    reads.clear()
    read_runs([logs])
    assert reads == ["damaged", "recent", "running"]


def test_a_damaged_cache_or_none_changes_nothing(logs, monkeypatch, tmp_path):
    first = read_runs([logs])
    (file,) = (tmp_path / "cache").rglob("*.sqlite")
    file.write_bytes(file.read_bytes()[:-9])
    assert_same(read_runs([logs]), first)
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)  # no folder can be made there
    assert_same(read_runs([logs]), first)


def test_a_locked_cache_is_waited_for_once(logs, tmp_path):
    first = read_runs([logs])
    (file,) = (tmp_path / "cache").rglob("*.sqlite")
    with contextlib.closing(sqlite3.connect(file)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        begin = time.monotonic()
        assert_same(read_runs([logs]), first)
        waits = (time.monotonic() - begin) / contents.LOCK_SECONDS
    assert waits < 3  # once to read, for three runs, and once to write


def test_a_folder_of_few_runs_leaves_no_file(logs, monkeypatch, tmp_path):
    monkeypatch.setattr(contents, "MIN_NEW_RUNS", 4)
    read_runs([logs])
    assert not (tmp_path / "cache").exists()


def test_settings_that_json_cannot_hold_are_read_again(logs, reads):
    config = logs / "run_1" / "config.yml"
    text = config.read_text()
    config.write_text(text.replace("settings:\n", "settings:\n  later: {3: 4}\n"))
    assert config.read_text() != text
    age(logs / "run_1")
    read_runs([logs])
    read_runs([logs])
    assert reads[3:] == ["run_1"]


def test_seeds_are_told_apart_though_their_settings_are_parsed_once(logs):
    runs = read_runs([logs]).runs
    folders = [RunFolder(logs / f"run_{seed}") for seed in range(3)]
    assert runs["seed"].tolist() == [folder.read_status()["seed"] for folder in folders]
    assert [folder.read_config().seed for folder in folders] == [0, 1, 2]
    assert len({id(folder.read_config_of_seeds()) for folder in folders}) == 1


def test_the_episodes_of_a_run_are_released_before_the_next_one_is_read(logs, monkeypatch):
    read = RunFolder.read_evaluations
    arrays = []

    def noting(folder):
        assert not any(array() is not None for array in arrays)
        evaluations = read(folder)
        arrays.extend(map(weakref.ref, evaluations.values()))
        return evaluations

    monkeypatch.setattr(RunFolder, "read_evaluations", noting)
    read_runs([logs])
    assert len(arrays) == 3 * 6
