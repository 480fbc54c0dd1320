"""Workers on a cluster: how many are started, when one is replaced, and what is asked of Slurm."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.zoo.outcomes import Call
from zoo.benchmark import main
from zoo.errors import BAD_INPUT, Interrupted
from zoo.runs.claims import Claim, Claims
from zoo.suites.jobs import State
from zoo.suites.launchers import slurm
from zoo.suites.launchers.slurm import SlurmFleet, SlurmWorker
from zoo.suites.worker import MOST_REPLACEMENTS, ROOT, Plan, Worker, drive


class FakeJob:
    """A job whose state a test sets."""

    def __init__(self, folder: Path) -> None:
        self.claims = Claims(folder)
        self.result = State.WAITING
        self.failed = False

    def state(self) -> State:
        running = self.claims.holder() is not None and not self.result.is_final
        return State.RUNNING if running else self.result

    def has_failed(self, launch: str, retries: int) -> bool:
        return self.failed


class FakeFleet:
    """Workers that do nothing until a test says so."""

    def __init__(self) -> None:
        self.owners: list[str] = []
        self.ended = 0

    def start(self, workers: Sequence[Worker]) -> None:
        assert not any(worker.waits for worker in workers)
        self.owners += [worker.owner for worker in workers]

    def living(self) -> int:
        return len(self.owners) - self.ended


@pytest.fixture
def jobs(tmp_path: Path) -> list[FakeJob]:
    return [FakeJob(tmp_path / str(number)) for number in range(4)]


Driver = Callable[[Callable[[float], None]], None]


def make_driver(jobs: list[FakeJob], workers: int | None, monkeypatch: pytest.MonkeyPatch) -> tuple[Driver, FakeFleet]:
    plan: Any = Plan(None, jobs, None, "launch")  # type: ignore[arg-type]
    monkeypatch.setattr(Plan, "jobs", lambda self: list(self.runs))
    workers_there = FakeFleet()
    return functools.partial(drive, plan, workers_there, workers), workers_there


def take(job: FakeJob, owner: str) -> Claim:
    claim = job.claims.take(owner)
    assert claim is not None
    return claim


def look(driver: Driver, *steps: Any) -> None:
    """Let a driver look at its jobs again and again, with something that happens after each time."""
    left = list(steps)

    def pause(seconds: float) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop(0)()

    with pytest.raises(KeyboardInterrupt):
        driver(pause)


@pytest.mark.parametrize(("wanted", "started"), [(None, 4), (2, 2), (9, 4)])
def test_at_first_there_is_a_worker_for_each_job_or_as_many_as_were_asked_for(
    jobs: list[FakeJob], monkeypatch: pytest.MonkeyPatch, wanted: int | None, started: int
) -> None:
    driver, there = make_driver(jobs, wanted, monkeypatch)
    look(driver)
    assert there.owners == [f"launch/{number}" for number in range(started)]


def test_what_others_train_is_waited_for(jobs: list[FakeJob], monkeypatch: pytest.MonkeyPatch) -> None:
    for job in jobs[:3]:
        take(job, "another launch/0")
    driver, there = make_driver(jobs, None, monkeypatch)
    look(driver, lambda: take(jobs[3], "launch/0"), lambda: None)
    assert there.owners == ["launch/0"]


def test_a_lost_worker_is_replaced_while_others_work(jobs: list[FakeJob], monkeypatch: pytest.MonkeyPatch) -> None:
    driver, there = make_driver(jobs, None, monkeypatch)
    claims: list[Claim] = []

    def begin() -> None:
        claims.extend(take(job, f"launch/{number}") for number, job in enumerate(jobs))

    def lose() -> None:
        there.ended = 1
        claims[0].release("lost")

    look(driver, begin, lambda: None, lose)
    assert there.owners[4:] == ["launch/4"]


def test_it_ends_when_each_job_is_done_or_has_failed_for_good(
    jobs: list[FakeJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, there = make_driver(jobs, None, monkeypatch)

    def finish(seconds: float) -> None:
        for job, result in zip(jobs, (State.DONE, State.DONE, State.DIVERGED, State.FAILED), strict=True):
            job.result = result
        jobs[3].failed = True

    driver(finish)
    assert len(there.owners) == 4


def test_workers_that_end_without_finishing_anything_are_given_up(
    jobs: list[FakeJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, there = make_driver(jobs, 2, monkeypatch)

    def end_all(seconds: float) -> None:
        there.ended = len(there.owners)

    with pytest.raises(RuntimeError, match="4 jobs are left"):
        driver(end_all)
    assert len(there.owners) == 2 * (1 + MOST_REPLACEMENTS)


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with programs that do what Slurm's do when all is well, and nothing else on the PATH but this."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    write(folder, "srun", "exit 1")
    write(folder, "sbatch", "echo Submitted batch job 7")
    write(folder, "squeue", "exit 0")
    write(folder, "scancel", f'echo "$@" >> {folder}/cancelled')
    return folder


def write(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def show(folder: Path, *states: str) -> None:
    """Let squeue say these states of the jobs 7_0, 7_1, ..."""
    lines = "\n".join(f"7_{number} {state}" for number, state in enumerate(states))
    write(folder, "squeue", f"cat <<END\n{lines}\n8_0 RUNNING\n9_N/A PENDING\nEND")


def worker(number: int = 0) -> Worker:
    return Worker(Plan(None, (), None, "launch"), f"launch/{number}", waits=False)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path, call: Call) -> Callable[..., str]:
    """Return what runs a suite that is refused, and returns why."""
    suite = tmp_path / "suite.yml"
    suite.write_text("{algorithms: [fql], environments: [pointmaze-medium-navigate-singletask-task1-v0], seeds: 0}")

    def refused(*words: str) -> str:
        code, _, errors = call(main, suite, "-f", tmp_path / "logs", "--device", "cpu", "--launcher", "slurm", *words)
        assert code == BAD_INPUT
        return errors

    return refused


@pytest.fixture
def there(tmp_path: Path, bin_folder: Path) -> SlurmFleet:
    """Return a fleet of two workers."""
    found = SlurmFleet(tmp_path / "logs" / ".slurm", {})
    found.start([worker(), worker(1)])
    return found


def test_without_sbatch_nothing_begins(
    tmp_path: Path, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sbatch" in run()
    assert not list(tmp_path.glob("logs/*"))


@pytest.mark.parametrize(
    "word", ["slurm_partiton=gpu", "timeout_min=long", "slurm_setup=module", "slurm_additional_parameters=1"]
)
def test_a_wrong_resource_is_refused(bin_folder: Path, run: Callable[..., str], word: str) -> None:
    assert word.partition("=")[0] in run("--resources", word)


def test_jobs_run_in_this_folder_with_these_modules_and_what_was_asked_for(
    tmp_path: Path, bin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/my modules")
    monkeypatch.chdir(tmp_path)
    resources = {"slurm_partition": "gpu", "slurm_setup": ["module load cuda"], "timeout_min": 30}
    resources["slurm_additional_parameters"] = {"reservation": "mine"}
    SlurmFleet(tmp_path / "logs" / ".slurm", resources).start([worker(), worker(1)])
    lines = (tmp_path / "logs" / ".slurm" / "7_submission.sh").read_text().splitlines()
    for flag in ("partition=gpu", "time=30", "reservation=mine", "requeue", "signal=USR2@180", "array=0-1%2"):
        assert f"#SBATCH --{flag}" in lines
    assert lines.index(f"cd {tmp_path}") < lines.index("module load cuda")
    assert f"export PYTHONPATH='{ROOT}:/my modules'" in lines


@pytest.mark.parametrize(
    ("states", "living"),
    [("PENDING FAILED", 1), ("COMPLETING RUNNING", 2), ("COMPLETED", 0), ("CANCELLED RUNNING", 2), (None, 2)],
)
def test_a_job_counts_until_slurm_says_that_it_has_ended_or_does_not_know_it(
    there: SlurmFleet, bin_folder: Path, capsys: pytest.CaptureFixture[str], states: str | None, living: int
) -> None:
    if states is None:  # no answer is no end
        write(bin_folder, "squeue", "echo 'unable to contact slurm controller' >&2; exit 1")
    else:
        show(bin_folder, *states.split())
    assert there.living() == living
    assert ("unable to contact slurm controller" in capsys.readouterr().err) == (states is None)


def test_cancelled_jobs_are_not_replaced(there: SlurmFleet, bin_folder: Path) -> None:
    show(bin_folder, "CANCELLED", "CANCELLED")
    assert there.living() == 0
    with pytest.raises(Interrupted, match="7_0, 7_1"):
        there.start([worker(2)])


def test_slurm_that_refuses_a_replacement_is_asked_again(
    there: SlurmFleet, bin_folder: Path, run: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    write(bin_folder, "sbatch", "echo 'controller is down' >&2; exit 1")
    run()  # at first it is an error
    there.start([worker(2)])
    assert "in the place of lost ones: controller is down" in capsys.readouterr().err
    assert there.arrays == ["7"]


def test_ctrl_c_leaves_the_jobs_and_says_how_to_stop_them(
    tmp_path: Path, bin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_until_ctrl_c(plan: Plan, fleet: SlurmFleet, workers: int | None) -> None:
        fleet.start([worker()])
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm, "drive", run_until_ctrl_c)
    plan: Any = SimpleNamespace(machine=SimpleNamespace(log_folder=tmp_path))
    with pytest.raises(Interrupted, match="scancel 7"):
        slurm.run_on_slurm(plan, None, [])
    assert not (bin_folder / "cancelled").exists()


class Waiting(Worker):
    """A worker that waits until it is asked to stop."""

    def __call__(self) -> None:
        self.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        while not self.is_stopping:
            threading.Event().wait(0.01)


def test_a_checkpoint_stops_the_worker_and_returns_one_of_the_same_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    started = SlurmWorker(Waiting(worker().plan, "launch/3", waits=False))
    thread = threading.Thread(target=started)
    thread.start()
    continued = started.checkpoint().function.worker
    thread.join(10)
    assert not thread.is_alive()
    assert (continued.owner, continued.is_stopping, continued.waits) == ("launch/3", False, False)
    assert {signal.SIGUSR1, signal.SIGUSR2} <= started.worker.blocked  # and in the processes that it starts


def test_sigterm_stops_the_worker_which_then_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "SECONDS_TO_BE_KILLED", 0.3)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        called = SlurmWorker(Waiting(worker().plan, "launch/3", waits=False))
        called()
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert called.worker.is_stopping
