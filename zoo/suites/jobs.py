"""Jobs: starts of the training program for a suite, what has become of them, and how far the suite is.

Run folders, locks, attempts and saved scores say so, and `JobStore` is the one place that judges by them.
"""

import contextlib
import hashlib
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live

from agents.common.files import write_text
from agents.common.validation import count
from zoo.algorithms.overview import update_operations
from zoo.processes.locks import Lock
from zoo.report.monitoring import show_states
from zoo.runs.folder import file_name_of
from zoo.runs.read import read_runs
from zoo.runs.resume import StoredRun, closest_run, matching_runs, stored_runs
from zoo.settings.layers import flatten
from zoo.settings.record import RunRecord
from zoo.settings.request import TrainRequest
from zoo.suites.suite import Run, Suite
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log
from zoo.terminal.tables import print_table, terminal
from zoo.training.plan import plan_run

MAX_METHOD_BYTES = 60
"""Of a job's name, which names files: file systems take 255 bytes, and an environment's id may be long too."""
NOT_COMPARED = ("machine", "data")
"""Roles of what is only known where a run is trained: how its machine computes, and the content of the data."""


@dataclass(frozen=True)
class Job:
    """One start of the training program.

    :param words: its command line.
    :param config: what its run folders must say.
    """

    run: Run
    words: tuple[str, ...]
    config: RunRecord = field(repr=False)

    @property
    def algo(self) -> str:
        """Id of its algorithm, which its suite may call otherwise."""
        return self.config.algo

    @property
    def method(self) -> str:
        """Name of its row in the report."""
        return self.run.label or self.algo

    @cached_property  # reading the declarations of an algorithm takes milliseconds, and a suite has a thousand jobs
    def settings(self) -> dict[str, Any]:
        """What a run folder's settings must be, with dotted names, to be of this job."""
        return self.config.identity(*NOT_COMPARED)

    @property
    def work(self) -> int:
        """Gradient steps and environment steps of all its seeds, all phases together."""
        run = self.config.run
        steps = run.pretraining_steps + run.offline_steps + run.online_steps
        return max(1, steps) * len(self.run.seeds)

    @cached_property
    def name(self) -> str:
        """A name that no other job in the log folder has, fit for a file."""
        method = (
            re.sub(r"[^\w.-]", "_", self.method).encode()[:MAX_METHOD_BYTES].decode(errors="ignore")
        )
        # Of the settings too: a suite whose settings have changed is another job, with a log of its own.
        digest = hash_values(self.settings, self.run.seeds)
        return f"{method}-{file_name_of(self.run.env)}-{digest}"

    @property
    def settings_hash(self) -> str:
        """A hash of the settings and of how many seeds are trained together, equal for all seeds."""
        return hash_values(self.settings, len(self.run.seeds))


def make_jobs(suite: Suite, runs: Sequence[Run], log_folder: Path, **machine: Any) -> list[Job]:
    """Return a job for each run of a suite, its settings checked.

    :param machine: fields of the training request that change no settings, e.g. ``device="cuda"``.
    :raises UsageError: if a run cannot be trained here.
    """
    jobs = []
    for run in runs:
        request = TrainRequest(
            algo=run.algo,
            env=run.env,
            seeds=run.seeds,
            quick=suite.quick,
            profile=suite.profile,
            label=run.label or None,
            hyperparams=_as_words(run.params),
            dataset=suite.dataset,
            dataset_dir=suite.dataset_dir or None,
            env_kwargs=_as_words(suite.env_kwargs),
            gym_packages=tuple(suite.gym_packages),
            log_folder=log_folder,
            resume=True,  # so that another attempt, or another start of the suite, continues the run
            **machine,
        )
        try:
            config = plan_run(request).config
        except UsageError as error:
            raise UsageError(f"{run}: {error}") from error
        # Without the method, whose class the machine that a job is sent to may not be able to import.
        jobs.append(Job(run, tuple(request.command_line()), replace(config, method=None)))
    return jobs


def _as_words(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return settings as a flag takes them, ``KEY=VALUE``."""
    # YAML, as which flags are read, takes JSON as it is; a text such as "no" keeps its quotes.
    return tuple(f"{name}={json.dumps(value)}" for name, value in flatten(values))


def hash_values(*values: Any) -> str:
    """Return a short hash of plain values, such as settings."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


# -- what has become of jobs -------------------------------------------------------------------------------------------


JOBS = ".jobs"
"""Folder, in a log folder, of the messages of training processes, and of how they ended."""


class State(StrEnum):
    """What has become of a job."""

    FINISHED = "done"
    SAVED = "kept"
    """Its run folders are not here, but its scores are saved."""
    DIVERGED = "diverged"
    """Every replica has diverged: a result too, and the same again with the same seeds."""
    FAILED = "failed"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    WAITING = "waiting"

    @property
    def is_final(self) -> bool:
        """Whether there is nothing left to train."""
        return self in (State.FINISHED, State.SAVED, State.DIVERGED)


PROBLEMS = (State.FAILED, State.DIVERGED)


@dataclass(frozen=True)
class Attempt:
    """How the last attempt at a job ended.

    :param seconds: of all attempts together, as far as they have ended.
    """

    outcome: str = ""
    reason: str = ""
    exit_code: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class JobStatus:
    """A job, and what is known of it.

    :param run: its run folders; None if it has not started.
    :param seconds: of its training processes, all attempts together.
    :param reason: why it failed last, or is due although it was trained.
    """

    job: Job
    state: State
    run: StoredRun | None = None
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class JobStore:
    """What the files of a suite say of its jobs. It can be pickled and used on another machine.

    :param log_folder: of the run folders.
    :param saved: names of jobs whose scores are saved, which need no run folders.
    """

    log_folder: Path
    saved: frozenset[str] = field(default=frozenset(), repr=False)

    def log(self, job: Job) -> Path:
        """Return the file of what a job's training processes have said."""
        return self._file(job, "log")

    def lock(self, job: Job) -> Lock:
        """Return the lock of the task that trains a job."""
        return Lock(self._file(job, "lock"))

    def attempt(self, job: Job) -> Attempt:
        """Return how a job's last attempt ended; raise UsageError if its file is damaged."""
        file = self._file(job, "json")
        try:
            return Attempt(**json.loads(file.read_bytes()))
        except FileNotFoundError:
            return Attempt()
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"{file} is damaged ({error}); remove it, and its attempts do not count"
            ) from error

    def write_attempt(self, job: Job, attempt: Attempt) -> None:
        """Record how a job's last attempt ended."""
        write_text(self._file(job, "json"), json.dumps(asdict(attempt)) + "\n")

    def status(self, job: Job) -> JobStatus:
        """Return what has become of a job, with its run folders and the reason of a failure."""
        runs = self._runs(job)
        same = matching_runs(job.settings, None, runs, *NOT_COMPARED)
        # Without --resume, a user may have trained the same settings and seeds twice; a finished one needs no other.
        run = min(same, key=lambda run: not (run.is_done or run.has_diverged), default=None)
        # Read even where run folders decide: it has the time that the job took.
        attempt = self.attempt(job)
        state = self._judge(job, run, attempt)
        reason = ""
        if state in PROBLEMS:
            reason = attempt.reason
        elif state is State.WAITING:
            reason = _closest_run(job, runs)
        return JobStatus(job, state, run, attempt.seconds, reason)

    def closest_run(self, job: Job) -> str:
        """Return which run of a job's seeds and label is most like it, and how that differs; empty if there is none."""
        return _closest_run(job, self._runs(job))

    def _judge(self, job: Job, run: StoredRun | None, attempt: Attempt) -> State:
        # What was trained counts first: it stays so whoever holds a lock and however an earlier attempt ended.
        if run is not None and run.is_done:
            return State.FINISHED
        if run is not None and run.has_diverged:
            return State.DIVERGED
        if job.name in self.saved:
            return State.SAVED
        # Before the last attempt, which another task may be trying again.
        if self.lock(job).is_held():
            return State.RUNNING
        if attempt.outcome == State.FAILED:
            return State.FAILED
        if run is None:
            return State.WAITING
        return State.INTERRUPTED

    def _file(self, job: Job, ending: str) -> Path:
        return self.log_folder / JOBS / f"{job.name}.{ending}"

    def _runs(self, job: Job) -> list[StoredRun]:
        """Return the runs of a job's algorithm, environment and seeds, newest first."""
        runs, _ = stored_runs(self.log_folder, job.algo, job.run.env)
        return [run for run in runs if tuple(run.seeds) == job.run.seeds]


def _closest_run(job: Job, runs: list[StoredRun]) -> str:
    runs = [run for run in runs if run.record.label == job.config.label]
    if not runs:
        return ""
    return closest_run(job.settings, None, runs, *NOT_COMPARED)


# -- how far a suite is, and what is left will cost -------------------------------------------------------------------


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
