"""Workers: what they do about jobs that fail, are held by others, are stopped or lost."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.zoo.suites.tiny import is_alive, wait_for
from zoo.runs.claims import Claims
from zoo.suites import worker as worker_module
from zoo.suites.jobs import Job, Machine, State
from zoo.suites.suite import Run, Suite
from zoo.suites.worker import Plan, Worker

FAKE = """
import os, signal, subprocess, sys, time
from pathlib import Path
folder, outcome = Path(sys.argv[1]), sys.argv[2]
with open(folder / "starts", "a") as file:
    file.write(outcome + "\\n")
if outcome == "prints":
    print("o" * 10**6)
    print("e" * 10**6, file=sys.stderr)
if outcome == "leaves":
    server = subprocess.Popen(["sleep", "60"])
    (folder / "server").write_text(str(server.pid))
if outcome == "quits":
    os._exit(0)
if outcome == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if outcome in ("deaf", "waits"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN if outcome == "deaf" else lambda *_: sys.exit(3))
    (folder / "ready").touch()
    time.sleep(60)
is_first = len((folder / "starts").read_text().splitlines()) == 1
code = {"refused": 2, "fails": 1, "once": int(is_first)}.get(outcome, 0)
if code == 0:
    (folder / "done").touch()
print("the reason", file=sys.stderr)
print("printed at exit")
sys.exit(code)
"""


@dataclass(frozen=True)
class FakeJob(Job):
    """A job whose training program is `FAKE`, and which is done once that has said so."""

    def state(self) -> State:
        return State.DONE if (Path(self.words[0]) / "done").exists() else State.INTERRUPTED


@dataclass(frozen=True)
class FakePlan(Plan):
    """A plan of one such job."""

    outcome: str = "done"

    def jobs(self) -> list[Job]:
        folder = str(self.machine.log_folder)
        return [FakeJob(self.runs[0], self.machine, (folder, self.outcome), "fql", {}, 1)]


@pytest.fixture(autouse=True)
def fake_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setattr(worker_module, "TRAIN", tmp_path / "fake.py")
    monkeypatch.setattr(worker_module, "SECONDS_BETWEEN_LOOKS", 0.02)


def make_worker(tmp_path: Path, outcome: str, *, owner: str = "me", waits: bool = False) -> Worker:
    (tmp_path / "logs").mkdir(exist_ok=True)
    run = Run("fql", "some-v0", (0,))
    plan = FakePlan(Suite(["fql"], ["some-v0"], 0), [run], Machine(tmp_path / "logs"), "launch", 2, outcome)
    return Worker(plan, owner, waits=waits)


def claims_of(worker: Worker) -> Claims:
    return worker.plan.jobs()[0].claims


def starts(tmp_path: Path) -> int:
    return len((tmp_path / "logs" / "starts").read_text().splitlines())


def test_a_job_is_trained_once_and_its_claim_says_how_that_ended(tmp_path: Path) -> None:
    worker = make_worker(tmp_path, "done")
    worker()
    worker()  # nothing is left
    assert starts(tmp_path) == 1
    (end,) = claims_of(worker).ended()
    assert (end["outcome"], end["exit_code"]) == ("done", 0)
    assert end["seconds"] > 0
    texts = [next(claims_of(worker).folder.glob(pattern)).read_text() for pattern in ("*.out", "*.log")]
    assert texts == ["printed at exit\n", "the reason\n"]


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("outcome", ["prints", "leaves"])
def test_neither_what_a_job_prints_nor_what_it_leaves_behind_keeps_a_worker(tmp_path: Path, outcome: str) -> None:
    worker = make_worker(tmp_path, outcome)
    worker()
    assert [end["outcome"] for end in claims_of(worker).ended()] == ["done"]
    if outcome == "leaves":
        server = int((tmp_path / "logs" / "server").read_text())
        wait_for(lambda: not is_alive(server), pause=0.02)


@pytest.mark.parametrize(("outcome", "times"), [("fails", 3), ("killed", 3), ("quits", 3), ("refused", 1), ("once", 2)])
def test_what_failed_is_tried_again_up_to_the_limit_and_bad_input_never(
    tmp_path: Path, outcome: str, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    worker = make_worker(tmp_path, outcome)
    worker()
    assert starts(tmp_path) == times
    ended = claims_of(worker).ended()
    assert [end["outcome"] for end in ended] == ["failed"] * (times - 1) + ["done" if outcome == "once" else "failed"]
    reasons = {"killed": "killed by signal 9", "quits": "ended with exit code 0 before the run was done"}
    assert ended[0]["reason"] == reasons.get(outcome, "the reason")
    assert caplog.text.count("; see ") == [end["outcome"] for end in ended].count("failed")


def test_a_worker_that_waits_trains_the_job_when_its_holder_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "SECONDS_BETWEEN_ROUNDS", 0.05)
    worker = make_worker(tmp_path, "done", waits=True)
    claim = claims_of(worker).take("another")
    assert claim is not None
    ended = started(worker)
    wait_for(lambda: "waiting for jobs that other programs train" in caplog.text, pause=0.02)
    assert not (tmp_path / "logs" / "starts").exists()
    claim.release("interrupted")
    ended.result(30)
    assert starts(tmp_path) == 1


def started(worker: Worker) -> Future[None]:
    """Let a worker begin in a thread."""
    return ThreadPoolExecutor(1).submit(worker)


def begin(worker: Worker) -> Future[None]:
    """Let a worker begin, and wait until its job runs."""
    ended = started(worker)
    wait_for((worker.plan.machine.log_folder / "ready").exists, pause=0.02)
    return ended


@pytest.mark.parametrize("outcome", ["waits", "deaf"])
def test_a_worker_that_is_stopped_lets_its_run_write_a_checkpoint_or_kills_it(
    tmp_path: Path, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "STOP_SECONDS", 0.2 if outcome == "deaf" else 30.0)
    worker = make_worker(tmp_path, outcome)
    ended = begin(worker)
    worker.stop()
    ended.result(30)
    (end,) = claims_of(worker).ended()
    assert (end["outcome"], end["exit_code"]) == ("interrupted", 3 if outcome == "waits" else -9)


def test_claims_that_are_removed_under_a_worker_are_made_again(tmp_path: Path) -> None:
    worker = make_worker(tmp_path, "waits", waits=True)
    ended = begin(worker)
    shutil.rmtree(tmp_path / "logs" / ".claims")
    wait_for(lambda: starts(tmp_path) == 2, pause=0.02)
    worker.stop()
    ended.result(30)
    assert [end["outcome"] for end in claims_of(worker).ended()] == ["interrupted"]


def test_a_later_life_of_a_worker_ends_the_earlier_one_and_its_run(tmp_path: Path) -> None:
    earlier = make_worker(tmp_path, "waits")
    ended = begin(earlier)
    later = pickle.loads(pickle.dumps(make_worker(tmp_path, "done")))
    later()
    ended.result(30)
    assert earlier.is_stopping
    assert [end["outcome"] for end in claims_of(later).ended()] == ["lost", "done"]


def test_the_training_process_gets_its_share_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "fake.py").write_text(
        "import json, os, sys; from pathlib import Path\n"
        "seen = {'cores': sorted(os.sched_getaffinity(0)), 'gpu': os.environ['CUDA_VISIBLE_DEVICES']}\n"
        "(Path(sys.argv[1]) / 'done').write_text(json.dumps(seen))\n"
    )
    worker = make_worker(tmp_path, "done")
    core = min(os.sched_getaffinity(0))
    worker.cores, worker.variables = [core], {"CUDA_VISIBLE_DEVICES": "3"}
    worker()
    assert json.loads((tmp_path / "logs" / "done").read_text()) == {"cores": [core], "gpu": "3"}


def test_jobs_that_are_not_wanted_are_those_that_can_be_trained(tmp_path: Path) -> None:
    tasks = [f"pointmaze-medium-navigate-singletask-task{number}-v0" for number in (1, 2)]
    suite = Suite(["bc", "fql"], [*tasks, "nowhere-v0"], "0-1", quick=True)
    wanted = [run for run in suite.runs() if (run.algo, run.env) == ("bc", tasks[0])]
    plan = Plan(suite, wanted, Machine(tmp_path / "logs"), "launch")
    assert [(job.algo, job.run.env) for job in plan.jobs()] == [("bc", tasks[0])]
    others = [(job.algo, job.run.env) for job in plan.other_jobs()]
    assert sorted(others) == [("bc", tasks[1]), ("fql", tasks[0]), ("fql", tasks[1])]
    assert Plan(suite, suite.runs(), plan.machine, "launch").other_jobs() == []
