"""Workers on a cluster: start as many as there is work for, replace lost ones, and say how far the suite is."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from zoo.suites.jobs import Job, State
from zoo.suites.worker import Plan, Worker
from zoo.terminal.messages import log

ROOT = Path(__file__).resolve().parents[3]
MOST_WORKERS = 100
"""Workers at once where the user has not said how many."""
MOST_REPLACEMENTS = 5
"""How often each worker, on average, is replaced without any job coming to its end meanwhile."""
SECONDS_BETWEEN_LOOKS = 10.0
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


class Driver:
    """Keeps workers on a cluster until every job of a plan has ended.

    It starts only as many as there are jobs that nobody trains, and another one when a job is free again because its
    worker is lost. What others train, it waits for.

    :param workers: how many at once; None: one per job, at most :data:`MOST_WORKERS`.
    """

    def __init__(self, plan: Plan, fleet: Fleet, workers: int | None) -> None:
        self.plan, self.fleet = plan, fleet
        self.left = plan.jobs()
        self.most_workers = workers or min(MOST_WORKERS, len(self.left))
        self._total, self._started, self._started_in_vain = len(self.left), 0, 0
        self._told = ""

    def run(self, pause: Callable[[float], None] = time.sleep) -> None:
        """Look again and again, until nothing is left to do."""
        while True:
            begin = time.monotonic()
            self._look()
            if not self.left:
                return
            pause(max(SECONDS_BETWEEN_LOOKS, (time.monotonic() - begin) / SHARE_OF_LOOKING))

    def _look(self) -> None:
        """Find which jobs have ended, say so, and start the workers that are missing."""
        living = self.fleet.living()  # before the jobs: what a worker did that has ended by now is seen below
        looks = [(job, job.state()) for job in self.left]
        left = [
            (job, state)
            for job, state in looks
            if state is State.RUNNING or not (state.is_final or job.has_failed(self.plan.launch, self.plan.retries))
        ]
        if len(left) < len(looks):
            self._started_in_vain = 0
        self.left = [job for job, _ in left]
        self._tell(Counter(state for _, state in left), living)
        missing = self._missing([job for job, state in left if state is State.RUNNING], living)
        if missing > 0:
            self._start(missing)

    def _missing(self, running: Sequence[Job], living: int) -> int:
        """Return how many workers are missing for there to be an idle one, or one to come, for each free job."""
        owners = [str((job.claims.holder() or {}).get("owner")) for job in running]
        idle = max(0, living - sum(owner.startswith(f"{self.plan.launch}/") for owner in owners))
        free = len(self.left) - len(running)
        return min(free - idle, self.most_workers - living)

    def _start(self, count: int) -> None:
        if self._started_in_vain >= (1 + MOST_REPLACEMENTS) * self.most_workers:
            raise RuntimeError(
                f"{len(self.left)} jobs are left, but {self._started_in_vain} workers have ended since one was "
                "finished; the messages above, and the cluster's logs of the workers, say why"
            )
        numbers = range(self._started, self._started + count)
        self.fleet.start([Worker(self.plan, f"{self.plan.launch}/{number}", waits=False) for number in numbers])
        self._started += count
        self._started_in_vain += count

    def _tell(self, counts: Counter[State], living: int) -> None:
        """Say how far the suite is, if that has changed."""
        parts = [f"{self._total - len(self.left)} of {self._total} jobs have ended"]
        parts += [f"{counts[state]} {state}" for state in State if counts[state]]
        text = ", ".join(parts)
        if text != self._told:
            log.info("%s; workers: %d", text, living)
            self._told = text
