"""A job: one start of the training program for a suite, and what its run folders must say."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo.runs.folder import file_name_of
from zoo.settings.config import lasting_identity
from zoo.settings.layers import flatten
from zoo.settings.record import RunRecord
from zoo.settings.request import TrainRequest
from zoo.suites.suite import Run, Suite
from zoo.terminal.errors import UsageError
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
        digest = hash_values(lasting_identity(self.config, *NOT_COMPARED), self.run.seeds)
        return f"{method}-{file_name_of(self.run.env)}-{digest}"

    @property
    def settings_hash(self) -> str:
        """A hash of the settings and of how many seeds are trained together, equal for all seeds and releases."""
        return hash_values(lasting_identity(self.config, *NOT_COMPARED), len(self.run.seeds))

    @property
    def settings_hashes(self) -> set[str]:
        """`settings_hash`, and that of release 1.0 for an algorithm of which it is not known what it had then."""
        return {self.settings_hash, hash_values(self.settings, len(self.run.seeds))}


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
