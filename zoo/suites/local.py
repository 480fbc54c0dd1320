"""Run jobs on this machine, several in parallel."""

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from zoo.evaluation.workers import available_cores
from zoo.runs.locks import Lock
from zoo.suites.jobs import Job, stopping_jobs, warn_of_failure
from zoo.terminal.messages import log, say_once

POLL_SECONDS = 0.2
STOP_SECONDS = 120.0
"""Seconds after which a training process that was asked to stop, and writes its checkpoint, is killed."""


@dataclass(frozen=True)
class Worker:
    """A share of the machine: processor cores, and environment variables for the number of threads and the GPU."""

    cores: Sequence[int]
    variables: dict[str, str]


@dataclass
class Training:
    """A running job, with its lock, worker and process."""

    job: Job
    lock: Lock
    worker: Worker
    process: subprocess.Popen[bytes]

    def report(self) -> None:
        """Log the end of the process."""
        if self.process.returncode == 0:
            log.info("done: %s", self.job.run)
            return
        reason = self.job.last_message() or "no message"
        if self.process.returncode < 0:
            reason = f"killed by signal {-self.process.returncode} after: {reason}"
        warn_of_failure(self.job, reason)


def run_locally(jobs: Sequence[Job], workers: int | None, device: str) -> None:
    """Run jobs on this machine, and wait until they end.

    :param workers: number of parallel jobs; None: one per GPU or, without GPUs, one per core.
    :param device: ``--device`` of ``zoo train``.
    :raises Interrupted: after a signal, once the runs have stopped.
    """
    waiting = list(jobs)
    running: list[Training] = []
    free = share_machine(workers, len(jobs), device)
    with stopping_jobs() as stop:
        try:
            while (waiting or running) and not stop.requested:
                for job in list(waiting):
                    if not free:
                        break
                    lock = job.make_lock()
                    if lock.take(0):
                        waiting.remove(job)
                        worker = free.pop()
                        # in a new session, Ctrl-C does not reach the job; this process asks the job to stop
                        process = job.start(lock, worker.variables, new_session=True)
                        running.append(Training(job, lock, worker, process))
                        if worker.cores:
                            os.sched_setaffinity(process.pid, worker.cores)
                    else:  # the other jobs continue
                        say_once(f"{job.run} is being trained by {lock.describe_holder()}; waiting")
                time.sleep(POLL_SECONDS)
                for training in list(running):
                    if training.process.poll() is not None:
                        running.remove(training)
                        training.lock.release()
                        training.report()
                        free.append(training.worker)
        finally:
            _stop(running)


def _stop(running: Sequence[Training]) -> None:
    """Ask training processes to stop; kill those that do not stop in time, or if Ctrl-C is pressed again."""
    # terminate all before the first wait, so that checkpoints are written in parallel
    for training in running:
        training.process.terminate()
    end = time.monotonic() + STOP_SECONDS
    try:
        for training in running:
            training.process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        log.warning("runs that have not stopped after %.0f s are killed", STOP_SECONDS)
    finally:
        # also after another Ctrl-C, because the locks are released when this process ends
        for training in running:
            training.process.kill()  # does nothing if the process has ended


def share_machine(workers: int | None, jobs: int, device: str) -> list[Worker]:
    """Return workers that share the machine's cores and GPUs.

    :param workers: number of workers; None: one per GPU or, without GPUs, one per core.
    :param jobs: number of jobs, which limits the number of workers.
    """
    gpus: list[str] = []
    if device != "cpu":
        gpus = list(map(str, range(torch.cuda.device_count())))
        names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        # the numbers or names of GPUs in CUDA_VISIBLE_DEVICES may differ from PyTorch's numbers
        gpus = list(filter(None, names))[: len(gpus)] or gpus
        if ":" in device:  # the number of a GPU counts all visible GPUs
            gpus = [",".join(gpus)]
    cores: list[int] = []
    limit = available_cores()
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
    # A container with limited processor time shares all cores with other containers, so its jobs are not pinned.
    if limit < len(cores):
        cores = []
    # jobs are independent, so one per device keeps all devices busy
    count = min(workers or len(gpus) or limit, jobs)
    shares = []
    for number in range(count):
        first = number * limit // count
        end = max((number + 1) * limit // count, first + 1)  # there may be more workers than cores
        # without this variable, numerical libraries would start a thread for each core of the machine
        variables = {"OMP_NUM_THREADS": str(end - first)}
        if gpus:
            variables["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        shares.append(Worker(cores[first:end], variables))
    return shares
