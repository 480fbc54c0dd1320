"""A worker: trains the jobs of a suite that nobody else trains, one after another, until none is left.

Workers agree by the claims on the jobs alone (`zoo.runs.claims`). So it does not matter who starts them, where, how
many, or how often; a launcher only has to start some.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from zoo.errors import DONE, INTERRUPTED, TRACEBACK_HINT, UsageError
from zoo.messages import log
from zoo.runs.claims import Claim
from zoo.suites.jobs import Job, Machine, State, make_jobs
from zoo.suites.suite import Run, Suite

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_BETWEEN_ROUNDS = 5.0
SECONDS_UNTIL_RECORDED = 10.0


@dataclass(frozen=True)
class Plan:
    """What the workers of one start of the benchmark program have to do.

    :param runs: those of the suite that are wanted.
    :param launch: identifies the start; how often a job may fail is counted from there.
    :param retries: how often a job is tried again after it has failed.
    """

    suite: Suite
    runs: Sequence[Run]
    machine: Machine
    launch: str
    retries: int = 2

    def jobs(self) -> list[Job]:
        """Return the jobs of the runs."""
        return make_jobs(self.suite, self.runs, self.machine)

    def other_jobs(self) -> list[Job]:
        """Return the jobs of the suite's runs that are not wanted, without those that cannot be trained here."""
        wanted, jobs = set(map(str, self.runs)), []  # there may be thousands
        for run in self.suite.runs():
            if str(run) not in wanted:
                with suppress(UsageError):  # it says so once it is wanted
                    jobs += make_jobs(self.suite, [run], self.machine)
        return jobs


@dataclass
class Worker:
    """Trains jobs of a plan, each in a process of its own.

    It can be pickled, sent to another machine and called there. If it is called again after its process has died, it
    takes over at once what it was training.

    :param owner: a name that no other worker has, nor any of another start.
    :param waits: whether to wait for jobs that others train, in case they fail.
    :param variables: environment variables of the training processes.
    :param cores: processor cores of the training processes; empty: all.
    """

    plan: Plan
    owner: str
    waits: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)
    cores: Sequence[int] = ()

    def __post_init__(self) -> None:
        self._stopping = False
        self._earlier: dict[str, int | None] = {}
        """Claims of an earlier life. Later ones of the same owner are not taken over at once: an earlier life that
        still runs, since only Slurm or Ray believe it dead, would take them from its successor too."""

    def __call__(self) -> None:
        """Train until nothing is left to do, or :meth:`stop` is called."""
        left = self.plan.jobs()
        self._earlier = {job.name: job.claims.held_by(self.owner) for job in left}
        while left and not self._stopping:
            begin = time.monotonic()
            left = [job for job in left if not self._attempt(job)]
            if left and not self.waits:
                return
            if left and all(job.claims.holder() is not None for job in left):
                self._pause(max(SECONDS_BETWEEN_ROUNDS, time.monotonic() - begin))  # half of the time on the storage

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to end."""
        return self._stopping

    def stop(self) -> None:
        """Ask for the end: what is being trained writes a checkpoint first. Returns at once."""
        self._stopping = True

    def _attempt(self, job: Job) -> bool:
        """Train a job if it needs it and is free; return whether it needs nothing more."""
        while not self._stopping:
            if job.has_failed(self.plan.launch, self.plan.retries) or job.state().is_final:
                return True
            claim = job.claims.take(self.owner, self._earlier[job.name])
            if claim is None:
                return False
            self._train(job, claim)
        return False

    def _train(self, job: Job, claim: Claim) -> None:
        """Train a job under a claim, and record how that ended."""
        begin = time.monotonic()
        log_file = claim.folder.with_name(f"{claim.number}.log")
        command = [sys.executable, str(TRAIN), *job.words, "--claim", str(claim.folder)]
        with (
            log_file.open("w", encoding="utf-8") as errors,
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **self.variables},
                start_new_session=True,  # Ctrl-C is for the worker, which asks once
            ) as child,
        ):
            if self.cores:
                os.sched_setaffinity(child.pid, self.cores)
            self._watch(child, claim)
            output = child.stdout.read() if child.stdout else ""
        code = child.returncode
        outcome, reason = self._outcome(job, code, log_file)
        more = {"exit_code": code, "seconds": time.monotonic() - begin, "launch": self.plan.launch, "reason": reason}
        result = _last_line(output)
        if claim.release(outcome, **more, result=json.loads(result) if code == DONE else None):
            told = f": {reason}" if reason else ""
            log.info("%s: %s after %.0f s%s", outcome, job.run, more["seconds"], told)
        else:
            log.warning("lost the claim on %s: another worker has taken over", job.run)
            self._stopping |= self._is_superseded(job, claim)

    def _watch(self, child: subprocess.Popen[str], claim: Claim) -> None:
        """Wait for the end of a training process; end it if its claim is lost."""
        while child.poll() is None:
            if self._stopping:
                child.terminate()
                child.wait()
            elif claim.is_lost:
                child.kill()
            else:
                time.sleep(SECONDS_BETWEEN_LOOKS)

    def _outcome(self, job: Job, code: int, log_file: Path) -> tuple[str, str]:
        """Return how a training process has ended, and why if it was not as wanted."""
        if code == DONE:
            return State.DONE, ""
        if code == INTERRUPTED or (self._stopping and code == -signal.SIGTERM):
            return State.INTERRUPTED, "stopped by a signal"
        reason = _last_line(log_file.read_text(encoding="utf-8", errors="replace")).removesuffix(TRACEBACK_HINT)
        if code < 0:
            reason = f"killed by signal {-code}" + (f" after: {reason}" if reason else "")
        state = job.state()
        return (state if state is State.DIVERGED else State.FAILED), reason

    def _is_superseded(self, job: Job, claim: Claim) -> bool:
        """Return whether a later life of this worker has taken its job over, after others gave it up for dead."""
        end = time.monotonic() + SECONDS_UNTIL_RECORDED
        while time.monotonic() < end:  # who takes over fences this worker off first, and records it then
            ended = {each["number"]: each for each in job.claims.ended()}
            if claim.number in ended:
                return ended[claim.number].get("taken_over_by") == self.owner
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return False

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < end:
            time.sleep(SECONDS_BETWEEN_LOOKS)


class WorkerThread(threading.Thread):
    """Runs a worker beside others in one process, and keeps what it raised."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(name=worker.owner, daemon=True)
        self.worker = worker
        self.error: BaseException | None = None

    def run(self) -> None:
        """Run the worker."""
        try:
            self.worker()
        except BaseException as error:  # the launcher raises it in its own thread
            self.error = error


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
