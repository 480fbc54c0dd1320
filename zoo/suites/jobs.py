"""A job: one start of the training program for a suite; what has become of the jobs, and what is left will cost."""

import contextlib
import hashlib
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Group
from rich.live import Live
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.sb3.model import FlowQLearning
from zoo.processes.locks import Lock
from zoo.runs.folder import UnreadableRun, file_name_of
from zoo.runs.read import read_speed
from zoo.runs.resume import StoredRun, describe_step, nearest, stored_runs
from zoo.settings.layers import flatten
from zoo.settings.record import RunRecord
from zoo.suites.suite import Run, Suite
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log
from zoo.terminal.tables import print_table, terminal
from zoo.training.flags import make_parser
from zoo.training.start import describe_run, make_model, read_request

MOST_LETTERS = 60
JOBS = ".jobs"
"""Folder, in a log folder, of what was said while jobs were trained, and how that ended."""
NOT_COMPARED = ("machine", "data")
"""Roles of what is only known where a run is trained: how its machine computes, and the content of the data."""


class State(StrEnum):
    """What has become of a job."""

    DONE = "done"
    KEPT = "kept"
    """Its run folders are not here, but its scores are kept."""
    DIVERGED = "diverged"
    """Every replica has diverged: a result too, and the same again with the same seeds."""
    FAILED = "failed"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    WAITING = "waiting"

    @property
    def is_final(self) -> bool:
        """Whether there is nothing left to train."""
        return self in (State.DONE, State.KEPT, State.DIVERGED)


@dataclass(frozen=True)
class Job:
    """One start of the training program.

    :param words: its command line.
    :param config: what its run folders must say.
    """

    run: Run
    log_folder: Path
    words: tuple[str, ...]
    config: RunRecord = field(repr=False)

    @property
    def algo(self) -> str:
        """Id of its algorithm, which its suite may call otherwise."""
        return self.config.algo

    @property
    def settings(self) -> dict[str, Any]:
        """What a run folder's settings must be, with dotted names, to be of this job."""
        return self.config.identity(*NOT_COMPARED)

    @property
    def steps(self) -> int:
        """Gradient steps and environment steps of a replica, all phases together."""
        run = self.config.run
        return run.pretraining_steps + run.offline_steps + run.online_steps

    @property
    def name(self) -> str:
        """A name that no other job in the log folder has, fit for a folder."""
        method = re.sub(r"[^\w.-]", "_", self.run.label or self.algo)[:MOST_LETTERS]
        return f"{method}-{file_name_of(self.run.env)}-{digest_of(self.settings, self.run.seeds)}"

    @property
    def digest(self) -> str:
        """A hash of the settings and of how many seeds are trained together, equal for all seeds."""
        return digest_of(self.settings, len(self.run.seeds))

    @property
    def log(self) -> Path:
        """File of what its training processes have said."""
        return self.log_folder / JOBS / f"{self.name}.log"

    @property
    def lock(self) -> Lock:
        """The lock of what trains it."""
        return Lock(self.log.with_suffix(".lock"))

    @property
    def record(self) -> Path:
        """File of how its last attempt ended, and how long all have taken; see :meth:`ended`."""
        return self.log.with_suffix(".json")

    def ended(self) -> dict[str, Any]:
        """Return what `record` says: ``outcome``, ``reason``, ``exit_code`` and ``seconds``, if there is one."""
        try:
            return dict(json.loads(self.record.read_bytes()))
        except FileNotFoundError:
            return {}
        except (TypeError, ValueError) as error:
            raise UsageError(f"{self.record} is damaged ({error}); remove it, and its attempts do not count") from error

    def find(self) -> StoredRun | None:
        """Return its newest run, one that has reached its end if possible; None if it has not started."""
        settings = self.settings
        same = [run for run in self._runs() if run.record.identity(*NOT_COMPARED) == settings]
        return min(same, key=lambda run: not _result(run).is_final) if same else None

    def state_of(self, run: StoredRun | None) -> State:
        """Return what has become of it, given what :meth:`find` has found."""
        state = State.WAITING if run is None else _result(run)
        if state.is_final:
            return state
        if self.lock.is_held():
            return State.RUNNING
        return State.FAILED if self.ended().get("outcome") == State.FAILED else state

    def why_due(self) -> str:
        """Return how it differs from the run of its seeds and label that is nearest to it; empty if there is none."""
        runs = [run for run in self._runs() if run.record.label == self.config.label]
        return nearest(self.settings, None, runs, *NOT_COMPARED) if runs else ""

    def _runs(self) -> list[StoredRun]:
        """Return the runs of its algorithm, environment and seeds, newest first."""
        runs, _ = stored_runs(self.log_folder, self.algo, self.run.env)
        return [run for run in runs if tuple(run.seeds) == self.run.seeds]


def make_jobs(suite: Suite, runs: Sequence[Run], log_folder: Path, machine: Sequence[str] = ()) -> list[Job]:
    """Return a job for each run of a suite, its settings checked.

    :param machine: flags of the training program that change no settings, e.g. ``("--device", "cuda")``.
    :raises UsageError: if a run cannot be trained here.
    """
    jobs = []
    for run in runs:
        try:
            jobs.append(_make_job(suite, run, log_folder, machine))
        except UsageError as error:
            raise UsageError(f"{run}: {error}") from error
    return jobs


def _make_job(suite: Suite, run: Run, log_folder: Path, machine: Sequence[str]) -> Job:
    words = ["--algo", run.algo, "--env", run.env, "--seeds", *map(str, run.seeds), "-f", str(log_folder)]
    words += ["--quick"] if suite.quick else ["--profile", suite.profile]
    if run.label:
        words += ["--label", run.label]
    words += ["--dataset", suite.dataset]
    if suite.dataset_dir:
        words += ["--dataset-dir", suite.dataset_dir]
    if suite.gym_packages:
        words += ["--gym-packages", *suite.gym_packages]
    for flag, values in (("--env-kwargs", suite.env_kwargs), ("-params", run.params)):
        if values:
            words += [flag, *(f"{name}={json.dumps(value)}" for name, value in flatten(values))]
    words += [*machine, "--resume"]
    args = make_parser().parse_args(words)
    config = describe_run(read_request(args).config, None, args)
    return Job(run, log_folder, tuple(words), replace(config, method=None))


def digest_of(*values: Any) -> str:
    """Return a short hash of plain values, such as settings."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def _result(run: StoredRun) -> State:
    """Return what the run folders of a run say."""
    if run.is_done:
        return State.DONE
    diverged = [str(status.get("reason", "")) for status in run.statuses if status["state"] == "failed"]
    if len(diverged) == len(run.statuses) and all(reason.startswith("training diverged") for reason in diverged):
        return State.DIVERGED
    return State.INTERRUPTED


# -- how far a suite is, and what is left will cost -------------------------------------------------------------------


PROBLEMS = (State.FAILED, State.DIVERGED)
TRIAL_SECONDS = 2.0
TRIAL_ROWS = 5_000


@dataclass(frozen=True)
class Look:
    """A job as it was found."""

    job: Job
    state: State
    seconds: float = 0.0
    """Time of its training process, all attempts together, as far as they have ended."""
    folder_bytes: int = 0
    """Size of its run folders."""
    reason: str = ""
    """Why it failed last, or is due although it was trained."""
    run: StoredRun | None = None
    """Its run folders; None if it has not started."""


def look_at(jobs: Iterable[Job], kept: Collection[str] = ()) -> list[Look]:
    """Return the jobs as they are now.

    :param kept: names of jobs whose scores are kept, which need no run folders.
    """
    looks = []
    for job in jobs:
        run = job.find()
        ended = job.ended()
        state = job.state_of(run)
        if job.name in kept and not state.is_final:
            state = State.KEPT
        size = sum(_size(folder.path) for folder in run.folders) if run else 0
        reason = job.why_due() if state is State.WAITING else ""
        if state in PROBLEMS:
            reason = str(ended.get("reason") or "")
        looks.append(Look(job, state, ended.get("seconds", 0.0), size, reason, run))
    return looks


@dataclass(frozen=True)
class Forecast:
    """What is left to do.

    :param left: how many jobs.
    :param seconds: of one worker; None if nothing is known.
    :param disk_bytes: what the jobs left will write.
    """

    left: int
    seconds: float | None
    disk_bytes: float = 0.0


def forecast(looks: Sequence[Look], trials: Mapping[str, float] | None = None) -> Forecast:
    """Estimate what is left.

    The time of a job is that of finished ones of the same algorithm and domain, by steps and seeds. Where there is
    none, it is that of the algorithm's trial, then that of all.

    :param trials: seconds per step and replica of algorithms that were tried, see :func:`try_algorithms`.
    """
    trials = trials or {}
    left = [look for look in looks if not look.state.is_final]
    done = [look for look in looks if look.state is State.DONE and look.seconds]
    if left and not (done or trials):
        return Forecast(len(left), None)
    rates: dict[tuple[str, str], list[float]] = {}
    for look in done:
        rates.setdefault(_kind(look), []).append(look.seconds / _size_of_work(look))
    average = statistics.mean(rate for known in (*rates.values(), trials.values()) for rate in known) if left else 0.0
    seconds = 0.0
    for look in left:
        known = rates.get(_kind(look), [trials.get(look.job.algo, average)])
        seconds += statistics.mean(known) * _size_of_work(look)
    size = statistics.mean([look.folder_bytes / len(look.job.run.seeds) for look in done] or [0.0])
    disk = sum(max(0.0, size * len(look.job.run.seeds) - look.folder_bytes) for look in left)
    return Forecast(len(left), seconds, disk)


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


def show(looks: Sequence[Look], workers: int | None, expected: Forecast) -> None:
    """Print how far the suite is, and what failed."""
    by_method: dict[str, Counter[State]] = {}
    for look in looks:
        by_method.setdefault(_kind(look)[0], Counter())[look.state] += 1
    by_method["all"] = Counter(look.state for look in looks)
    rows = [(method, *(str(counts[state] or "") for state in State)) for method, counts in by_method.items()]
    print_table("Jobs", ("method", *State), rows)
    terminal().print(describe(looks, workers, expected))


def describe(looks: Sequence[Look], workers: int | None, expected: Forecast) -> str:
    """Return what is left in a few lines of text."""
    seeds = sum(len(look.job.run.seeds) for look in looks)
    lines = [f"{len(looks)} jobs, {seeds} runs (one per seed); {expected.left} jobs left"]
    if expected.left and expected.seconds is None:
        lines.append("no job has finished yet, so nothing is known of their time; --dry-run tries each algorithm")
    elif expected.seconds:
        hours = expected.seconds / 3600
        each = f", {hours / workers:.1f} h with {workers} workers" if workers and workers > 1 else ""
        lines.append(f"{hours:.1f} h of one worker{each}, and {expected.disk_bytes / 1e9:.1f} GB")
    lines += [f"{look.state}: {look.job.run}: {look.reason}" for look in looks if look.reason]
    return "\n".join(lines)


def summary(looks: Sequence[Look], expected: Forecast) -> dict[str, Any]:
    """Return the same for other programs."""
    return {
        "jobs": len(looks),
        "runs": sum(len(look.job.run.seeds) for look in looks),
        **{str(state): sum(look.state is state for look in looks) for state in State},
        "hours_left": None if expected.seconds is None else round(expected.seconds / 3600, 2),
        "gigabytes_left": None if expected.seconds is None else round(expected.disk_bytes / 1e9, 2),
        "problems": [
            {"job": str(look.job.run), "state": str(look.state), "reason": look.reason}
            for look in looks
            if look.state in PROBLEMS
        ],
    }


# -- how far the jobs are while they are trained: a line for each that runs, and how many have ended -------------------


SECONDS_BETWEEN_LOOKS = 5.0
SHARE_OF_LOOKING = 0.1
"""How much of its time a program may spend on reading run folders: of a large suite on slow storage, a long time."""


def follow(jobs: Sequence[Job], has_ended: Callable[[float], bool]) -> None:
    """Say how far jobs are until their tasks have ended: in a terminal again and again, elsewhere what has changed.

    :param has_ended: waits for some seconds; returns whether all tasks have ended.
    """
    left = list(jobs)
    told = ""
    pause = 0.0
    console = terminal()
    with (
        Live(console=console, auto_refresh=False, transient=True)
        if console.is_terminal
        else contextlib.nullcontext() as live
    ):
        while not has_ended(pause):
            begin = time.monotonic()
            found = [(job, job.find()) for job in left]
            seen = [(job, run, job.state_of(run)) for job, run in found]
            left = [job for job, _, state in seen if not state.is_final]
            counts = Counter(state for _, _, state in seen if not state.is_final)
            now = [f"{counts[state]} {state}" for state in State if counts[state]]
            text = ", ".join([f"{len(jobs) - len(left)} of {len(jobs)} jobs are done", *now])
            if live is not None:
                running = [
                    f"{job.run}: {describe_progress(run)}" for job, run, state in seen if run and state is State.RUNNING
                ]
                live.update(Group(*running, text), refresh=True)
            elif text != told:
                log.info(text)
            told = text
            pause = max(SECONDS_BETWEEN_LOOKS, (time.monotonic() - begin) / SHARE_OF_LOOKING)


def describe_progress(run: StoredRun) -> str:
    """Return in a few words which step a run has reached, and its last score, the mean over its seeds."""
    logged = read_speed(run.folders[0])
    words = [describe_step(run, 0 if logged is None else logged[0])]
    with contextlib.suppress(UnreadableRun):  # none has been evaluated yet
        found = [folder.read_evaluations() for folder in run.folders]
        name = "successes" if all("successes" in arrays for arrays in found) else "results"
        score = float(np.mean([arrays[name][-1].mean() for arrays in found]))
        words.append(f"success {score:.1%}" if name == "successes" else f"return {score:.2f}")
    return ", ".join(words)


# -- how fast an algorithm trains on this machine: a short trial with empty data ----------------------------------


def try_algorithms(looks: Sequence[Look]) -> dict[str, float]:
    """Try every algorithm that has jobs left and no finished one; return its seconds per step and replica."""
    known = {look.job.algo for look in looks if look.state is State.DONE and look.seconds}
    jobs = {look.job.algo: look.job for look in looks if not look.state.is_final and look.job.algo not in known}
    found = {}
    for algo, job in jobs.items():
        log.info("trying for some seconds how fast %s trains on this machine", algo)
        request = read_request(make_parser().parse_args(job.words))
        model = make_model(request, list(job.run.seeds), None)
        model.load_dataset(_empty_dataset(model))
        online = partial(model.learn, reset_num_timesteps=False)
        train = model.learn_offline if isinstance(model, FlowQLearning) else online  # the phase that it has
        train(2)  # warms up
        steps = 0
        begin = time.perf_counter()
        while time.perf_counter() - begin < TRIAL_SECONDS:
            train(more := max(1, steps))
            steps += more
        seconds = time.perf_counter() - begin
        model.get_env().close()  # type: ignore[union-attr]
        found[algo] = seconds / steps / len(job.run.seeds)
    return found


def _empty_dataset(model: OffPolicyAlgorithm) -> dict[str, np.ndarray]:
    """Return trajectories of 200 steps for a model's spaces; what is in them makes an update no slower."""
    assert isinstance(model.replay_buffer, SequenceReplayBuffer)
    assert model.action_space.shape is not None
    layout = model.replay_buffer.stored
    seen = np.zeros((TRIAL_ROWS, *layout.row_shape), np.uint8 if layout.dtype == torch.uint8 else np.float32)
    return {
        "observations": seen,
        "next_observations": seen,
        "actions": np.zeros((TRIAL_ROWS, *model.action_space.shape), np.float32),
        "rewards": np.full(TRIAL_ROWS, -1, np.float32),
        "masks": np.ones(TRIAL_ROWS, np.float32),
        "terminals": (np.arange(TRIAL_ROWS) % 200 == 199).astype(np.float32),
    }
