"""Workers on this machine: several at once, which share out its cores and GPUs."""

from __future__ import annotations

import os
import signal
from types import FrameType

import torch

from zoo.errors import Interrupted
from zoo.messages import log
from zoo.suites.worker import Plan, Worker, WorkerThread


def run_locally(plan: Plan, workers: int | None, device: str) -> None:
    """Train a plan's jobs on this machine.

    :param workers: how many at once; None: one per GPU, without one a worker per core.
    :param device: as for the training program.
    :raises Interrupted: when a signal asked for the end; every run has written a checkpoint then.
    """
    gpus = [] if device == "cpu" else _gpus()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    count = min(workers or len(gpus) or len(cores) or 1, len(plan.runs))
    threads = [WorkerThread(_make_worker(plan, number, count, cores, gpus)) for number in range(count)]

    def stop(number: int, frame: FrameType | None) -> None:
        log.info("stopping; every run writes a checkpoint first")
        for thread in threads:
            thread.worker.stop()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    for thread in threads:
        if thread.error is not None:
            raise thread.error
    if any(thread.worker.is_stopping for thread in threads):
        raise Interrupted("stopped by a signal; start the same command again to continue")


def _make_worker(plan: Plan, number: int, count: int, cores: list[int], gpus: list[str]) -> Worker:
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
