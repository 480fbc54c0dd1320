"""A run that says `running` is told from one whose process is gone."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from zoo.runs import folder as folders
from zoo.runs import liveness
from zoo.runs.claims import HIDDEN, Claims
from zoo.runs.folder import RunFolder
from zoo.runs.liveness import state_now
from zoo.runs.read import read_runs
from zoo.settings import plain_yaml

CONFIG = {"algo": "qam", "env": "env-v0", "offline_steps": 10, "seed": 3}


def new_run(logs: Path, **config: Any) -> RunFolder:
    folder = RunFolder.create(logs, "qam", "env-v0", 3)
    folder.write_config(CONFIG | config)
    return folder


def change_status(folder: RunFolder, **changes: Any) -> None:
    folder.status.write_text(json.dumps(json.loads(folder.status.read_text()) | changes))
    (folder.path / "manifest.json").unlink(missing_ok=True)  # its sums are those of another text


def state(folder: RunFolder) -> str:
    return state_now(folder, folder.read_status())


def test_a_run_is_running_while_its_process_holds_the_lock_and_dead_after_that(tmp_path: Path) -> None:
    create = f"run = RunFolder.create(Path({str(tmp_path)!r}), 'qam', 'env-v0', 3)"
    imports = "from pathlib import Path; from zoo.runs.folder import RunFolder"
    code = f"{imports}\n{create}\nprint(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        folder = RunFolder(tmp_path / "qam" / "env-v0_1")
        folder.write_config(CONFIG)
        assert state(folder) == "running"
        process.kill()
        process.wait()
    assert state(folder) == "dead"
    (reason,) = read_runs([tmp_path]).runs["problem"]
    assert reason.startswith("dead: at offline step 0 of 10 ")
    assert reason.endswith("; its process is gone; --resume continues it")


def test_the_lock_of_the_first_seed_stands_for_all(tmp_path: Path) -> None:
    together = {"seeds": [3, 4], "folders": ["env-v0_1", "env-v0_2"]}
    first, second = new_run(tmp_path, **together), new_run(tmp_path, **together)
    second.release()  # a resumed run holds only the lock of the first
    assert state(second) == "running"
    first.release()
    assert state(second) == "dead"


@pytest.mark.parametrize("host", ["elsewhere", None])
def test_a_run_of_another_host_is_dead_only_when_it_has_been_silent_for_long(tmp_path: Path, host: str | None) -> None:
    folder = new_run(tmp_path)
    folder.release()
    change_status(folder, host=host)
    assert state(folder) == "running"
    old = datetime.datetime.now(datetime.UTC) - liveness.SILENT_FOR - datetime.timedelta(minutes=1)
    change_status(folder, updated=old.isoformat())
    assert state(folder) == "dead"
    change_status(folder, updated="?")
    assert state(folder) == "running"


def test_the_claim_of_a_suite_stands_for_the_lock(tmp_path: Path) -> None:
    claim = Claims(tmp_path / HIDDEN / "job").take("somebody")
    assert claim is not None
    folder = new_run(tmp_path)
    folder.release()
    (folder.path / "args.yml").write_text(plain_yaml.write({"claim": f"somewhere/{HIDDEN}/job/held/name"}))
    assert state(folder) == "running"
    claim.release("failed")
    assert state(folder) == "dead"


def test_looking_does_not_keep_a_run_from_being_claimed(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    folder.release()
    looking = os.open(folder.path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(folders.SECONDS_BETWEEN_TRIES, os.close, [looking]).start()
    assert folder.claim()
