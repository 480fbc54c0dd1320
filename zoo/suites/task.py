"""What trains one job, on this machine or another: starts of the training program until it has reached its end."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import torch

from agents.common.files import write_text
from zoo.processes.locks import Lock
from zoo.suites.jobs import Job, State
from zoo.terminal.errors import BAD_INPUT, INTERRUPTED, TRACEBACK_HINT, Interrupted
from zoo.terminal.messages import log
from zoo.training.callbacks import StopSignal

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "zoo" / "train.py"
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_BETWEEN_ROUNDS = 5.0
STOP_SECONDS = 120.0
"""How long a training process has for its checkpoint after it was asked to stop."""


@dataclass
class JobTask:
    """Trains a job to its end, each attempt in a process of its own. It can be pickled and called on another machine.

    :param retries: how often the job is tried again after it has failed.
    :param variables: environment variables of the training processes.
    :param cores: processor cores of the training processes; empty: all.
    """

    job: Job
    retries: int
    variables: Mapping[str, str] = field(default_factory=dict)
    cores: Sequence[int] = ()
    is_stopping: bool = field(default=False, init=False)
    """Whether it was asked to end."""

    def __call__(self) -> None:
        """Train until the job has ended, has failed too often or for good, or :meth:`stop` is called."""
        lock = self.job.lock
        lock.path.parent.mkdir(parents=True, exist_ok=True)
        if not lock.take():
            log.info("waiting for %s, or what it has started, which trains %s", lock.describe_holder(), self.job.run)
            while not lock.take():
                if self.is_stopping:
                    return
                time.sleep(SECONDS_BETWEEN_ROUNDS)
        with lock:
            for _ in range(1 + self.retries):
                if self.is_stopping or self.job.state_of(self.job.find()).is_final:
                    return
                outcome, code = self._train(lock)
                if outcome is not State.FAILED or code == BAD_INPUT:
                    return

    def stop(self) -> None:
        """Ask for the end: what is being trained writes a checkpoint first. Returns at once."""
        self.is_stopping = True

    def _train(self, lock: Lock) -> tuple[State, int]:
        """Train once, record how that ended, and return it with the exit code.

        :param lock: of the job, which the training process has too, in case that this one is killed.
        """
        begin = time.monotonic()
        before = self.job.ended()
        with self.job.log.open("a+b") as file:
            start = file.seek(0, os.SEEK_END)
            child = subprocess.Popen(
                [sys.executable, str(TRAIN), *self.job.words],
                stdout=subprocess.DEVNULL,
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
                if child.poll() is None:  # unwatched, it would train beside the next attempt
                    child.kill()
                    child.wait()
            file.seek(start)
            told = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        outcome, reason = self._outcome(child.returncode, told[-1].strip() if told else "")
        seconds = time.monotonic() - begin
        record = {"outcome": outcome, "reason": reason, "exit_code": child.returncode}
        record["seconds"] = before.get("seconds", 0.0) + seconds
        write_text(self.job.record, json.dumps(record) + "\n")
        log.info("%s: %s after %.0f s %s; see %s", outcome, self.job.run, seconds, reason, self.job.log)
        return outcome, child.returncode

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        """Wait for the end of a training process, which gets time for its checkpoint when the task is to stop."""
        while child.poll() is None:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            if self.is_stopping:
                child.terminate()
                try:
                    child.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    log.warning("process %d has not stopped within %.0f s; it is killed", child.pid, STOP_SECONDS)
                    child.kill()
                    child.wait()

    def _outcome(self, code: int, told: str) -> tuple[State, str]:
        """Return how a training process has ended, and why if it was not as wanted.

        :param told: its last message.
        """
        state = self.job.state_of(self.job.find())
        if state is State.DONE:
            return state, ""
        if code == INTERRUPTED or (self.is_stopping and code in (-signal.SIGTERM, -signal.SIGKILL)):
            return State.INTERRUPTED, "stopped by a signal"
        reason = told.removesuffix(TRACEBACK_HINT)
        if code <= 0:
            how = f"killed by signal {-code}" if code else "ended with exit code 0 before the run was done"
            reason = f"{how} after: {reason}" if reason else how
        return (state if state is State.DIVERGED else State.FAILED), reason


# -- on this machine, several at once ------------------------------------------------------------------------------


Share = tuple[list[int], dict[str, str]]
"""Cores of a worker, and environment variables of what it starts."""
HasEnded = Callable[[float], bool]
"""Waits for some seconds; returns whether all tasks have ended."""


def run_locally(tasks: Sequence[JobTask], workers: int | None, device: str, follow: Callable[[HasEnded], None]) -> None:
    """Run tasks on this machine.

    :param workers: how many at once; None: one per GPU, without one a worker per core.
    :param device: as for the training program.
    :param follow: tells how far the jobs are, until all tasks have ended.
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

    stop_signal = StopSignal("stopping; every run writes a checkpoint first")
    with stop_signal.heard() as stop, ThreadPoolExecutor(shares.qsize()) as pool, _stopped_by_error(tasks):
        running = [pool.submit(run, task) for task in tasks]

        def has_ended(seconds: float) -> bool:
            end = time.monotonic() + seconds
            while wait(running, SECONDS_BETWEEN_LOOKS).not_done:
                for task in tasks if stop.requested else ():
                    task.stop()
                if time.monotonic() > end:
                    return False
            return True

        follow(has_ended)
    for future in running:
        future.result()
    if stop.requested:
        raise Interrupted("stopped by a signal; start the same command again to continue")


@contextlib.contextmanager
def _stopped_by_error(tasks: Sequence[JobTask]) -> Iterator[None]:
    """Stop tasks if the block raises: their pool waits for all of them, and nobody would pass on a signal meanwhile."""
    try:
        yield
    except BaseException:
        for task in tasks:
            task.stop()
        raise


def _share_machine(workers: int | None, tasks: int, device: str) -> list[Share]:
    """Return each worker's share of the machine: whole cores, and environment variables that name them and a GPU.

    :param workers: how many; None: one per GPU, without one a worker per core. There are never more than tasks.
    """
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    present = 0 if device == "cpu" else torch.cuda.device_count()
    gpus = [name for name in names if name][:present] or [str(number) for number in range(present)]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    count = min(workers or len(gpus) or len(cores) or 1, tasks)
    shares = []
    for number in range(count):
        core_share = cores[number * len(cores) // count : (number + 1) * len(cores) // count]
        if cores and not core_share:  # more workers than cores
            core_share = [cores[number % len(cores)]]
        variables = {}
        if core_share:
            variables["OMP_NUM_THREADS"] = str(len(core_share))
        if gpus:
            variables["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        shares.append((core_share, variables))
    return shares


def python_path() -> str:
    """Return where Python looks for modules here, apart from the current folder and its own libraries."""
    return os.pathsep.join([str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
