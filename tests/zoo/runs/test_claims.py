"""Claims: one holder at a time; whoever has lost one writes nothing more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agents.common.files import TakenOver, atomic_path, is_taken_over
from zoo.runs.claims import Claim, Claims, held

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


def test_a_claim_that_ended_leaves_its_record_and_nothing_else(tmp_path: Path) -> None:
    claim = take(tmp_path)
    assert claim.release("failed", reason="no luck")
    files = [path for path in folder(tmp_path).rglob("*") if path.name != "held"]
    assert files == [folder(tmp_path) / f"{claim.folder.name}.json"]
    (record,) = Claims(folder(tmp_path)).ended()
    assert (record["owner"], record["outcome"], record["reason"]) == ("me", "failed", "no luck")


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
def test_a_damaged_record_is_named_and_left_out(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    take(tmp_path).release("done", seconds=1.0)
    (folder(tmp_path) / "damaged.json").write_text(content)
    for _ in range(2):
        assert [record["seconds"] for record in Claims(folder(tmp_path)).ended()] == [1.0]
    assert caplog.text.count(str(folder(tmp_path) / "damaged.json")) == 1


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
