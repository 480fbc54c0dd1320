"""The state of a suite's jobs: run folders, locks, attempts and saved scores, and the one place that judges by them."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from agents.common.files import write_text
from zoo.processes.locks import Lock
from zoo.runs.resume import StoredRun, closest_run, stored_runs
from zoo.suites.jobs import NOT_COMPARED, Job
from zoo.terminal.errors import UsageError

JOBS = ".jobs"
"""Folder, in a log folder, of the messages of training processes, and of how they ended."""


class State(StrEnum):
    """What has become of a job."""

    FINISHED = "done"
    SAVED = "kept"
    """Its run folders are not here, but its scores are saved."""
    DIVERGED = "diverged"
    """Every replica has diverged: a result too, and the same again with the same seeds."""
    FAILED = "failed"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    WAITING = "waiting"

    @property
    def is_final(self) -> bool:
        """Whether there is nothing left to train."""
        return self in (State.FINISHED, State.SAVED, State.DIVERGED)


PROBLEMS = (State.FAILED, State.DIVERGED)


@dataclass(frozen=True)
class Attempt:
    """How the last attempt at a job ended.

    :param seconds: of all attempts together, as far as they have ended.
    """

    outcome: str = ""
    reason: str = ""
    exit_code: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class JobStatus:
    """A job, and what is known of it.

    :param run: its run folders; None if it has not started.
    :param seconds: of its training processes, all attempts together.
    :param reason: why it failed last, or is due although it was trained.
    """

    job: Job
    state: State
    run: StoredRun | None = None
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class JobStore:
    """What the files of a suite say of its jobs. It can be pickled and used on another machine.

    :param log_folder: of the run folders.
    :param saved: names of jobs whose scores are saved, which need no run folders.
    """

    log_folder: Path
    saved: frozenset[str] = field(default=frozenset(), repr=False)

    def log(self, job: Job) -> Path:
        """Return the file of what a job's training processes have said."""
        return self.log_folder / JOBS / f"{job.name}.log"

    def lock(self, job: Job) -> Lock:
        """Return the lock of the task that trains a job."""
        return Lock(self.log_folder / JOBS / f"{job.name}.lock")

    def attempt(self, job: Job) -> Attempt:
        """Return how a job's last attempt ended; raise UsageError if its file is damaged."""
        file = self._attempt_file(job)
        try:
            return Attempt(**json.loads(file.read_bytes()))
        except FileNotFoundError:
            return Attempt()
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"{file} is damaged ({error}); remove it, and its attempts do not count"
            ) from error

    def write_attempt(self, job: Job, attempt: Attempt) -> None:
        """Record how a job's last attempt ended."""
        write_text(self._attempt_file(job), json.dumps(asdict(attempt)) + "\n")

    def status(self, job: Job) -> JobStatus:
        """Return what has become of a job, with its run folders and the reason of a failure."""
        runs = self._runs(job)
        run = _newest_run(job, runs)
        # Read even where run folders decide: it has the time that the job took.
        attempt = self.attempt(job)
        state = self._judge(job, run, attempt)
        reason = ""
        if state in PROBLEMS:
            reason = attempt.reason
        elif state is State.WAITING:
            reason = _closest_run(job, runs)
        return JobStatus(job, state, run, attempt.seconds, reason)

    def statuses(self, jobs: Iterable[Job]) -> list[JobStatus]:
        """Return the status of each job."""
        return list(map(self.status, jobs))

    def closest_run(self, job: Job) -> str:
        """Return which run of a job's seeds and label is most like it, and how that differs; empty if there is none."""
        return _closest_run(job, self._runs(job))

    def _judge(self, job: Job, run: StoredRun | None, attempt: Attempt) -> State:
        # What was trained counts first: it stays so whoever holds a lock and however an earlier attempt ended.
        if run is not None and run.is_done:
            return State.FINISHED
        if run is not None and _has_diverged(run):
            return State.DIVERGED
        if job.name in self.saved:
            return State.SAVED
        # Before the last attempt, which another task may be trying again.
        if self.lock(job).is_held():
            return State.RUNNING
        if attempt.outcome == State.FAILED:
            return State.FAILED
        if run is None:
            return State.WAITING
        return State.INTERRUPTED

    def _attempt_file(self, job: Job) -> Path:
        return self.log_folder / JOBS / f"{job.name}.json"

    def _runs(self, job: Job) -> list[StoredRun]:
        """Return the runs of a job's algorithm, environment and seeds, newest first."""
        runs, _ = stored_runs(self.log_folder, job.algo, job.run.env)
        return [run for run in runs if tuple(run.seeds) == job.run.seeds]


def _newest_run(job: Job, runs: list[StoredRun]) -> StoredRun | None:
    """Return the newest run with a job's settings, one that has reached its end if possible."""
    settings = job.settings
    # Without --resume, a user may have trained the same settings and seeds twice; a finished one needs no other.
    same = [run for run in runs if run.record.identity(*NOT_COMPARED) == settings]
    return min(same, key=lambda run: not (run.is_done or _has_diverged(run)), default=None)


def _closest_run(job: Job, runs: list[StoredRun]) -> str:
    runs = [run for run in runs if run.record.label == job.config.label]
    if not runs:
        return ""
    return closest_run(job.settings, None, runs, *NOT_COMPARED)


def _has_diverged(run: StoredRun) -> bool:
    """Return whether every replica of a run has diverged."""
    # Any other failure, such as a full disk, may be the machine's: the job is tried again.
    return all(
        status["state"] == "failed"
        and str(status.get("reason", "")).startswith("training diverged")
        for status in run.statuses
    )
