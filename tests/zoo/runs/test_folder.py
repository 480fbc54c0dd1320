"""Run folders: who holds one, how a run ends, and which run that says `running` still does."""

import datetime
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.zoo.outcomes import status_of
from zoo.runs.folder import (
    COLUMNS,
    STALE_AFTER,
    RunFolder,
    ending_recorded,
    find_run_folders,
    state_now,
)
from zoo.runs.read import read_runs
from zoo.settings.record import RunRecord
from zoo.terminal.errors import CannotResume, Interrupted


def test_runs_that_start_together_never_share_a_folder(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(
            pool.map(lambda _: RunFolder.create(tmp_path, "qam", "env-v0", 0).path, range(24))
        )
    assert len(set(folders)) == 24


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ArithmeticError("broke"), "failed"),
        (KeyboardInterrupt("stop"), "interrupted"),
        (Interrupted("stop"), "interrupted"),
    ],
)
def test_an_exception_ends_the_runs_with_its_reason(tmp_path, error, state):
    folders = [RunFolder.create(tmp_path, "qam", "env-v0", 0)]
    folders[0].write_status("running", 3, 7, 0, pretraining_step=2)

    def start():
        with ending_recorded(folders):
            folders.append(RunFolder.create(tmp_path, "qam", "env-v0", 4))
            raise error

    with pytest.raises(type(error)):
        start()
    first, second = (status_of(each.path) for each in folders)
    assert first.pop("updated")
    assert first.pop("host")
    reason = f"{type(error).__name__}: {error}"
    assert first == {
        "state": state, "seed": 3, "offline_step": 7, "online_step": 0, "pretraining_step": 2, "reason": reason,
    }  # fmt: skip
    assert second["state"] == state
    assert second["seed"] == 4
    assert second["reason"] == reason


@pytest.mark.parametrize("state", ["done", "failed"])
def test_a_run_that_has_ended_keeps_its_ending_and_one_that_cannot_be_resumed_its_state(
    tmp_path, state
):
    folder = RunFolder.create(tmp_path, "qam", "env-v0", 0)
    for error in (CannotResume("every checkpoint is damaged"), ArithmeticError("the second one")):
        before = folder.status.read_bytes()
        with pytest.raises(type(error)), ending_recorded([folder]):
            raise error
        assert folder.status.read_bytes() == before
        folder.write_status(state, 3, 7, 0, reason="the first one")


CONFIG = {"algo": "qam", "env": "env-v0", "offline_steps": 10, "seed": 3}


def new_run(logs, **config):
    folder = RunFolder.create(logs, "qam", "env-v0", 3)
    folder.write_config(RunRecord.read(CONFIG | config))
    return folder


def change_status(folder, **changes):
    folder.status.write_text(json.dumps(json.loads(folder.status.read_text()) | changes))


def state(folder):
    return state_now(folder, folder.read_status())


def test_a_run_is_running_while_its_process_holds_the_lock_and_dead_after_that(tmp_path):
    create = f"run = RunFolder.create(Path({str(tmp_path)!r}), 'qam', 'env-v0', 3)"
    imports = "from pathlib import Path; from zoo.runs.folder import RunFolder"
    code = f"{imports}\n{create}\nprint(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        folder = RunFolder(tmp_path / "qam" / "env-v0_1")
        folder.write_config(RunRecord.read(CONFIG))
        assert state(folder) == "running"
        process.kill()
        process.wait()
    assert state(folder) == "dead"
    (reason,) = read_runs([tmp_path]).runs["problem"]
    assert reason.startswith("dead: at offline step 0 of 10 ")
    assert reason.endswith("; its process is gone; --resume continues it")


def test_a_run_of_another_host_is_dead_only_when_it_has_been_silent_for_long(tmp_path):
    folder = new_run(tmp_path)
    folder.lock.release()
    change_status(folder, host="elsewhere")
    assert state(folder) == "running"
    old = datetime.datetime.now(datetime.UTC) - STALE_AFTER - datetime.timedelta(minutes=1)
    change_status(folder, updated=old.isoformat())
    assert state(folder) == "dead"


def test_evaluations_that_cannot_be_written_whole_leave_the_old_ones(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    history = dict.fromkeys(COLUMNS, np.zeros((1, 2))) | dict.fromkeys(
        ("timesteps", "phase"), np.zeros(1, int)
    )
    folder.write_evaluations(history)

    def breaks(path, **arrays):
        Path(path).write_bytes(b"half")
        raise OSError("no space")

    monkeypatch.setattr(np, "savez", breaks)
    with pytest.raises(OSError, match="no space"):
        folder.write_evaluations(history)
    assert folder.read_evaluations().keys() == history.keys()


def test_linked_run_folders_are_found_and_each_real_one_once(tmp_path):
    elsewhere = new_run(tmp_path / "elsewhere").path
    logs = tmp_path / "logs"
    own = new_run(logs).path
    (logs / "linked").symlink_to(elsewhere)
    (logs / "again").symlink_to(elsewhere)
    (logs / "a_loop").symlink_to(logs)
    (logs / "0_own").symlink_to(own)
    assert [folder.path for folder in find_run_folders([logs])] == [logs / "again", own]
    assert len(find_run_folders([logs, tmp_path])) == 2


def test_runs_of_two_log_folders_have_their_own_folders_of_events(tmp_path):
    events = tmp_path / "events"
    runs = [RunFolder.create(tmp_path / logs, "qam", "env-v0", 0) for logs in ("a", "b", "c")]
    folders = [run.events_folder(events, "qam", is_resumed=False) for run in runs]
    assert folders == [
        events / "qam_env-v0_1",
        events / "qam_env-v0_1_2",
        events / "qam_env-v0_1_3",
    ]
    again = [RunFolder(run.path).events_folder(events, "qam", is_resumed=True) for run in runs]
    assert again == folders
    elsewhere = runs[1].events_folder(tmp_path / "other", "qam", is_resumed=True)
    assert elsewhere == tmp_path / "other" / "qam_env-v0_1"


def test_a_run_keeps_its_id_at_weights_and_biases_beside_its_folder_of_events(tmp_path):
    run = RunFolder.create(tmp_path / "logs", "qam", "env-v0", 0)
    id = run.tracking_id()
    folder = run.events_folder(tmp_path / "events", "qam", is_resumed=False)
    assert RunFolder(run.path).tracking_id() == id
    assert RunFolder(run.path).events_folder(tmp_path / "events", "qam", is_resumed=True) == folder


def test_a_resumed_run_of_release_1_0_goes_on_in_its_folder_of_events(tmp_path):
    run = RunFolder.create(tmp_path / "logs", "qam", "env-v0", 0)
    (tmp_path / "events" / "qam_env-v0_1").mkdir(parents=True)
    assert (
        run.events_folder(tmp_path / "events", "qam", is_resumed=True)
        == tmp_path / "events" / "qam_env-v0_1"
    )
