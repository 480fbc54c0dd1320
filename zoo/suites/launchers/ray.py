"""Workers as tasks on a Ray cluster that is there already."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from zoo.errors import Interrupted, UsageError, as_usage_error
from zoo.packages import import_optional
from zoo.settings.layers import parse_overrides
from zoo.suites.worker import Plan, Worker, drive, python_path
from zoo.terminal.messages import log

ray = import_optional("ray", "Ray", "`--launcher ray`", "flow-rl-zoo[ray]")
from ray.exceptions import RayError, TaskCancelledError  # noqa: E402  only where Ray is

MOST_RETRIES = 100
"""How often Ray starts a worker again after its node or process has died."""
CONNECT_SECONDS = 5.0
STOP_SECONDS = 120.0
"""How long stopped workers have for their checkpoints."""
SECONDS_BETWEEN_SIGNALS = 0.5


def run_on_ray(plan: Plan, workers: int | None, resources: Sequence[str], address: str | None) -> None:
    """Train a plan's jobs by tasks on a Ray cluster, and wait for their end.

    :param workers: how many at once; None: one per job, at most 100.
    :param resources: what a worker needs, as ``key=value``: ``num_cpus``, ``num_gpus``, ``memory``, ``resources.NAME``.
    :param address: of the cluster; None: the one that this machine belongs to.
    :raises Interrupted: when a signal asked for the end; every run has written a checkpoint then.
    """
    with as_usage_error():  # Ray names what it does not know
        fleet = RayFleet(parse_overrides(resources, "--resources"))
    _connect(address)
    try:
        drive(plan, fleet, workers)
        fleet.wait()
    except KeyboardInterrupt as error:
        log.info("stopping; every run writes a checkpoint first")
        fleet.stop()
        raise Interrupted("stopped by a signal; start the same command again to continue") from error
    finally:
        ray.shutdown()


class RayFleet:
    """Workers that are tasks on the cluster that this process is connected to.

    :param options: of each task.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._task = ray.remote(**{"max_retries": MOST_RETRIES, "scheduling_strategy": "SPREAD", **options})(train)
        self._tasks: list[Any] = []

    def start(self, workers: Sequence[Worker]) -> None:
        """Ask Ray to run workers where there is room for them."""
        self._tasks += [self._task.remote(worker, os.getcwd()) for worker in workers]

    def living(self) -> int:
        """Return how many of the workers have not ended."""
        return self._wait(0.0)

    def wait(self) -> None:
        """Wait until all workers have ended, which they do when nothing is left."""
        self._wait(STOP_SECONDS)

    def stop(self) -> None:
        """Stop all workers, each with a checkpoint of what it trains."""
        for task in self._tasks:
            ray.cancel(task)
        left = self._wait(STOP_SECONDS)
        if left:
            log.warning("%d workers have not stopped within %.0f s; Ray ends them now", left, STOP_SECONDS)

    def _wait(self, seconds: float) -> int:
        """Wait for the end of all workers, say what went wrong with them, and return how many are left."""
        if not self._tasks:
            return 0
        ended, self._tasks = ray.wait(self._tasks, num_returns=len(self._tasks), timeout=seconds)
        for task in ended:
            try:
                ray.get(task)
            except TaskCancelledError:
                pass  # it had not begun
            except RayError as error:
                log.warning("a worker has failed: %s", str(error).strip().splitlines()[-1])
        return len(self._tasks)


def train(worker: Worker, folder: str) -> None:
    """Run a worker in a Ray task, in the folder of the program that has started it."""
    os.chdir(folder)
    # Ray cancels a task as if by Ctrl-C, again every two seconds
    previous = signal.signal(signal.SIGINT, lambda number, frame: worker.stop())
    try:
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(worker)
            while wait([ended], SECONDS_BETWEEN_SIGNALS).not_done:
                pass  # unlike a signal, a cancellation does not end a wait
    finally:
        signal.signal(signal.SIGINT, previous)
    ended.result()


def _connect(address: str | None) -> None:
    """Connect to a cluster; raise UsageError if there is none."""
    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    advice = "start one with `ray start --head`, or name one with --ray-address HOST:PORT"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():  # Ray itself would try for minutes
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except OSError as error:
            raise UsageError(f"no Ray cluster answers at {address} ({error}); {advice}") from error
    try:
        ray.init(address=address, runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(python_path())}})
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(f"no connection to a Ray cluster ({address}): {error}; {advice}") from error
