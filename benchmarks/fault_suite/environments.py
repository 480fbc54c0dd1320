"""Environments that misbehave: they hang, crash, exit, return what nobody can train on, or change their spaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import (
    DONE,
    FAILED,
    KILLED,
    REFUSED,
    TINY,
    Broken,
    Lab,
    require,
    require_named,
    require_untouched,
    snapshot,
)
from benchmarks.fault_suite.misbehaving import ENV, VALUES
from benchmarks.fault_suite.programs import Ended
from benchmarks.fault_suite.workers import PATIENCE

NAME = ENV.partition(":")[2]
LOSSES = ("hang", "SIGSEGV", "os._exit")
"""What ends or stops the process of an environment."""


def _train(lab: Lab, logs: Path, training: str, evaluation: str, *more: str, **how: Any) -> Ended:
    """Train with one process that plays evaluations, as on one core, and with arguments of both environments."""
    words = ["--algo", "qam", "--env", ENV, "-f", str(logs), "--device", "cpu", "--seed", "3", *more]
    words += ["--offline-steps", "0", "--online-steps", "9", "--eval-freq", "5", "--eval-episodes", "2"]
    words += ["--n-eval-envs", "1", "--save-freq", "3", "-params", *TINY, "learning_starts=4"]
    words += ["--env-kwargs", *training.split(), "--eval-env-kwargs", *evaluation.split()]
    return lab.programs.run("train", words, constants=PATIENCE, **how)


def _folder(logs: Path) -> Path:
    return next((logs / "qam").glob("*_1"))


def _require_failed(logs: Path, ended: Ended, *names: str) -> None:
    """Require that a run has failed, that the environment is named, and that training is not blamed."""
    require_named(ended.err, *names)
    status = json.loads((_folder(logs) / "status.json").read_text())
    if status["state"] != "failed" or "diverged" in status["reason"]:
        raise Broken(f"the run's state is {status['state']}: {status.get('reason')}")


@kind(
    "environment-lost",
    "an environment of the evaluation that hangs, crashes or exits once, on one core",
    "its episodes are played again; the run ends with the same evaluations",
    6,
)
def lose_once(lab: Lab) -> None:
    """Let an environment stop its process, once."""
    wrong, at = LOSSES[lab.seed % 3], ("step", "reset")[lab.seed // 3 % 2]
    require(_train(lab, lab.folder / "whole", "at=step", "at=step"), DONE)
    mark = f"mark={lab.folder / 'mark'}"
    require(_train(lab, lab.folder / "logs", "at=step", f"wrong={wrong} at={at} {mark}"), DONE)
    if not (lab.folder / "mark").exists():
        raise Broken("the environment did nothing wrong")
    found, expected = (_folder(lab.folder / name) / "evaluations.npz" for name in ("logs", "whole"))
    if found.read_bytes() != expected.read_bytes():
        raise Broken("evaluations.npz differs")


@kind(
    "environment-lost-again",
    "one that does so each time, or that calls sys.exit(0)",
    "exit code 1 within half a minute, with the environment's name",
    4,
)
def lose_always(lab: Lab) -> None:
    """Let an environment of the evaluation stop its process each time."""
    logs, wrong = lab.folder / "logs", (*LOSSES, "exit")[lab.seed % 4]
    _require_failed(logs, require(_train(lab, logs, "at=step", f"wrong={wrong}"), FAILED), NAME)


@kind(
    "environment-values",
    "1e300 as observation or reward, 0.9999 as success, sys.exit(0), in training or evaluation",
    "exit code 1 with the environment's name, the step and the value; not a divergence",
    8,
)
def give_wrong_values(lab: Lab) -> None:
    """Let an environment return what cannot be trained on, or exit."""
    logs, wrong = lab.folder / "logs", (*VALUES, "exit")[lab.seed % 4]
    arguments = ("at=step", f"wrong={wrong}")
    ended = require(_train(lab, logs, *(arguments if lab.seed // 4 % 2 else arguments[::-1])), FAILED)
    _require_failed(logs, ended, NAME, "at step 3", str(VALUES.get(wrong, "SystemExit")))


@kind(
    "environment-suite",
    "an environment that returns 1e300, in a suite",
    "the job fails, with the environment's name; exit code 1",
    1,
)
def fail_in_suite(lab: Lab) -> None:
    """Train a job whose environment is at fault."""
    steps = {"offline_steps": 0, "online_steps": 9, "eval_freq": 5, "eval_episodes": 1}
    suite = {"algorithms": ["qam"], "environments": [ENV], "seeds": "3", "params": {**steps, "net_arch": [8]}}
    path = lab.folder / "suite.yml"
    path.write_text(json.dumps({**suite, "env_kwargs": {"wrong": "observation"}}))  # YAML too
    words = [str(path), "-f", str(lab.folder / "logs"), "--device", "cpu", "--workers", "1", "--retries", "0"]
    ended = require(lab.programs.run("benchmark", [*words, "--no-report"]), FAILED)
    require_named(ended.err, NAME, "1e+300")


@kind(
    "environment-spaces",
    "an environment whose action box has grown before a resume",
    "refused with both boxes (exit 2); the run stays as it is",
    2,
)
def change_spaces(lab: Lab) -> None:
    """Resume a run whose environment has another action box now."""
    logs, wide = lab.folder / "logs", lab.folder / "wide"
    arguments = f"wide={wide}"
    require(_train(lab, logs, arguments, arguments, kill=("step", 5 + lab.seed)), KILLED)
    before = snapshot(_folder(logs))
    wide.touch()
    ended = require(_train(lab, logs, arguments, arguments, "--resume"), REFUSED)
    require_named(ended.err, "Box(-1.0, 1.0, (1,), float32)", "Box(-2.0, 2.0, (1,), float32)")
    require_untouched(_folder(logs), before)
