"""How far a suite is: which jobs are done and left, what they will cost, and what failed."""

from __future__ import annotations

import contextlib
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.runs.protocol import count
from zoo.runs.resume import StoredRun
from zoo.suites.jobs import Job, State
from zoo.tables import print_table, terminal


@dataclass(frozen=True)
class Look:
    """A job as it was found."""

    job: Job
    state: State
    seconds: float | None
    """Time of its training process, all attempts together; None if none has ended."""
    folder_bytes: int
    """Size of its run folders."""
    reason: str
    """Why it failed last."""
    run: StoredRun | None = None
    """Its run folders; None if it has not started."""


def look_at(jobs: Iterable[Job], kept: Collection[str] = ()) -> list[Look]:
    """Return the jobs as they are now.

    :param kept: names of jobs whose scores are kept, which need no run folders.
    """
    return [_look(job, job.name in kept) for job in jobs]


def _look(job: Job, is_kept: bool) -> Look:
    run, ended = job.find(), job.claims.ended()
    state = job.state_of(run)
    if is_kept and not state.is_final:
        state = State.KEPT
    times = [end["seconds"] for end in ended if "seconds" in end]
    size = sum(_size(folder.path) for folder in run.folders) if run else 0
    reasons = [str(end.get("reason") or "") for end in ended if end["outcome"] in (State.FAILED, State.DIVERGED)]
    return Look(job, state, sum(times) if times else None, size, reasons[-1] if reasons else "", run)


@dataclass(frozen=True)
class Trial:
    """What a short trial of an algorithm on this machine has shown.

    :param seconds_per_step: per step and replica, without evaluations.
    :param folder_bytes: of a run folder.
    """

    seconds_per_step: float
    folder_bytes: float


@dataclass(frozen=True)
class Experience:
    """What tells the time of jobs beside those that are asked about.

    :param others: further jobs of the suite.
    :param trials: by algorithm.
    """

    others: Sequence[Look] = ()
    trials: Mapping[str, Trial] = field(default_factory=dict)


NONE = Experience()


@dataclass(frozen=True)
class Forecast:
    """What is left to do.

    :param seconds: of one worker; None if nothing is known.
    :param measured: how many of the jobs left have a finished one of the same algorithm and domain to go by.
    :param disk_bytes: what the jobs left will write; None if nothing is known.
    """

    seconds: float | None
    measured: int
    left: int
    disk_bytes: float | None


def forecast(looks: Sequence[Look], known: Experience = NONE) -> Forecast:
    """Estimate what is left.

    The time of a job is that of finished ones of the same algorithm and domain, by steps and seeds. Where there is
    none, it is that of the algorithm's trial, then of the same algorithm elsewhere, then of all.

    :param known: what there is to go by beside these jobs.
    """
    done = [look for look in (*looks, *known.others) if look.state.is_final and look.seconds]
    trials = known.trials
    left = [look for look in looks if not look.state.is_final]
    if not left:
        return Forecast(0.0, 0, 0, 0.0)
    if not done and not trials:
        return Forecast(None, 0, len(left), None)
    estimates = [_estimate(look, done, trials) for look in left]
    sizes = [look.folder_bytes / len(look.job.run.seeds) for look in done]
    size = statistics.mean(sizes or [trial.folder_bytes for trial in trials.values()])
    disk = sum(max(0.0, size * len(look.job.run.seeds) - look.folder_bytes) for look in left)
    return Forecast(sum(seconds for seconds, _ in estimates), sum(exact for _, exact in estimates), len(left), disk)


def _estimate(look: Look, done: Sequence[Look], trials: Mapping[str, Trial]) -> tuple[float, bool]:
    """Return the seconds that a job will take, and whether they come from jobs of its algorithm and domain."""
    method, domain = _kind(look)
    same = [each for each in done if _kind(each) == (method, domain)]
    trial = trials.get(look.job.algo)
    if trial is not None and not same:
        return trial.seconds_per_step * _size_of_work(look), False
    like = same or [each for each in done if _kind(each)[0] == method] or done
    rates = [(each.seconds or 0.0) / _size_of_work(each) for each in like]
    rates = rates or [each.seconds_per_step for each in trials.values()]
    return statistics.mean(rates) * _size_of_work(look), bool(same)


def _kind(look: Look) -> tuple[str, str]:
    return look.job.run.label or look.job.algo, look.job.run.env.partition("-singletask")[0]


def _size_of_work(look: Look) -> int:
    return max(1, look.job.steps) * len(look.job.run.seeds)


def _size(folder: Path) -> int:
    """Return the size of a folder's files, leaving out those that disappear meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def show(looks: Sequence[Look], workers: int | None, known: Experience = NONE) -> None:
    """Print how far the suite is, and what failed."""
    states = list(State)
    methods = list(dict.fromkeys(_kind(look)[0] for look in looks))
    rows = []
    for method in methods:
        counts = Counter(look.state for look in looks if _kind(look)[0] == method)
        rows.append((method, *(str(counts[state] or "") for state in states)))
    totals = Counter(look.state for look in looks)
    rows.append(("all", *(str(totals[state] or "") for state in states)))
    print_table("Jobs", ("method", *states), rows)
    terminal().print(describe(looks, workers, known), markup=False)


def describe(looks: Sequence[Look], workers: int | None, known: Experience = NONE) -> str:
    """Return what is left in a few lines of text."""
    seeds = sum(len(look.job.run.seeds) for look in looks)
    expected = forecast(looks, known)
    head = f"{count(len(looks), 'job')}, {count(seeds, 'run')} (one per seed); {count(expected.left, 'job')} left"
    lines = [head]
    if expected.left and expected.seconds is None:
        lines.append("no job has finished yet, so nothing is known of their time; --dry-run tries each algorithm")
    elif expected.seconds and expected.disk_bytes is not None:
        hours = expected.seconds / 3600
        each = f", {hours / workers:.1f} h with {workers} workers" if workers and workers > 1 else ""
        others = ", the others by trials on this machine, without evaluations" if known.trials else ""
        lines.append(
            f"{hours:.1f} h of one worker{each}, and {expected.disk_bytes / 1e9:.1f} GB; {expected.measured} of "
            f"{expected.left} by finished jobs of the same algorithm and domain{others}"
        )
    failed = [look for look in looks if look.state in (State.FAILED, State.DIVERGED)]
    lines += [f"{look.state}: {look.job.run}: {look.reason}" for look in failed]
    return "\n".join(lines)


def summary(looks: Sequence[Look], known: Experience = NONE) -> dict[str, Any]:
    """Return the same for other programs."""
    expected = forecast(looks, known)
    return {
        "jobs": len(looks),
        "runs": sum(len(look.job.run.seeds) for look in looks),
        **{str(state): sum(look.state is state for look in looks) for state in State},
        "hours_left": None if expected.seconds is None else round(expected.seconds / 3600, 2),
        "gigabytes_left": None if expected.disk_bytes is None else round(expected.disk_bytes / 1e9, 2),
        "problems": [
            {"job": str(look.job.run), "state": str(look.state), "reason": look.reason}
            for look in looks
            if look.state in (State.FAILED, State.DIVERGED)
        ],
    }
