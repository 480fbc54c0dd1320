"""Run folders: which process has the lock, how a run ends, which `running` run is dead, and the stored evaluations."""

import datetime
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from tests.zoo.outcomes import change_status
from zoo.runs.folder import (
    COLUMNS,
    STALE_AFTER,
    RunFolder,
    ending_recorded,
    find_run_folders,
    state_now,
    with_evaluation,
)
from zoo.runs.read import read_runs
from zoo.runs.scores import EpisodeResults
from zoo.settings.record import RunRecord
from zoo.terminal.errors import CannotResume

CONFIG = {"format": 1, "algo": "qam", "env": "env-v0", "offline_steps": 10, "seed": 3}


def new_run(logs):
    folder = RunFolder.create(logs, "qam", "env-v0")
    folder.write_config(RunRecord.read(CONFIG))
    return folder


def test_runs_that_start_together_never_share_a_folder(tmp_path):
    (tmp_path / "qam" / "env-v0_of_another_name_1").mkdir(parents=True)
    with ThreadPoolExecutor(8) as pool:
        folders = pool.map(lambda _: new_run(tmp_path).path, range(24))
        assert len(set(folders)) == 24


@pytest.mark.parametrize("state", ["done", "failed"])
def test_a_run_that_has_ended_keeps_its_ending(tmp_path, state):
    folder = new_run(tmp_path)
    for error in (CannotResume("every checkpoint is damaged"), ArithmeticError("the second one")):
        status = folder.status.read_bytes()
        with pytest.raises(type(error)), ending_recorded([folder]):
            raise error
        assert folder.status.read_bytes() == status
        folder.write_status(state, 7, 0, reason="the first one")


def state(folder):
    return state_now(folder, folder.read_status())


def test_a_run_is_running_while_its_lock_is_held(tmp_path):
    folder = new_run(tmp_path)
    assert state(folder) == "running"
    folder.lock.release()
    assert state(folder) == "dead"
    (reason,) = read_runs([tmp_path]).runs["problem"]
    assert reason.startswith("dead: last checkpoint: offline step 0 of 10")
    assert reason.endswith("; its process is gone; --resume continues it")


def test_a_run_that_ends_while_it_is_read_is_not_dead(tmp_path):
    folder = new_run(tmp_path)
    status = folder.read_status()
    folder.write_status("done", 10, 0)
    folder.lock.release()
    assert state_now(folder, status) == "running"


def test_a_run_of_another_host_is_dead_when_long_silent(tmp_path):
    folder = new_run(tmp_path)
    folder.lock.release()
    with mock.patch.object(folder.lock, "is_held", return_value=None):  # storage without locks
        assert state(folder) == "running"
    folder.lock.path.unlink()
    # its lock cannot be tested on this host, so only the age of its status counts
    change_status(folder.path, host="elsewhere")
    assert state(folder) == "running"
    old = datetime.datetime.now(datetime.UTC) - STALE_AFTER - datetime.timedelta(minutes=1)
    change_status(folder.path, updated=old.isoformat())
    assert state(folder) == "dead"


def test_evaluations_that_cannot_be_written_whole_leave_old_ones(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    history = dict.fromkeys(COLUMNS, np.zeros((1, 2)))
    history |= dict.fromkeys(("timesteps", "phase"), np.zeros(1, int))
    folder.write_evaluations(history)

    def breaks(path, **arrays):
        Path(path).write_bytes(b"half")
        raise OSError("no space")

    monkeypatch.setattr(np, "savez", breaks)
    with pytest.raises(OSError, match="no space"):
        folder.write_evaluations(history)
    assert folder.read_evaluations().keys() == history.keys()


def test_linked_run_folders_are_found_and_each_real_one_once(tmp_path):
    logs = tmp_path / "logs"
    run = new_run(logs).path
    elsewhere_run = new_run(tmp_path / "elsewhere").path
    (logs / "status.json").write_text("{}")  # a single file is not a run
    links = {"linked": elsewhere_run, "again": elsewhere_run, "a_loop": logs, "0_run": run}
    for name, target in links.items():
        (logs / name).symlink_to(target)
    new_run(logs / ".trash")
    assert find_run_folders([logs]) == [logs / "again", run]
    (logs / "study.yml").touch()  # now these are trials
    assert find_run_folders([tmp_path]) == [elsewhere_run]
    assert len(find_run_folders([logs, tmp_path])) == 2


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("os.scandir", mock.Mock(side_effect=PermissionError))
    find_run_folders([tmp_path])
    assert "a folder was skipped" in capsys.readouterr().err


# -- evaluations ------------------------------------------------------------------------------------------------------


def test_evaluations_before_first_reported_success_are_failures():
    numbers = np.arange(8).reshape(2, 4)  # of two replicas
    results = EpisodeResults(
        successes=numbers % 2,
        returns=-numbers.astype(np.float64) / 3,
        lengths=numbers + 100,
        seeds=np.arange(4, dtype=np.uint32) + 7,
        played=np.ones(2, bool),
    )
    history = with_evaluation({}, 50, 0, replace(results, successes=None), 0)
    assert "successes" not in history
    history = with_evaluation(history, 100, 0, results, 0)
    assert history["successes"].tolist() == [[0, 0, 0, 0], [0, 1, 0, 1]]
