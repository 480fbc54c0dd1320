"""How far a suite is: its states, what is left will cost, and how far the runs under way are."""

import contextlib
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

from rich.console import Group
from rich.live import Live

from agents.common.validation import count
from zoo.algorithms.overview import update_operations
from zoo.report.monitoring import show_states
from zoo.runs.read import read_runs
from zoo.runs.resume import StoredRun
from zoo.suites.jobs import PROBLEMS, Job, JobStatus, JobStore, State
from zoo.terminal.messages import log
from zoo.terminal.tables import print_table, terminal

POLL_SECONDS = 5.0
MAX_READING_SHARE = 0.1
"""How much of its time a program may spend on reading run folders: of a large suite on slow storage, a long time."""


class Progress:
    """How far a suite is, and what is left to do.

    :param statuses: of all jobs.
    :param workers: how many jobs are trained at once; None: not said.
    """

    def __init__(self, statuses: Sequence[JobStatus], workers: int | None = None) -> None:
        self.statuses = statuses
        self.workers = workers
        self.counts = Counter(status.state for status in statuses)
        self.runs = sum(len(status.job.run.seeds) for status in statuses)
        self.left = [status for status in statuses if not status.state.is_final]

    @cached_property  # it asks for the size of all files
    def costs(self) -> tuple[float, float] | None:
        """Seconds of one worker, and bytes on disk, of the jobs that are left; None where no finished job tells.

        A job takes as long as finished ones of its method and domain, by steps and seeds. Where there is none, it takes
        as long as all finished ones, by the published operations of an update too.
        """
        if not self.left:
            return 0.0, 0.0
        operations = update_operations()
        typical = statistics.median(operations.values())  # of an algorithm that the table lacks
        rates: dict[tuple[str, str], list[float]] = {}
        per_operation = []
        sizes = []
        for status in self.statuses:
            # A run that the suite did not train has no time.
            if status.state is not State.FINISHED or not status.seconds:
                continue
            # Seeds that are trained together take less time than each alone; a suite groups those of all jobs alike.
            rate = status.seconds / status.job.work
            rates.setdefault(_method_and_domain(status.job), []).append(rate)
            per_operation.append(rate / operations.get(status.job.algo, typical))
            sizes.append(_size(status.run) / len(status.job.run.seeds))
        if not sizes:
            return None
        seconds = disk = 0.0
        for status in self.left:
            job = status.job
            rate = statistics.mean(per_operation) * operations.get(job.algo, typical)
            seconds += statistics.mean(rates.get(_method_and_domain(job), [rate])) * job.work
            # An interrupted job has written a part of it, and may have written more than the mean.
            disk += max(0.0, statistics.mean(sizes) * len(job.run.seeds) - _size(status.run))
        return seconds, disk

    def print(self) -> None:
        """Print how far the suite is, and what failed."""
        by_method: dict[str, Counter[State]] = {}
        for status in self.statuses:
            by_method.setdefault(status.job.method, Counter())[status.state] += 1
        rows = []
        for method, counts in [*by_method.items(), ("all", self.counts)]:
            rows.append((method, *(str(counts[state] or "") for state in State)))
        print_table("Jobs", ("method", *State), rows)
        terminal().print(str(self))

    def __str__(self) -> str:
        """Return what is left in a few lines of text."""
        left = len(self.left)
        jobs, runs = count(len(self.statuses), "job"), count(self.runs, "run")
        lines = [f"{jobs}, {runs} (one per seed); {count(left, 'job')} left"]
        if self.costs is None:
            lines.append("the remaining time is unknown until a job has finished")
        elif left:
            seconds, disk = self.costs
            text = f"{seconds / 3600:.1f} h of one worker"
            if self.workers and self.workers > 1:
                text += f", {seconds / 3600 / self.workers:.1f} h with {self.workers} workers"
            lines.append(f"{text}, and {disk / 1e9:.1f} GB")
        for status in self.statuses:
            if status.reason:
                lines.append(f"{status.state}: {status.job.run}: {status.reason}")
        return "\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """Return the same for other programs."""
        problems = []
        for status in self.statuses:
            if status.state in PROBLEMS:
                run = str(status.job.run)
                problems.append({"job": run, "state": status.state, "reason": status.reason})
        hours = gigabytes = None
        if self.costs is not None:
            hours = round(self.costs[0] / 3600, 2)
            gigabytes = round(self.costs[1] / 1e9, 2)
        return {
            "jobs": len(self.statuses),
            "runs": self.runs,
            **{str(state): self.counts[state] for state in State},
            "hours_left": hours,
            "gigabytes_left": gigabytes,
            "problems": problems,
        }


def _method_and_domain(job: Job) -> tuple[str, str]:
    # Tasks of a domain share networks, data and episode length, and so the time of a step.
    return job.method, job.run.env.partition("-singletask")[0]


def _size(run: StoredRun | None) -> int:
    """Return the size of a run's files, leaving out those that disappear meanwhile."""
    total = 0
    if run is None:
        return total
    for folder in run.folders:
        for path in folder.path.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
    return total


# -- while the jobs are trained ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def follow(store: JobStore, jobs: Sequence[Job]) -> Iterator[Callable[[], bool]]:
    """Yield a function that says how far jobs are: in a terminal again and again, elsewhere what has changed.

    It does nothing, and returns False, if it is called too soon again: a large suite on slow storage is read for
    minutes.
    """
    console = terminal()
    live = Live(console=console, auto_refresh=False, transient=True)
    left = list(jobs)
    last_text = ""
    next_time = 0.0

    def report() -> bool:
        nonlocal left, last_text, next_time
        begin = time.monotonic()
        if begin < next_time:
            return False
        progress = Progress([store.status(job) for job in left])
        left = [status.job for status in progress.left]
        words = [f"{len(jobs) - len(left)} of {len(jobs)} jobs are done"]
        for state in State:
            if progress.counts[state] and not state.is_final:
                words.append(f"{progress.counts[state]} {state}")
        text = ", ".join(words)
        if console.is_terminal:
            running = []
            for status in progress.left:
                if status.run and status.state is State.RUNNING:
                    running += [folder.path for folder in status.run.folders]
            live.update(Group(show_states(read_runs(running)), text), refresh=True)
        elif text != last_text:
            log.info(text)
        last_text = text
        end = time.monotonic()
        next_time = end + max(POLL_SECONDS, (end - begin) / MAX_READING_SHARE)
        return True

    with live if console.is_terminal else contextlib.nullcontext():
        yield report
