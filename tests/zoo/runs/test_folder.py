"""Run folders: who holds one, how a run ends, and which run that says `running` still does."""

from __future__ import annotations

import contextlib
import csv
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agents.common.files import TakenOver, atomic_path, is_taken_over
from zoo.errors import CannotResume, Interrupted
from zoo.runs import claims
from zoo.runs.claims import HIDDEN, Claim, Claims, held, state_now
from zoo.runs.folder import RunFolder, ending_recorded
from zoo.runs.read import read_runs
from zoo.settings import plain_yaml


def test_runs_that_start_together_never_share_a_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: RunFolder.create(tmp_path, "qam", "env-v0", 0).path, range(24)))
    assert len(set(folders)) == 24


@pytest.mark.slow
def test_processes_that_write_the_index_together_lose_no_row(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from zoo.runs.folder import RunFolder\n"
        "for seed in range(20): RunFolder.create(Path(sys.argv[1]), 'qam', 'env-v0', seed).enter_in_index(seed, 'qam')"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(subprocess.Popen(command, cwd=Path(__file__).parents[3]))
    with open(tmp_path / "qam" / "runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["run", "env", "seed", "label", "started", "command"]
    assert {row["run"] for row in rows} == {f"env-v0_{number}" for number in range(1, 81)}


def status_of(folder: RunFolder) -> dict[str, Any]:
    return dict(json.loads((folder.path / "status.json").read_text()))


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ArithmeticError("broke"), "failed"),
        (KeyboardInterrupt("stop"), "interrupted"),
        (Interrupted("stop"), "interrupted"),
    ],
)
def test_an_exception_ends_the_runs_with_its_reason(tmp_path: Path, error: BaseException, state: str) -> None:
    folders = [RunFolder.create(tmp_path, "qam", "env-v0", 0)]
    folders[0].write_status("running", 3, 7, 0, pretraining_step=2)

    def start() -> None:
        with ending_recorded(folders, [3, 4, 5]):
            folders.append(RunFolder.create(tmp_path, "qam", "env-v0", 0))  # without a status yet
            raise error

    with pytest.raises(type(error)):
        start()
    first, second = map(status_of, folders)
    assert first.pop("updated")
    reason = f"{type(error).__name__}: {error}"
    assert first == {
        "state": state, "seed": 3, "offline_step": 7, "online_step": 0, "pretraining_step": 2, "reason": reason,
    }  # fmt: skip
    assert (second["state"], second["seed"], second["reason"]) == (state, 4, reason)


@pytest.mark.parametrize("state", ["done", "failed"])
def test_a_run_that_has_ended_keeps_its_ending_and_one_that_cannot_be_resumed_its_state(
    tmp_path: Path, state: str
) -> None:
    folder = RunFolder.create(tmp_path, "qam", "env-v0", 0)
    for error in (CannotResume("every checkpoint is damaged"), ArithmeticError("the second one")):
        before = folder.status.read_bytes()
        with pytest.raises(type(error)), ending_recorded([folder], [3]):
            raise error
        assert folder.status.read_bytes() == before
        folder.write_status(state, 3, 7, 0, reason="the first one")


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
    second.lock.release()  # a resumed run holds only the lock of the first
    assert state(second) == "running"
    first.lock.release()
    assert state(second) == "dead"


@pytest.mark.parametrize("host", ["elsewhere", None])
def test_a_run_of_another_host_is_dead_only_when_it_has_been_silent_for_long(tmp_path: Path, host: str | None) -> None:
    folder = new_run(tmp_path)
    folder.lock.release()
    change_status(folder, host=host)
    assert state(folder) == "running"
    old = datetime.datetime.now(datetime.UTC) - claims.SILENT_FOR - datetime.timedelta(minutes=1)
    change_status(folder, updated=old.isoformat())
    assert state(folder) == "dead"
    change_status(folder, updated="?")
    assert state(folder) == "running"


def test_the_claim_of_a_suite_stands_for_the_lock(tmp_path: Path) -> None:
    claim = Claims(tmp_path / HIDDEN / "job").take("somebody")
    assert claim is not None
    folder = new_run(tmp_path)
    folder.lock.release()
    (folder.path / "args.yml").write_text(plain_yaml.write({"claim": f"somewhere/{HIDDEN}/job/held/name"}))
    assert state(folder) == "running"
    claim.release("failed")
    assert state(folder) == "dead"


ROOT = Path(__file__).parents[3]


def folder(tmp_path: Path) -> Path:
    return tmp_path / "logs" / ".claims" / "job"


def set_age(claim: Claim, seconds: float) -> None:
    """Let the last sign of life be some time ago, of a process that holds its lock or is elsewhere."""
    os.utime(claim.folder, (time.time() - seconds,) * 2)


def take(tmp_path: Path, owner: str = "me") -> Claim:
    claim = Claims(folder(tmp_path)).take(owner)
    assert claim is not None
    return claim


@pytest.mark.slow
def test_processes_that_ask_at_once_never_hold_a_claim_together(tmp_path: Path) -> None:
    code = (
        "import sys, os; from pathlib import Path; from zoo.runs.claims import Claims\n"
        "for _ in range(200):\n"
        "    claim = Claims(Path(sys.argv[1])).take(sys.argv[2])\n"
        "    if claim:\n"
        "        print(claim.folder.name, flush=True)\n"
        "        os.close(os.open(sys.argv[1] + '/../lock', os.O_CREAT | os.O_EXCL))\n"  # fails if another holds it
        "        os.unlink(sys.argv[1] + '/../lock')\n"
        "        claim.release('done')\n"
    )
    command = [sys.executable, "-c", code, str(folder(tmp_path))]
    workers = [subprocess.Popen([*command, str(k)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for k in range(3)]
    names = [word for worker in workers for word in worker.communicate()[0].split()]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert len(Claims(folder(tmp_path)).ended()) == len(set(names)) == len(names) > 0


@pytest.mark.parametrize(("sign", "content"), [(1, None), (-1, None), (1, ""), (1, '{"pid": "x", "host": 3}')])
def test_a_claim_whose_last_sign_of_life_is_not_of_now_is_taken_over(
    tmp_path: Path, sign: int, content: str | None
) -> None:
    first = take(tmp_path, "first")
    if content is not None:
        (first.folder / "holder.json").write_text(content)
    set_age(first, sign * 170)
    assert Claims(folder(tmp_path)).take("second") is None
    set_age(first, sign * 190)
    assert Claims(folder(tmp_path)).holder() is None
    assert Claims(folder(tmp_path)).take("second") is not None
    assert not first.folder.is_dir()
    assert not first.release("done")
    with pytest.raises(TakenOver, match="another process has taken over job"):
        first.beat()
    (record,) = Claims(folder(tmp_path)).ended()
    assert (record["outcome"], record["reason"]) == ("lost", "no sign of life")


@pytest.mark.parametrize("content", ["", "[]", '{"outcome": "done", "end": 1.0, "seconds": "x"}'])
def test_a_claim_that_ended_leaves_its_record_and_a_damaged_one_is_named_and_left_out(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    claim, damaged = take(tmp_path), folder(tmp_path) / "damaged.json"
    assert claim.release("failed", reason="no luck", seconds=1.0)
    files = [path for path in folder(tmp_path).rglob("*") if path.name != "held"]
    assert files == [folder(tmp_path) / f"{claim.folder.name}.json"]
    damaged.write_text(content)
    for _ in range(2):
        (record,) = Claims(folder(tmp_path)).ended()
        assert [record[name] for name in ("owner", "outcome", "reason", "seconds")] == ["me", "failed", "no luck", 1.0]
    assert caplog.text.count(str(damaged)) == 1


def test_a_claim_of_processes_that_have_ended_here_is_taken_over_at_once(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; from pathlib import Path; from zoo.runs.claims import Claims\n"
        "claim = Claims(Path(sys.argv[1])).take('a')\n"
        "subprocess.Popen(['sh', '-c', 'read line'], pass_fds=[claim.lock], stdout=subprocess.DEVNULL)\n"
    )
    command = [sys.executable, "-c", code, str(folder(tmp_path))]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as program:
        assert program.wait() == 0
        assert Claims(folder(tmp_path)).take("b") is None  # what it has started still runs
    end = time.monotonic() + 30
    while Claims(folder(tmp_path)).take("b") is None:
        assert time.monotonic() < end


def test_a_later_life_of_an_owner_ends_the_claim_of_the_earlier_one(tmp_path: Path) -> None:
    first, claims = take(tmp_path, "same"), Claims(folder(tmp_path))
    claims.end_earlier("another")
    assert first.folder.is_dir()
    claims.end_earlier("same")
    assert not first.folder.is_dir()
    (record,) = claims.ended()
    assert (record["outcome"], record["reason"]) == ("lost", "its owner was started again")
    second = take(tmp_path, "same")
    assert claims.take("same") is None  # as the earlier life asks, if it still runs
    assert second.folder.is_dir()


def test_who_has_lost_a_claim_writes_nothing_more(tmp_path: Path) -> None:
    claim, path = take(tmp_path), tmp_path / "logs" / "file"

    def write() -> None:
        with held(claim.folder):
            with atomic_path(path) as temporary:
                temporary.write_text("mine")
            assert path.read_text() == "mine"
            with atomic_path(path) as temporary:
                temporary.write_text("late")
                shutil.rmtree(claim.folder)  # as another process does that takes over

    with pytest.raises(TakenOver):
        write()
    assert path.read_text() == "mine"
    assert not is_taken_over()  # this test's process goes on


def test_a_process_ends_when_its_heart_finds_the_claim_lost(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from zoo.runs import claims\n"
        "claims.HEARTBEAT_SECONDS = 0.05\n"
        "with claims.held(Path(sys.argv[1])):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    first = take(tmp_path, "same")
    command = [sys.executable, "-c", code, str(first.folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "ready\n"
        Claims(folder(tmp_path)).end_earlier("same")
        assert child.wait(timeout=30) == 1
        assert "this process ends without writing anything more" in child.stderr.read()
