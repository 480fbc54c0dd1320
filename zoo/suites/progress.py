"""How far a suite is: its states, what is left will cost, and a line for each job that runs."""

import contextlib
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Group
from rich.live import Live

from zoo.algorithms.overview import update_operations
from zoo.runs.folder import UnreadableRun
from zoo.runs.read import read_speed
from zoo.runs.resume import StoredRun, describe_step
from zoo.suites.jobs import Job
from zoo.suites.store import PROBLEMS, JobStatus, JobStore, State
from zoo.terminal.messages import log
from zoo.terminal.tables import print_table, terminal

POLL_SECONDS = 5.0
MAX_READING_SHARE = 0.1
"""How much of its time a program may spend on reading run folders: of a large suite on slow storage, a long time."""


@dataclass(frozen=True)
class Forecast:
    """What is left to do.

    :param jobs: how many jobs are left.
    :param seconds: of one worker; None where no finished job tells.
    :param disk_bytes: what the jobs left will write.
    """

    jobs: int
    seconds: float | None
    disk_bytes: float = 0.0


def forecast(statuses: Sequence[JobStatus]) -> Forecast:
    """Estimate what is left, by finished jobs.

    A job takes as long as finished ones of its method and domain, by steps and seeds. Where there is none, it takes as
    long as all finished ones, by the published operations of an update too.
    """
    left = [status for status in statuses if not status.state.is_final]
    # A run that the suite did not train has no time.
    done = [status for status in statuses if status.state is State.FINISHED and status.seconds]
    if not left:
        return Forecast(0, 0.0)
    if not done:
        return Forecast(len(left), None)
    operations = update_operations()
    typical = statistics.median(operations.values())  # of an algorithm that the table lacks
    rates: dict[tuple[str, str], list[float]] = {}
    per_operation = []
    sizes = []
    for status in done:
        # Seeds that are trained together take less time than each alone; a suite groups those of all jobs alike.
        rate = status.seconds / status.job.work
        rates.setdefault(_method_and_domain(status.job), []).append(rate)
        per_operation.append(rate / operations.get(status.job.algo, typical))
        sizes.append(_size(status.run) / len(status.job.run.seeds))
    seconds = disk = 0.0
    for status in left:
        by_operations = statistics.mean(per_operation) * operations.get(status.job.algo, typical)
        known_rates = rates.get(_method_and_domain(status.job), [by_operations])
        seconds += statistics.mean(known_rates) * status.job.work
        # An interrupted job has written a part of it, and may have written more than the mean.
        disk += max(0.0, statistics.mean(sizes) * len(status.job.run.seeds) - _size(status.run))
    return Forecast(len(left), seconds, disk)


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


def print_states(statuses: Sequence[JobStatus], workers: int | None, expected: Forecast) -> None:
    """Print how far the suite is, and what failed."""
    by_method: dict[str, Counter[State]] = {}
    for status in statuses:
        by_method.setdefault(status.job.method, Counter())[status.state] += 1
    rows = []
    for method, counts in [*by_method.items(), ("all", count_states(statuses))]:
        rows.append((method, *(str(counts[state] or "") for state in State)))
    print_table("Jobs", ("method", *State), rows)
    terminal().print(describe(statuses, workers, expected))


def describe(statuses: Sequence[JobStatus], workers: int | None, expected: Forecast) -> str:
    """Return what is left in a few lines of text."""
    runs = _count_runs(statuses)
    lines = [f"{len(statuses)} jobs, {runs} runs (one per seed); {expected.jobs} jobs left"]
    if expected.seconds is None:
        lines.append("the remaining time is unknown until a job has finished")
    elif expected.jobs:
        hours = expected.seconds / 3600
        text = f"{hours:.1f} h of one worker"
        if workers and workers > 1:
            text += f", {hours / workers:.1f} h with {workers} workers"
        lines.append(f"{text}, and {expected.disk_bytes / 1e9:.1f} GB")
    for status in statuses:
        if status.reason:
            lines.append(f"{status.state}: {status.job.run}: {status.reason}")
    return "\n".join(lines)


def summary(statuses: Sequence[JobStatus], expected: Forecast) -> dict[str, Any]:
    """Return the same for other programs."""
    counts = count_states(statuses)
    problems = []
    for status in statuses:
        if status.state in PROBLEMS:
            problem = {"job": str(status.job.run), "state": status.state, "reason": status.reason}
            problems.append(problem)
    hours = gigabytes = None
    if expected.seconds is not None:
        hours = round(expected.seconds / 3600, 2)
        gigabytes = round(expected.disk_bytes / 1e9, 2)
    return {
        "jobs": len(statuses),
        "runs": _count_runs(statuses),
        **{str(state): counts[state] for state in State},
        "hours_left": hours,
        "gigabytes_left": gigabytes,
        "problems": problems,
    }


def count_states(statuses: Sequence[JobStatus]) -> Counter[State]:
    """Return how many jobs are in each state."""
    return Counter(status.state for status in statuses)


def _count_runs(statuses: Sequence[JobStatus]) -> int:
    return sum(len(status.job.run.seeds) for status in statuses)


# -- while the jobs are trained ---------------------------------------------------------------------------------------


def follow(store: JobStore, jobs: Sequence[Job], has_ended: Callable[[float], bool]) -> None:
    """Say how far jobs are until their tasks have ended: in a terminal again and again, elsewhere what has changed.

    :param has_ended: waits for some seconds; returns whether all tasks have ended.
    """
    left = list(jobs)
    last_text = ""
    pause = 0.0
    console = terminal()
    with contextlib.ExitStack() as stack:
        live = None
        if console.is_terminal:
            live = stack.enter_context(Live(console=console, auto_refresh=False, transient=True))
        while not has_ended(pause):
            begin = time.monotonic()
            statuses = [status for status in store.statuses(left) if not status.state.is_final]
            left = [status.job for status in statuses]
            words = [f"{len(jobs) - len(left)} of {len(jobs)} jobs are done"]
            counts = count_states(statuses)
            for state in State:
                if counts[state]:
                    words.append(f"{counts[state]} {state}")
            text = ", ".join(words)
            if live is not None:
                running = []
                for status in statuses:
                    if status.run and status.state is State.RUNNING:
                        running.append(f"{status.job.run}: {describe_progress(status.run)}")
                live.update(Group(*running, text), refresh=True)
            elif text != last_text:
                log.info(text)
            last_text = text
            # A large suite on slow storage is read for minutes; it must not be read all the time.
            pause = max(POLL_SECONDS, (time.monotonic() - begin) / MAX_READING_SHARE)


def describe_progress(run: StoredRun) -> str:
    """Return in a few words which step a run has reached, and its last score, the mean over its seeds."""
    step, _ = read_speed(run.folders[0]) or (0, 0.0)
    text = describe_step(run, step)
    with contextlib.suppress(UnreadableRun):  # none has been evaluated yet
        # The score is success only where every seed has reported one.
        histories = [folder.read_evaluations() for folder in run.folders]
        name, score = "results", "return {:.2f}"
        if all("successes" in history for history in histories):
            name, score = "successes", "success {:.1%}"
        text += ", " + score.format(np.mean([history[name][-1].mean() for history in histories]))
    return text
