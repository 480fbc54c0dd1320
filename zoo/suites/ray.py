"""Run jobs as tasks on an existing Ray cluster."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from agents.common.validation import count
from zoo.algorithms.packages import import_optional
from zoo.settings.layers import parse_overrides
from zoo.suites.task import STOP_SECONDS, JobTask, python_path
from zoo.terminal.errors import Interrupted, UsageError, as_usage_error
from zoo.terminal.messages import log

ray = import_optional("ray", "Ray", "`--launcher ray`", "flow-rl-zoo[ray]")
from ray.exceptions import RayError, TaskCancelledError  # noqa: E402  only where Ray is

MAX_RETRIES = 100
"""How often Ray starts a task again after its node or process has died."""
CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.5


def run_on_ray(
    tasks: Sequence[JobTask], start: Any, workers: int | None, report: Callable[[], object]
) -> None:
    """Run tasks on a Ray cluster, and wait for their end; Ray starts one again whose node has died.

    :param start: of :func:`connect`.
    :param workers: how many at once; None: as many as there is room for.
    :param report: says how far the jobs are, now and then.
    :raises Interrupted: when a signal asked for the end; every run has written a checkpoint then.
    """
    waiting = list(tasks)
    running: list[Any] = []
    capacity = workers or len(tasks)

    try:
        while waiting or running:
            # Ray would queue all of them, and run as many as its cluster has room for
            while waiting and len(running) < capacity:
                running.append(start.remote(waiting.pop(0), os.getcwd()))
            running = _wait(running, POLL_SECONDS)
            report()
    except KeyboardInterrupt as error:
        log.info("stopping; every run writes a checkpoint first")
        for task in running:
            ray.cancel(task)
        end = time.monotonic() + STOP_SECONDS
        while running and time.monotonic() < end:
            running = _wait(running, POLL_SECONDS)
        if running:
            log.warning(
                "%s not stopped within %.0f s; Ray ends them now",
                count(len(running), "job"),
                STOP_SECONDS,
            )
        raise Interrupted(
            "stopped by a signal; start the same command again to continue"
        ) from error
    finally:
        ray.shutdown()


def _wait(running: list[Any], seconds: float) -> list[Any]:
    """Return the tasks that still run after some seconds, or when one has ended; log the errors of those that ended."""
    ended, left = ray.wait(running, timeout=seconds)
    for task in ended:
        try:
            ray.get(task)
        except TaskCancelledError:
            pass  # it had not begun
        except RayError as error:
            log.warning("a job could not be trained: %s", str(error).strip().splitlines()[-1])
    return list(left)


def run(task: JobTask, folder: str) -> None:
    """Run a task on a node, in the folder of the program that has started it."""
    os.chdir(folder)
    # Ray cancels a task as if by Ctrl-C, again every two seconds
    previous = signal.signal(signal.SIGINT, lambda number, frame: task.stop())
    try:
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(task)
            while wait([ended], POLL_SECONDS).not_done:
                pass  # a long wait would not notice a cancellation, as it would a signal
    finally:
        signal.signal(signal.SIGINT, previous)
    ended.result()


def connect(address: str | None, resources: Sequence[str]) -> Any:
    """Connect to a cluster; return Ray's function that runs a task there.

    :param address: of the cluster; None: the one that this machine belongs to.
    :param resources: what a task needs, as ``key=value``: ``num_cpus``, ``num_gpus``, ``memory``, ``resources.NAME``.
    :raises UsageError: if there is no cluster, or Ray does not know a resource.
    """
    options = {"max_retries": MAX_RETRIES, "scheduling_strategy": "SPREAD"}
    with as_usage_error():  # Ray's message names the unknown resource
        start = ray.remote(**{**options, **parse_overrides(resources, "--resources")})(run)
    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    advice = "start one with `ray start --head`, or name one with --ray-address HOST:PORT"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():  # Ray itself would try for minutes
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except OSError as error:
            raise UsageError(f"no Ray cluster answers at {address} ({error}); {advice}") from error
    try:
        ray.init(address=address, runtime_env={"env_vars": {"PYTHONPATH": python_path()}})
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"no connection to a Ray cluster ({address}): {error}; {advice}"
        ) from error
    return start
