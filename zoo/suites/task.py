"""What trains one job, on this machine or another: starts of the training program until it has reached its end."""

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import torch

from zoo.processes.locks import Lock
from zoo.suites.jobs import Attempt, Job, JobStore, State
from zoo.terminal.errors import (
    BAD_INPUT,
    INTERRUPTED,
    TRACEBACK_HINT,
    Interrupted,
    handling_signals,
)
from zoo.terminal.messages import log
from zoo.training.callbacks import StopSignal

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "zoo" / "train.py"
POLL_SECONDS = 0.2
LOCK_POLL_SECONDS = 5.0
STOP_SECONDS = 120.0
"""How long a training process has for its checkpoint after it was asked to stop."""


@dataclass
class JobTask:
    """Trains a job to its end, each attempt in a process of its own. It can be pickled and called on another machine.

    :param store: of the suite's jobs.
    :param retries: how often the job is tried again after it has failed.
    :param variables: environment variables of the training processes.
    :param cores: processor cores of the training processes; empty: all.
    """

    job: Job
    store: JobStore
    retries: int
    variables: Mapping[str, str] = field(default_factory=dict)
    cores: Sequence[int] = ()
    is_stopping: bool = field(default=False, init=False)
    """Whether it was asked to end."""

    def __call__(self) -> None:
        """Train until the job has ended, has failed too often or for good, or :meth:`stop` is called."""
        lock = self.store.lock(self.job)
        if not lock.take():
            log.info(
                "%s is already being trained by %s; waiting", self.job.run, lock.describe_holder()
            )
            while not lock.take():
                if self.is_stopping:
                    return
                time.sleep(LOCK_POLL_SECONDS)
        with lock:
            # Judged anew before each attempt: whoever had the lock before may have ended the job.
            for _ in range(1 + self.retries):
                if self.is_stopping or self.store.status(self.job).state.is_final:
                    return
                attempt = self._train(lock)
                if attempt.outcome != State.FAILED or attempt.exit_code == BAD_INPUT:
                    return

    def stop(self) -> None:
        """Ask for the end: what is being trained writes a checkpoint first. Returns at once."""
        self.is_stopping = True

    def _train(self, lock: Lock) -> Attempt:
        """Train once; record and return how that ended.

        :param lock: of the job, which the training process has too, in case that this one is killed.
        """
        begin = time.monotonic()
        log_file = self.store.log(self.job)
        with log_file.open("a+b") as file:
            start = file.seek(0, os.SEEK_END)
            child = subprocess.Popen(
                [sys.executable, str(TRAIN), *self.job.words],
                stdout=subprocess.DEVNULL,  # the result, which the run folders have too
                stderr=file,
                env={**os.environ, **self.variables},
                pass_fds=lock.descriptors,
                start_new_session=True,  # Ctrl-C is for the program that started this, which asks once
            )
            try:
                if self.cores:
                    os.sched_setaffinity(child.pid, self.cores)
                self._watch(child)
            finally:
                child.kill()  # unwatched, it would train beside the next attempt
                child.wait()
            file.seek(start)
            lines = file.read().decode(errors="replace").rstrip().splitlines() or [""]
        outcome, reason = self._outcome(child.returncode, lines[-1].strip())
        seconds = time.monotonic() - begin
        # Of all attempts, since a job that was interrupted costs what they took together.
        total = self.store.attempt(self.job).seconds + seconds
        attempt = Attempt(outcome, reason, child.returncode, total)
        self.store.write_attempt(self.job, attempt)
        log.info("%s: %s after %.0f s %s; see %s", outcome, self.job.run, seconds, reason, log_file)
        return attempt

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        """Wait for the end of a training process, or until it has had its time for a checkpoint after a stop."""
        while child.poll() is None:
            time.sleep(POLL_SECONDS)
            if self.is_stopping:
                child.terminate()
                try:
                    child.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    message = "process %d has not stopped within %.0f s; it is killed"
                    log.warning(message, child.pid, STOP_SECONDS)
                    return

    def _outcome(self, code: int, message: str) -> tuple[State, str]:
        """Return how a training process has ended, and why if the job is not done.

        :param message: the last one of the process.
        """
        status = self.store.status(self.job)
        if status.state is State.FINISHED:
            return State.FINISHED, ""
        if code == INTERRUPTED or (self.is_stopping and code in (-signal.SIGTERM, -signal.SIGKILL)):
            return State.INTERRUPTED, "stopped by a signal"
        message = message.removesuffix(TRACEBACK_HINT)
        ending = ""
        if code < 0:
            ending = f"killed by signal {-code}"
        elif code == 0 and status.run is not None:
            ending = "ended with exit code 0 before the run was done"
        elif code == 0:
            # Settings files may have changed since the suite was read: the process has trained another run then.
            closest = self.store.closest_run(self.job) or "there is no run folder"
            ending = f"ended with exit code 0, but {closest}; start the suite again, which reads its settings anew"
            message = ""
        reason = " after: ".join(filter(None, (ending, message)))
        if status.state is State.DIVERGED:
            return State.DIVERGED, reason
        return State.FAILED, reason


# -- on this machine, several at once ------------------------------------------------------------------------------


Share = tuple[list[int], dict[str, str]]
"""Cores of a worker, and environment variables of what it starts."""


def run_locally(
    tasks: Sequence[JobTask], workers: int | None, device: str, report: Callable[[], object]
) -> None:
    """Run tasks on this machine.

    :param workers: how many at once; None: one per GPU, without one a worker per core.
    :param device: as for the training program.
    :param report: says how far the jobs are, now and then.
    :raises Interrupted: when a signal asked for the end; every run has written a checkpoint then.
    """
    shares: queue.SimpleQueue[Share] = queue.SimpleQueue()
    for share in _share_machine(workers, len(tasks), device):
        shares.put(share)

    def run(task: JobTask) -> None:
        share = shares.get()
        task.cores, task.variables = share
        try:
            task()
        finally:  # a task that raises must not keep its share: the next one waits for it
            shares.put(share)

    stop = StopSignal("stopping; every run writes a checkpoint first")
    with handling_signals(stop.handle), ThreadPoolExecutor(shares.qsize()) as pool:
        running = [pool.submit(run, task) for task in tasks]
        try:
            while wait(running, POLL_SECONDS).not_done:
                if stop.requested:
                    _stop(tasks)
                report()
        except BaseException:
            # the pool waits for all tasks, and nobody would pass on a signal meanwhile
            _stop(tasks)
            raise
    for future in running:
        future.result()
    if stop.requested:
        raise Interrupted("stopped by a signal; start the same command again to continue")


def _stop(tasks: Sequence[JobTask]) -> None:
    for task in tasks:
        task.stop()


def _share_machine(workers: int | None, tasks: int, device: str) -> list[Share]:
    """Return each worker's share of the machine: whole cores, and environment variables that name them and a GPU.

    :param workers: how many; None: one per GPU, without one a worker per core. There are never more than tasks.
    """
    gpus: list[str] = []
    if device != "cpu":
        gpus = list(map(str, range(torch.cuda.device_count())))
        names = os.environ.get("CUDA_VISIBLE_DEVICES", "").replace(" ", "").split(",")
        gpus = list(filter(None, names))[: len(gpus)] or gpus
    cores: list[int] = []
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
    # Jobs need nothing of each other, so one for each device keeps all devices busy.
    count = min(workers or len(gpus) or len(cores) or 1, tasks)
    shares = []
    for number in range(count):
        core_share = cores[number * len(cores) // count : (number + 1) * len(cores) // count]
        if cores and not core_share:  # more workers than cores
            core_share = [cores[number % len(cores)]]
        # Numerical libraries would start a thread for each core of the machine, whatever their process may use.
        variables = {}
        if core_share:
            variables["OMP_NUM_THREADS"] = str(len(core_share))
        if gpus:
            variables["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        shares.append((core_share, variables))
    return shares


def python_path() -> str:
    """Return where Python looks for modules here, apart from the current folder and its own libraries."""
    return os.pathsep.join(
        [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    )
