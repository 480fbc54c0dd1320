"""Jobs of a suite: each starts ``zoo train --resume``; its state is read from its run folders, its lock and its log.

The launcher takes the lock of a job, and the training process inherits the lock.
"""

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo.runs.folder import file_name_of, short_name
from zoo.runs.locks import Lock
from zoo.runs.resume import StoredRun, matching_runs, stored_runs
from zoo.settings.layers import as_words
from zoo.settings.record import RunRecord
from zoo.settings.request import TrainRequest
from zoo.suites.suite import Run, Suite
from zoo.terminal.errors import (
    TRACEBACK_HINT,
    Interrupted,
    StopSignal,
    UsageError,
    handling_signals,
)
from zoo.terminal.messages import log
from zoo.terminal.tables import make_table, terminal
from zoo.training.plan import plan_run

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "zoo" / "train.py"
JOBS = ".jobs"
"""Subfolder of a log folder for the locks and logs of jobs."""
NOT_COMPARED = ("machine", "data")
"""Roles of the settings whose values are known only on the training machine."""


@dataclass(frozen=True)
class Job:
    """One call of ``zoo train``, which can be pickled and started on another machine.

    :param words: command-line arguments of `zoo train`.
    :param config: record that the job's run folders are expected to contain.
    """

    run: Run
    words: Sequence[str]
    config: RunRecord = field(repr=False)
    log_folder: Path

    # cached, because reading an algorithm's declarations takes milliseconds, and suites have up to a thousand jobs
    @cached_property
    def settings(self) -> dict[str, Any]:
        """Settings that identify the job's run folders, with dotted names."""
        return self.config.identity(*NOT_COMPARED)

    @cached_property
    def name(self) -> str:
        """A file name that is unique in the log folder."""
        # file names are limited to 255 bytes
        method = re.sub(r"[^\w.-]", "_", self.run.name, flags=re.ASCII)[:60]
        # a job with changed settings is another job, with its own log and lock
        values = json.dumps([self.settings, self.run.seeds], sort_keys=True)
        digest = hashlib.sha256(values.encode()).hexdigest()[:12]
        return f"{method}-{file_name_of(self.run.env)}-{digest}"

    @property
    def log_file(self) -> Path:
        """Log of the job's training processes."""
        return self.log_folder / JOBS / f"{self.name}.log"

    def make_lock(self) -> Lock:
        """Return a new handle to the job's lock, which the training process holds."""
        return Lock(self.log_folder / JOBS / f"{self.name}.lock")

    def start(
        self, lock: Lock, variables: Mapping[str, str] | None = None, new_session: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start `zoo train`.

        :param lock: lock of the job, already taken; the training process inherits it and keeps it if this process dies.
        :param variables: additional environment variables.
        :param new_session: start a new session, which Ctrl-C in the terminal does not reach.
        """
        with self.log_file.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, str(TRAIN), *self.words],
                stdout=subprocess.DEVNULL,  # the result, which is also in the run folders
                stderr=file,
                env={**os.environ, **(variables or {})},
                pass_fds=lock.descriptors,
                start_new_session=new_session,
            )

    def last_message(self) -> str:
        """Return the log's last non-empty line, or an empty string if there is no log."""
        if not self.log_file.exists():
            return ""
        text = self.log_file.read_text(encoding="utf-8", errors="replace")
        # without the hint first, because it may follow the line break at the end of an error's text
        text = text.replace(TRACEBACK_HINT, "").strip()
        return text.rpartition("\n")[2].strip()


def make_jobs(suite: Suite, runs: Sequence[Run], log_folder: Path, device: str) -> list[Job]:
    """Check the settings of runs, and return a job for each run.

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
            conf_file=Path(suite.conf).expanduser() if suite.conf else None,
            label=run.label or None,
            hyperparams=as_words(suite.params) + as_words(run.params),  # later words win
            dataset=suite.dataset,
            dataset_dir=suite.dataset_dir or None,
            env_kwargs=as_words(suite.env_kwargs),
            gym_packages=tuple(suite.gym_packages),
            log_folder=log_folder,
            device=device,
            resume=True,  # a second start of the suite continues the run
        )
        try:
            config = plan_run(request).config
        except UsageError as error:
            raise UsageError(f"{run}: {error}") from error
        # another machine may not be able to import the method's class
        config = replace(config, method=None)
        jobs.append(Job(run, command_line(request), config, log_folder))
    return jobs


def command_line(request: TrainRequest) -> list[str]:
    """Return the arguments with which ``zoo train`` makes a request; its `run` must be empty, as in suites."""
    words: list[str] = []
    for entry in fields(request):
        value = getattr(request, entry.name)
        flag = f"--{entry.name.replace('_', '-')}"
        if value == entry.default or entry.name == "run":
            continue
        if value is True:
            words.append(flag)
        elif isinstance(value, tuple):
            words += [flag, *map(str, value)]
        else:
            words.append(f"{flag}={value}")  # one word, because a value may start with a dash
    return words


def python_path() -> str:
    """Return a PYTHONPATH for jobs: the folder that contains `zoo`, then the PYTHONPATH of this process."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


# -- states of jobs ---------------------------------------------------------------------------------------------------


class State(StrEnum):
    """State of a job."""

    FINISHED = "done"
    DIVERGED = "diverged"
    """Every replica has diverged, and would diverge again with the same seed."""
    FAILED = "failed"
    """A failed job is tried again at the next start of the suite."""
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    WAITING = "waiting"


@dataclass(frozen=True)
class JobStatus:
    """A job and its state.

    :param run: the job's run folders; None if there are none yet.
    """

    job: Job
    state: State
    run: StoredRun | None

    @property
    def is_final(self) -> bool:
        """Whether the job needs no more training."""
        return self.state in (State.FINISHED, State.DIVERGED)


def status_of(job: Job) -> JobStatus:
    """Return the state of a job."""
    # tested before the runs are read, because a process that ends writes their state before it releases the lock
    is_held = job.make_lock().is_held()
    stored, _ = stored_runs(job.log_folder, job.config.algo, job.run.env)
    same = matching_runs(job.settings, list(job.run.seeds), stored, *NOT_COMPARED)
    # the same settings and seeds may have been trained twice; prefer a run that needs no more training
    run = min(same, key=lambda run: not (run.is_done or run.has_diverged), default=None)
    # a finished run stays finished, even while its lock is held
    if run and run.is_done:
        return JobStatus(job, State.FINISHED, run)
    if run and run.has_diverged:
        return JobStatus(job, State.DIVERGED, run)
    if is_held:
        return JobStatus(job, State.RUNNING, run)
    # the other seeds of an interrupted run may have diverged before
    if run and any(status["state"] != "failed" for status in run.statuses):
        return JobStatus(job, State.INTERRUPTED, run)
    # a process that has written a log but no run folder failed before its first step
    state = State.FAILED if run or job.log_file.exists() else State.WAITING
    return JobStatus(job, state, run)


@contextlib.contextmanager
def stopping_jobs() -> Iterator[StopSignal]:
    """Yield a request to stop, which signals within the block set; raise Interrupted after the block if it is set."""
    stop = StopSignal("stopping; every run writes a checkpoint first")
    with handling_signals(stop.handle):
        yield stop
    if stop.requested:
        raise Interrupted("stopped by a signal; start the same command again to continue")


def warn_of_failure(job: Job, problem: str) -> None:
    """Log the failure of a training process and the state of its job, which may be final."""
    log.warning("%s: %s: %s; see %s", status_of(job).state, job.run, problem, job.log_file)


def print_jobs(statuses: Sequence[JobStatus]) -> None:
    """Print a table of jobs and, below it, the last messages of jobs that are neither done nor running."""
    rows = []
    lines = []
    for status in statuses:
        run = status.job.run
        rows.append(
            (
                status.state,
                run.name,
                short_name(run.env),
                ", ".join(map(str, run.seeds)),
            )
        )
        if status.state in (State.FINISHED, State.RUNNING):
            continue
        # not the reason in the run folders, because a later process may have failed before it changed them
        message = status.job.last_message()
        if message:
            lines.append(f"! {status.state}: {run}; last message: {message}")
    header = ("state", "method", "environment", "seeds")
    terminal().print(make_table("Jobs", header, rows, unbroken=header[:1]), *lines, sep="\n")


def summarise(statuses: Sequence[JobStatus]) -> dict[str, Any]:
    """Return the numbers of jobs, of runs (one per seed), and of jobs in each state."""
    counts = Counter(status.state for status in statuses)
    return {
        "jobs": len(statuses),
        "runs": sum(len(status.job.run.seeds) for status in statuses),
        **{state: counts[state] for state in State},
    }
