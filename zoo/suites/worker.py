"""Workers: each trains the jobs of a suite that nobody else trains, one after another, until none is left.

Workers agree by the claims on the jobs alone (`zoo.runs.claims`). So it does not matter who starts them, where, how
many, or how often; a launcher only has to start some.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch

from zoo.errors import INTERRUPTED, TRACEBACK_HINT, Interrupted, UsageError
from zoo.runs.claims import Claim
from zoo.suites.jobs import Job, Machine, State, make_jobs
from zoo.suites.suite import Run, Suite
from zoo.terminal.messages import log, say_once
from zoo.training.callbacks import StopSignal

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "zoo" / "train.py"
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_BETWEEN_ROUNDS = 5.0
STOP_SECONDS = 120.0
"""How long a training process has for its checkpoint after it was asked to stop."""
LEFTOVER_SECONDS = 2.0
"""How long what a training process has started may take to end after it."""
_END_OF_LOG = 1 << 16


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
    is_stopping: bool = field(default=False, init=False)
    """Whether it was asked to end."""

    def __call__(self) -> None:
        """Train until nothing is left to do, or :meth:`stop` is called."""
        left = self.plan.jobs()
        for job in left:
            job.claims.end_earlier(self.owner)
        while left and not self.is_stopping:
            begin = time.monotonic()
            left = [job for job in left if not self._attempt(job)]
            if left and not self.waits:
                return
            holders = [holder for job in left if (holder := job.claims.holder()) is not None]
            if left and len(holders) == len(left):
                self._tell_of_others(holders)
                self._pause(max(SECONDS_BETWEEN_ROUNDS, time.monotonic() - begin))  # half of the time on the storage

    def stop(self) -> None:
        """Ask for the end: what is being trained writes a checkpoint first. Returns at once."""
        self.is_stopping = True

    def _attempt(self, job: Job) -> bool:
        """Train a job if it needs it and is free; return whether it needs nothing more."""
        while not self.is_stopping:
            if job.has_failed(self.plan.launch, self.plan.retries) or job.state().is_final:
                return True
            claim = job.claims.take(self.owner)
            if claim is None:
                return False
            self._train(job, claim)
        return False

    def _train(self, job: Job, claim: Claim) -> None:
        """Train a job under a claim, and record how that ended."""
        begin = time.monotonic()
        log_file, output_file = (claim.job / f"{claim.folder.name}.{kind}" for kind in ("log", "out"))
        command = [sys.executable, str(TRAIN), *job.words, "--claim", str(claim.folder)]
        with (
            log_file.open("a+b") as errors,
            output_file.open("wb") as output,  # a pipe would be full, or kept open by what the process leaves behind
            subprocess.Popen(
                command,
                stdout=output,
                stderr=errors,
                env={**os.environ, **self.variables},
                start_new_session=True,  # Ctrl-C is for the worker, which asks once
                pass_fds=[] if claim.lock is None else [claim.lock],
            ) as child,
        ):
            if self.cores:
                os.sched_setaffinity(child.pid, self.cores)
            self._watch(child, claim)
            told = _last_line(errors)
        outcome, reason = self._outcome(job, child.returncode, told)
        seconds = time.monotonic() - begin
        more = {"exit_code": child.returncode, "seconds": seconds, "launch": self.plan.launch, "reason": reason}
        if claim.release(outcome, **more):
            told = f": {reason}" * bool(reason) + f"; see {log_file}" * (outcome == State.FAILED)
            log.info("%s: %s after %.0f s%s", outcome, job.run, seconds, told)
        else:
            log.warning("lost the claim on %s: another worker has taken over, or %s was removed", job.run, claim.job)
            self.is_stopping |= not self.waits  # it was taken for dead, and the launcher starts others in its place

    def _watch(self, child: subprocess.Popen[bytes], claim: Claim) -> None:
        """Wait for the end of a training process and of what it has started; end it if its claim is lost."""
        while child.poll() is None:
            if claim.is_lost:
                child.kill()
            elif self.is_stopping:
                child.terminate()
                with suppress(subprocess.TimeoutExpired):
                    child.wait(STOP_SECONDS)
                    break
                log.warning("process %d has not stopped within %.0f s; it is killed", child.pid, STOP_SECONDS)
                child.kill()
                child.wait()
            time.sleep(SECONDS_BETWEEN_LOOKS)
        _end_group(child.pid)

    def _outcome(self, job: Job, code: int, told: str) -> tuple[str, str]:
        """Return how a training process has ended, and why if it was not as wanted.

        :param told: its last message.
        """
        state = job.state()
        if state is State.DONE:
            return state, ""
        if code == INTERRUPTED or (self.is_stopping and code in (-signal.SIGTERM, -signal.SIGKILL)):
            return State.INTERRUPTED, "stopped by a signal"
        reason = told.removesuffix(TRACEBACK_HINT)
        if code <= 0:
            how = f"killed by signal {-code}" if code else "ended with exit code 0 before the run was done"
            reason = how + (f" after: {reason}" if reason else "")
        return (state if state is State.DIVERGED else State.FAILED), reason

    def _tell_of_others(self, holders: Sequence[Mapping[str, Any]]) -> None:
        """Say what is waited for that this start of the program has not begun."""
        others = [each for each in holders if not str(each.get("owner")).startswith(f"{self.plan.launch}/")]
        if others:
            hosts = ", ".join(sorted({str(each.get("host")) for each in others}))
            say_once(
                f"waiting for jobs that other programs train, on {hosts}; they are continued here after "
                f"{self.plan.machine.stale_after:.0f} s without a sign of life"
            )

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.is_stopping and time.monotonic() < end:
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _end_group(group: int) -> None:
    """Wait a moment for the end of all processes of a group, then kill what is left, e.g. a simulator's server."""
    end = time.monotonic() + LEFTOVER_SECONDS
    with suppress(ProcessLookupError, PermissionError):  # macOS does not permit it for those that have ended
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os.killpg(group, signal.SIGKILL)


def _last_line(file: BinaryIO) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _END_OF_LOG))
    lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


# -- on this machine, several at once ------------------------------------------------------------------------------


def run_locally(plan: Plan, workers: int | None, device: str) -> None:
    """Train a plan's jobs on this machine.

    :param workers: how many at once; None: one per GPU, without one a worker per core.
    :param device: as for the training program.
    :raises Interrupted: when a signal asked for the end; every run has written a checkpoint then.
    """
    gpus = [] if device == "cpu" else _gpus()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    count = min(workers or len(gpus) or len(cores) or 1, len(plan.runs))
    made = [_make_local_worker(plan, number, count, cores, gpus) for number in range(count)]

    told = "stopping; every run writes a checkpoint first"
    with StopSignal(told) as stop, ThreadPoolExecutor(max(1, count)) as pool:
        ended = [pool.submit(worker) for worker in made]
        while wait(ended, SECONDS_BETWEEN_LOOKS).not_done:
            for worker in made if stop.requested else ():
                worker.stop()
    for future in ended:
        future.result()
    if stop.requested:
        raise Interrupted("stopped by a signal; start the same command again to continue")


def _make_local_worker(plan: Plan, number: int, count: int, cores: list[int], gpus: list[str]) -> Worker:
    """Return a worker with its share of the machine: whole cores, and a GPU if there is one."""
    own = cores[number * len(cores) // count : (number + 1) * len(cores) // count]
    if not own and cores:  # more workers than cores
        own = [cores[number % len(cores)]]
    variables = {"OMP_NUM_THREADS": str(len(own))} if own else {}
    if gpus:
        variables["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return Worker(plan, f"{plan.launch}/{number}", variables=variables, cores=own)


def _gpus() -> list[str]:
    """Return the names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` takes them."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return visible[: torch.cuda.device_count()] or [str(number) for number in range(torch.cuda.device_count())]


# -- on a cluster: as many as there is work for, lost ones replaced ----------------------------------------------------


MOST_WORKERS = 100
"""Workers at once where the user has not said how many."""
MOST_REPLACEMENTS = 5
"""How often each worker, on average, is replaced without any job coming to its end meanwhile."""
SECONDS_BETWEEN_CHECKS = 10.0
SHARE_OF_LOOKING = 0.1
"""How much of its time the driver may spend on reading run folders: of a large suite on slow storage, a long time."""


def python_path() -> list[str]:
    """Return where Python looks for modules here, apart from the current folder and its own libraries."""
    return [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


class Fleet(Protocol):
    """What starts workers on a cluster, and knows how many of them have not ended."""

    def start(self, workers: Sequence[Worker]) -> None:
        """Start workers, or ask the cluster to start them; return at once."""
        ...

    def living(self) -> int:
        """Return how many of the workers run, or wait for a place to run.

        :raises Interrupted: if somebody has stopped them.
        """
        ...


def drive(plan: Plan, fleet: Fleet, workers: int | None, pause: Callable[[float], None] = time.sleep) -> None:
    """Keep workers on a cluster until every job of a plan has ended, and say how far they are.

    It starts only as many as there are jobs that nobody trains, and another one when a job is free again because its
    worker is lost. What others train, it waits for.

    :param workers: how many at once; None: one per job, at most :data:`MOST_WORKERS`.
    """
    left, told, started, in_vain = plan.jobs(), "", 0, 0
    total = len(left)
    most = workers or min(MOST_WORKERS, total)
    while True:
        begin = time.monotonic()
        living = fleet.living()  # before the jobs: what a worker did that has ended by now is seen below
        states = [(job, job.state()) for job in left]
        running = [job for job, state in states if state is State.RUNNING]
        free = [
            (job, state)
            for job, state in states
            if not (state is State.RUNNING or state.is_final or job.has_failed(plan.launch, plan.retries))
        ]
        in_vain = 0 if len(running) + len(free) < len(left) else in_vain
        left = [*running, *(job for job, _ in free)]
        counts = Counter([State.RUNNING] * len(running) + [state for _, state in free])
        text = ", ".join([f"{total - len(left)} of {total} jobs have ended", *(f"{counts[s]} {s}" for s in counts)])
        if text != told:
            log.info("%s; workers: %d", text, living)
            told = text
        owners = [str((job.claims.holder() or {}).get("owner")) for job in running]
        idle = max(0, living - sum(owner.startswith(f"{plan.launch}/") for owner in owners))
        missing = min(len(free) - idle, most - living)
        if missing > 0 and in_vain >= (1 + MOST_REPLACEMENTS) * most:
            raise RuntimeError(
                f"{len(left)} jobs are left, but {in_vain} workers have ended since one was finished; the messages "
                "above, and the cluster's logs of the workers, say why"
            )
        if missing > 0:
            names = [f"{plan.launch}/{number}" for number in range(started, started + missing)]
            fleet.start([Worker(plan, name, waits=False) for name in names])
            started, in_vain = started + missing, in_vain + missing
        if not left:
            return
        pause(max(SECONDS_BETWEEN_CHECKS, (time.monotonic() - begin) / SHARE_OF_LOOKING))
