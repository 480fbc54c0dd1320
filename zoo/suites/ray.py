"""Run jobs as tasks on an existing Ray cluster."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from zoo.algorithms.packages import import_optional
from zoo.settings.layers import parse_overrides
from zoo.suites.jobs import Job, python_path, stopping_jobs, warn_of_failure
from zoo.suites.local import STOP_SECONDS
from zoo.terminal.errors import UsageError, as_usage_error
from zoo.terminal.messages import log

POLL_SECONDS = 0.5


def run_on_ray(jobs: Sequence[Job], workers: int | None, resources: Sequence[str]) -> None:
    """Run jobs on the Ray cluster at ``RAY_ADDRESS`` (default: the cluster on this machine), and wait until they end.

    :param workers: number of parallel jobs; None: as many as the cluster can run.
    :param resources: resources of a job, as ``key=value``: ``num_cpus``, ``num_gpus``, ``memory``, ``resources.NAME``.
    :raises UsageError: if there is no cluster, if Ray is not installed, or if a resource is unknown.
    :raises Interrupted: after a signal, once the runs have ended or `STOP_SECONDS` have passed.
    """
    ray = import_optional("ray", "Ray", "`--launcher ray`", "flow-rl-zoo[ray]")
    # with retries, Ray restarts a task whose node or process has died
    options = {"max_retries": 100, "scheduling_strategy": "SPREAD"}
    with as_usage_error():  # Ray's message names the unknown resource
        task = ray.remote(**options | parse_overrides(resources, "--resources"))(train)
    try:
        ray.init(
            address=os.environ.get("RAY_ADDRESS", "auto"),
            runtime_env={"env_vars": {"PYTHONPATH": python_path()}},
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"no connection to a Ray cluster: {error}; start one with `ray start --head`, or name one in RAY_ADDRESS"
        ) from error
    waiting = list(jobs)
    running: dict[Any, Job] = {}

    def collect() -> None:
        """Wait briefly for a task to end, and log its result."""
        ended, _ = ray.wait(list(running), timeout=POLL_SECONDS)
        for reference in ended:
            job = running.pop(reference)
            try:
                ray.get(reference)
                log.info("done: %s", job.run)
            except ray.exceptions.RayError as error:
                warn_of_failure(job, str(error).strip().splitlines()[-1])

    try:
        # after `ray.init`, whose handler of SIGTERM would end this process, and thereby the tasks, at once
        with stopping_jobs() as stop:
            while (waiting or running) and not stop.requested:
                # without `workers`, all jobs are submitted, and Ray runs as many as fit on the cluster
                while waiting and len(running) < (workers or len(jobs)):
                    job = waiting.pop(0)
                    running[task.remote(job, os.getcwd())] = job
                collect()
            if stop.requested:
                for reference in running:
                    ray.cancel(reference)
                # not `collect`, which would call the stopped jobs failed
                ray.wait(list(running), num_returns=len(running), timeout=STOP_SECONDS)
    finally:
        ray.shutdown()


def train(job: Job, folder: str) -> None:
    """Train a job on a node.

    :param folder: current folder of the launcher, to which relative paths refer.
    """
    os.chdir(folder)
    # a process on a node that Ray considers dead may still hold the lock
    with job.make_lock() as lock:
        process = job.start(lock)
        # Ray cancels a task with SIGINT, the signal of Ctrl-C, and repeats the signal every two seconds
        previous = signal.signal(signal.SIGINT, lambda number, frame: process.terminate())
        while process.poll() is None:
            # sleep only briefly, because Ray's cancellation does not interrupt a sleep
            time.sleep(POLL_SECONDS)
        signal.signal(signal.SIGINT, previous)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {job.last_message() or 'no message'}")
