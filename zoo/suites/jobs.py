"""A job: one start of the training program for a suite, and what has become of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from zoo.errors import BAD_INPUT, UsageError
from zoo.runs.claims import HIDDEN, STALE_SECONDS, Claims
from zoo.runs.folder import file_name_of
from zoo.runs.history import PHASES
from zoo.runs.resume import StoredRun, comparable, stored_runs
from zoo.settings.layers import flatten
from zoo.suites.suite import Run, Suite
from zoo.training.arguments import make_parser
from zoo.training.options import read_request
from zoo.training.record import describe_run

MOST_LETTERS = 60
NOT_COMPARED = ("dataset", "settings.precision", "settings.compile")
"""What is only known where a run is trained: the content of the data, and how its machine computes."""
OF_IMAGES = {"settings.encoder": None, "settings.frame_stack": 1, "settings.random_crop": 0.0}
"""Settings at the values that have no effect: left out, so that scores of vectors that were kept keep their hash."""


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
class Machine:
    """Where and how the runs of a suite are trained; it changes no settings.

    :param words: flags of the training program, e.g. ``("--device", "cuda")``.
    """

    log_folder: Path
    words: tuple[str, ...] = ()
    stale_after: float = STALE_SECONDS


@dataclass(frozen=True)
class Job:
    """One start of the training program.

    :param words: its command line.
    :param settings: what a run folder's settings must be, with dotted names, to be of this job.
    :param steps: gradient steps and environment steps of a replica, all phases together.
    :param ends: the step of the last evaluation of each phase.
    """

    run: Run
    machine: Machine
    words: tuple[str, ...]
    algo: str
    settings: Mapping[str, Any] = field(repr=False)
    steps: int = 0
    ends: Mapping[str, int] = field(default_factory=dict)

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
    def claims(self) -> Claims:
        """Who may train it."""
        return Claims(self.machine.log_folder / HIDDEN / self.name, self.machine.stale_after)

    def find(self) -> StoredRun | None:
        """Return its newest run, one that has reached its end if possible; None if it has not started."""
        same = [
            run
            for run in stored_runs(self.machine.log_folder, self.algo, self.run.env)[0]
            if tuple(run.seeds) == self.run.seeds and _compared(run.settings) == self.settings
        ]
        return min(same, key=lambda run: not _result(run).is_final) if same else None

    def state(self) -> State:
        """Return what has become of it."""
        return self.state_of(self.find())

    def state_of(self, run: StoredRun | None) -> State:
        """Return what has become of it, given what :meth:`find` has found."""
        state = State.WAITING if run is None else _result(run)
        if state.is_final:
            return state
        if self.claims.holder() is not None:
            return State.RUNNING
        ended = self.claims.ended()
        return State.FAILED if ended and ended[-1]["outcome"] == State.FAILED else state

    def has_failed(self, launch: str, retries: int) -> bool:
        """Return whether it has failed too often, or for good, since a start of the benchmark program."""
        own = [end for end in self.claims.ended() if end.get("launch") == launch and end["outcome"] == State.FAILED]
        return len(own) > retries or any(end.get("exit_code") == BAD_INPUT for end in own)


def make_jobs(suite: Suite, runs: Sequence[Run], machine: Machine) -> list[Job]:
    """Return a job for each run of a suite, its settings checked; raise UsageError if one is wrong."""
    return [_make_job(suite, run, machine) for run in runs]


def _make_job(suite: Suite, run: Run, machine: Machine) -> Job:
    words = ["--algo", run.algo, "--env", run.env, "--seeds", *map(str, run.seeds), "-f", str(machine.log_folder)]
    words += ["--quick"] if suite.quick else ["--profile", suite.profile]
    words += ["--label", run.label] if run.label else []
    words += ["--dataset", suite.dataset]
    words += ["--dataset-dir", suite.dataset_dir] if suite.dataset_dir else []
    words += ["--gym-packages", *suite.gym_packages] if suite.gym_packages else []
    for flag, values in (("--env-kwargs", suite.env_kwargs), ("-params", run.params)):
        words += [flag, *(f"{name}={json.dumps(value)}" for name, value in flatten(values))] if values else []
    words += machine.words
    args = make_parser().parse_args(words)
    try:
        request = read_request(args)
    except UsageError as error:
        raise UsageError(f"{run}: {error}") from error
    settings = _compared(comparable(describe_run(request.config, None, args)))
    each = request.config.run
    steps = each.pretraining_steps + each.offline_steps + each.online_steps
    ends = dict(zip(PHASES, (each.offline_steps, each.offline_steps + each.online_steps), strict=True))
    ends = {phase: end for phase, end in ends.items() if getattr(each, f"{phase}_steps")}
    return Job(run, machine, (*words, "--resume"), request.config.algo, settings, steps, ends)


def digest_of(*values: Any) -> str:
    """Return a short hash of plain values, such as settings."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that tell jobs apart."""
    return {
        name: value
        for name, value in settings.items()
        if not any(name == left or name.startswith(f"{left}.") for left in NOT_COMPARED)
        and (name, value) not in OF_IMAGES.items()
    }


def _result(run: StoredRun) -> State:
    """Return what the run folders of a run say."""
    if run.is_done:
        return State.DONE
    diverged = [str(status.get("reason", "")) for status in run.statuses if status["state"] == "failed"]
    if len(diverged) == len(run.statuses) and all(reason.startswith("training diverged") for reason in diverged):
        return State.DIVERGED
    return State.INTERRUPTED
