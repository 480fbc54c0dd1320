"""Claims: one holder at a time, with a number that grows; whoever has lost one writes nothing more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agents.common.files import TakenOver, atomic_path, is_taken_over
from zoo.runs import claims
from zoo.runs.claims import Claim, Claims, held


def folder(tmp_path: Path) -> Path:
    return tmp_path / "logs" / ".claims" / "job"


def make_old(claim: Claim, seconds: float) -> None:
    """Let the last sign of life be some time ago, of a process elsewhere."""
    os.utime(claim.folder / "heartbeat", (time.time() - seconds,) * 2)
    holder = json.loads((claim.folder / "holder.json").read_text())
    (claim.folder / "holder.json").write_text(json.dumps({**holder, "system": "another"}))


def test_only_one_of_many_that_ask_at_once_gets_the_claim(tmp_path: Path) -> None:
    for number in range(1, 6):
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda each: Claims(folder(tmp_path)).take(f"owner {each}"), range(8)))
        taken = [claim for claim in found if claim is not None]
        assert [claim.number for claim in taken] == [number]
        assert taken[0].release("failed")


def test_processes_that_ask_at_once_never_hold_a_claim_together(tmp_path: Path) -> None:
    code = (
        "import sys, os; from pathlib import Path; from zoo.runs.claims import Claims\n"
        "for _ in range(200):\n"
        "    claim = Claims(Path(sys.argv[1])).take(sys.argv[2])\n"
        "    if claim:\n"
        "        print(claim.number, flush=True)\n"
        "        os.close(os.open(sys.argv[1] + '/../lock', os.O_CREAT | os.O_EXCL))\n"  # fails if another holds it
        "        os.unlink(sys.argv[1] + '/../lock')\n"
        "        claim.release('done')\n"
    )
    command = [sys.executable, "-c", code, str(folder(tmp_path))]
    root = Path(__file__).parents[3]
    workers = [subprocess.Popen([*command, str(k)], cwd=root, stdout=subprocess.PIPE, text=True) for k in range(3)]
    numbers = [int(word) for worker in workers for word in worker.communicate()[0].split()]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_a_claim_that_ended_leaves_its_record_and_nothing_else(tmp_path: Path) -> None:
    claim = Claims(folder(tmp_path)).take("me")
    assert claim is not None
    assert claim.release("failed", reason="no luck")
    assert [path.name for path in folder(tmp_path).iterdir()] == ["1.json"]
    (record,) = Claims(folder(tmp_path)).ended()
    assert (record["number"], record["owner"], record["outcome"], record["reason"]) == (1, "me", "failed", "no luck")


def test_a_living_claim_is_not_taken(tmp_path: Path) -> None:
    assert Claims(folder(tmp_path)).take("first") is not None
    assert Claims(folder(tmp_path)).take("second") is None
    holder = Claims(folder(tmp_path)).holder()
    assert holder is not None
    assert (holder["owner"], holder["pid"]) == ("first", os.getpid())


def test_a_claim_without_heartbeat_is_taken_over_with_the_next_number(tmp_path: Path) -> None:
    first = Claims(folder(tmp_path)).take("first")
    assert first is not None
    make_old(first, seconds=170)
    assert Claims(folder(tmp_path)).take("second") is None
    make_old(first, seconds=190)
    assert Claims(folder(tmp_path)).holder() is None
    second = Claims(folder(tmp_path)).take("second")
    assert second is not None
    assert second.number == 2
    assert first.is_lost
    assert not first.release("done")
    with pytest.raises(TakenOver, match="another process has taken over job"):
        first.beat()
    (record,) = Claims(folder(tmp_path)).ended()
    assert (record["outcome"], record["reason"], record["taken_over_by"]) == ("lost", "no sign of life", "second")


def test_a_claim_of_a_process_that_has_ended_here_is_taken_over_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from zoo.runs.claims import Claims; Claims(Path(sys.argv[1])).take('a')"
    )
    subprocess.run([sys.executable, "-c", code, str(folder(tmp_path))], check=True, cwd=Path(__file__).parents[3])
    claim = Claims(folder(tmp_path)).take("b")
    assert claim is not None
    assert claim.number == 2


def test_a_later_life_of_an_owner_takes_over_at_once(tmp_path: Path) -> None:
    first = Claims(folder(tmp_path)).take("same")
    assert first is not None
    assert Claims(folder(tmp_path)).held_by("another") is None
    assert Claims(folder(tmp_path)).held_by("same") == 1
    second = Claims(folder(tmp_path)).take("same", earlier=1)
    assert second is not None
    assert (first.is_lost, second.number) == (True, 2)
    (record,) = Claims(folder(tmp_path)).ended()
    assert (record["outcome"], record["reason"]) == ("lost", "its owner was started again")


def test_an_earlier_life_that_still_runs_takes_nothing_from_its_successor(tmp_path: Path) -> None:
    first = Claims(folder(tmp_path)).take("same")
    assert first is not None
    second = Claims(folder(tmp_path)).take("same", earlier=1)
    assert second is not None
    assert Claims(folder(tmp_path)).take("same", earlier=None) is None
    assert Claims(folder(tmp_path)).take("same", earlier=1) is None
    assert not second.is_lost


def test_who_has_lost_a_claim_writes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(os, "_exit", lambda code: ended.set() or sys.exit())
    monkeypatch.setattr(os, "getppid", os.getpid)  # as if this process had been started by the holder
    first = Claims(folder(tmp_path)).take("same")
    assert first is not None
    path = tmp_path / "logs" / "file"

    def write() -> None:
        with held(first.folder):
            with atomic_path(path) as temporary:
                temporary.write_text("mine")
            assert path.read_text() == "mine"
            assert Claims(folder(tmp_path)).take("same", earlier=1) is not None
            with atomic_path(path) as temporary:
                temporary.write_text("late")

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
    first = Claims(folder(tmp_path)).take("same")
    assert first is not None
    command = [sys.executable, "-c", code, str(first.folder)]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "ready\n"
        assert Claims(folder(tmp_path)).take("same", earlier=1) is not None
        assert child.wait(timeout=30) == 1
        assert "this process ends without writing anything more" in child.stderr.read()
