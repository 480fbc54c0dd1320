"""Workers on a cluster: how many are started, when one is replaced, and when that is given up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from zoo.runs.claims import Claim, Claims
from zoo.suites.jobs import State
from zoo.suites.launchers import fleet
from zoo.suites.launchers.fleet import Driver
from zoo.suites.worker import Plan, Worker


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


def make_driver(jobs: list[FakeJob], workers: int | None, monkeypatch: pytest.MonkeyPatch) -> tuple[Driver, FakeFleet]:
    plan: Any = Plan(None, jobs, None, "launch")  # type: ignore[arg-type]
    monkeypatch.setattr(Plan, "jobs", lambda self: list(self.runs))
    workers_there = FakeFleet()
    return Driver(plan, workers_there, workers), workers_there


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
        driver.run(pause)


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

    driver.run(finish)
    assert len(there.owners) == 4


def test_workers_that_end_without_finishing_anything_are_given_up(
    jobs: list[FakeJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, there = make_driver(jobs, 2, monkeypatch)

    def end_all(seconds: float) -> None:
        there.ended = len(there.owners)

    with pytest.raises(RuntimeError, match="4 jobs are left"):
        driver.run(end_all)
    assert len(there.owners) == 2 * (1 + fleet.MOST_REPLACEMENTS)
