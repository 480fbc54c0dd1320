"""Studies whose trials are functions, in place of training runs in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import UsageError
from zoo.processes.serving import WorkerError
from zoo.tuning import study as tuning
from zoo.tuning.trial import COMPLETE, Job, Outcome

ENV = "pointmaze-medium-navigate-singletask-task1-v0"
Objective = Callable[[Job], Outcome]


class FakeProcess:
    """Answers with what a function makes of a job, which may raise what a real process may raise."""

    objective: Objective

    def __init__(self, *_: Any, **__: Any) -> None:
        self._reading, self._writing = os.pipe()
        self._answer: Outcome | Exception | None = None

    def send(self, job: Job) -> None:
        try:
            self._answer = type(self).objective(job)
        except (UsageError, WorkerError) as error:
            self._answer = error
        os.write(self._writing, b"!")

    def receive(self) -> Outcome | None:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def fileno(self) -> int:
        return self._reading

    def interrupt(self) -> None: ...

    def kill(self) -> None: ...

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


def use_fakes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Objective], None]:
    """Make all trials functions; return what sets the function for those from now on."""

    def use(function: Objective) -> None:
        monkeypatch.setattr(FakeProcess, "objective", staticmethod(function), raising=False)

    monkeypatch.setattr(tuning, "ServingProcess", FakeProcess)
    use(near_three)
    return use


def near_three(job: Job) -> Outcome:
    """Score two replicas by how near the inverse temperature is to 3."""
    score = 1 / (1 + abs(job.args.trial["settings"]["inverse_temperature"] - 3.0))
    return Outcome(COMPLETE, [score, score / 2])


def words(logs: Path, *more: str) -> list[str]:
    """Return a command line of ``zoo tune`` with a name of its study."""
    return ["--algo", "qam", "--env", ENV, "-f", str(logs), "--seeds", "7", "8", "--study-name", "s", *more]
