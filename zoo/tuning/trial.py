"""A trial: one training run with a trial's settings, in a process of its own, and how another run finds them."""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from agents.common.replicas import Diverged
from zoo.errors import Interrupted, UsageError
from zoo.runs.folder import describe_error, find_run_folders
from zoo.runs.history import EvaluationHistory
from zoo.runs.protocol import shortened
from zoo.runs.resume import differences
from zoo.runs.scores import RETURN, SUCCESS
from zoo.settings.config import find_entry
from zoo.terminal.messages import FILE_ONLY, log, messages
from zoo.training.options import read_request
from zoo.training.start import train
from zoo.tuning.journal import JOURNAL, STUDIES, open_journal, study_folder, study_names
from zoo.tuning.options import Plan, define

COMPLETE, PRUNED, FAILED, INTERRUPTED = "complete", "pruned", "failed", "interrupted"
SETTINGS, DEFINITION = "settings", "definition"
"""Names of the attribute of a trial with its settings, and of that of a study with what all of its trials share."""


class Pruned(Interrupted):
    """A trial was ended early because it does worse than others did; its run ends as ``interrupted``."""


@dataclass(frozen=True)
class Job:
    """What a trial's process is to do.

    :param args: the command line of the training, with the trial's settings.
    :param trial_id: Optuna's id of the trial, which is not its number.
    :param command: what the user has typed.
    :param prepare: called first.
    """

    plan: Plan
    args: argparse.Namespace
    trial_id: int
    command: Sequence[str]
    prepare: Callable[[], None]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    :param state: complete, pruned, failed or interrupted.
    :param scores: of the replicas in the last evaluation.
    """

    state: str
    scores: list[float] = field(default_factory=list)
    reason: str = ""

    @property
    def score(self) -> float:
        """Mean over the replicas."""
        return float(np.mean(self.scores))


class TrialRunner:
    """Runs a trial; made in the trial's process."""

    def run(self, job: Job) -> Outcome:
        """Train, and return how it ended; bad input raises UsageError."""
        os.setpgrp()  # Ctrl-C in the terminal is for the program, which tells its trials
        sys.orig_argv = list(job.command)  # for the run's command.txt
        job.prepare()
        with messages(job.args.verbose):
            _wait_for_earlier_attempt(job.args.log_folder)
            try:
                return self._run(job)
            except Pruned as error:
                return Outcome(PRUNED, reason=str(error))
            except (Interrupted, KeyboardInterrupt):
                return Outcome(INTERRUPTED, reason="stopped by a signal")
            except Diverged as error:
                worst = worst_score(job.plan.request.has_success)
                return Outcome(COMPLETE, [worst] * len(job.plan.seeds), str(error))
            except UsageError:
                raise
            except Exception as error:
                log.log(FILE_ONLY, "%s", "".join(traceback.format_exception(error)).rstrip())
                return Outcome(FAILED, reason=describe_error(error))

    def _run(self, job: Job) -> Outcome:
        plan = job.plan
        study = optuna.load_study(
            study_name=plan.name,
            storage=open_journal(plan.journal),
            sampler=RandomSampler(),
            pruner=plan.make_pruner(),
        )
        watch = Watch(Trial(study, job.trial_id), plan.steps)
        return outcome_of(train(job.args, watch), plan.request.has_success)

    def close(self) -> None:
        """Nothing to end: the run has closed what it opened."""


class Watch:
    """Reports every evaluation of a run to its study, and ends the run where the study's pruner says so.

    Evaluations are numbered from 1. The one of step 0 tells nothing of the training and is not reported. A run that
    continues from a checkpoint has its earlier evaluations reported too.
    """

    def __init__(self, trial: Trial, steps: int) -> None:
        self._trial, self._steps, self._reported = trial, steps, 0

    def __call__(self, histories: Sequence[EvaluationHistory]) -> None:
        """Report the evaluations that are new."""
        arrays = [history.arrays() for history in histories]
        steps = max((each["timesteps"] for each in arrays), key=len)
        trained = np.flatnonzero(steps)
        if len(trained) == self._reported:
            return
        for number, row in enumerate(trained[self._reported :], start=self._reported + 1):
            score = float(np.mean(scores_of(arrays, row)))
            self._trial.report(score, number)
        self._reported = len(trained)
        if steps[-1] < self._steps and self._trial.should_prune():
            raise Pruned(f"score {score:.4g} in evaluation {len(trained)}, at step {steps[-1]}")


def scores_of(arrays: Sequence[dict[str, np.ndarray]], row: int) -> list[float]:
    """Return the scores of replicas in an evaluation: success, or the return where success is not known.

    A replica without that evaluation has diverged, and has the worst possible score.
    """
    name = "successes" if any("successes" in each for each in arrays) else "results"
    worst = worst_score(name == "successes")
    return [float(each[name][row].mean()) if len(each["timesteps"]) > row else worst for each in arrays]


def worst_score(has_success: bool) -> float:
    """Return the score of a replica that has diverged: no success, or the lowest return that can be thought of."""
    return (SUCCESS if has_success else RETURN).limits[0]


def outcome_of(result: dict[str, Any], has_success: bool) -> Outcome:
    """Return the outcome of a training program's result: the scores of its last evaluation."""
    runs = result.get("runs", [result])
    has_success = has_success or any(run["success"] is not None for run in runs)
    diverged = [run for run in runs if "reason" in run]
    scores = [
        worst_score(has_success) if "reason" in run else float(run["success" if has_success else "return"])
        for run in runs
    ]
    return Outcome(COMPLETE, scores, "; ".join(f"seed {run['seed']}: {run['reason']}" for run in diverged))


def end_runs(folder: Path, state: str, reason: str) -> None:
    """Record how runs ended whose process is gone and could not say it."""
    for run in find_run_folders([folder] if folder.is_dir() else []):
        status = run.read_status()
        if status["state"] == "running":
            run.write_ending(state, status["seed"], reason)


def _wait_for_earlier_attempt(folder: Path) -> None:
    """Wait until the process is gone that trained here before, which ends a moment after the one that started it."""
    folder.mkdir(parents=True, exist_ok=True)
    fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)  # until this process ends


# -- a trial of a study that another run begins with -----------------------------------------------------------------


def read_trial(study: str, trial_id: str, log_folder: Path, algo: str) -> dict[str, Any]:
    """Return the settings of a trial, and where they are from.

    :param study: name of a study below the log folder, its journal file, or ``FILE:NAME``.
    :param trial_id: its number, or ``"best"``.
    :param algo: which algorithm the settings are for.
    :return: ``settings``, ``source`` and ``shared``, what all trials of the study had in common.
    :raises UsageError: if there is no such study or trial, or it is another algorithm's; says what there is.
    """
    path, name = _find_study(study, log_folder)
    found = optuna.load_study(study_name=name, storage=open_journal(path))
    if DEFINITION not in found.user_attrs:
        raise UsageError(f"study `{name}` in {path} is not one of `zoo tune`; give one that is")
    tuned = found.user_attrs[DEFINITION]["algo"]
    if tuned != find_entry(algo).id:
        raise UsageError(f"study `{name}` has tuned {tuned}, got --algo {algo}; choose a study of that algorithm")
    trial = _find_trial(found, name, trial_id)
    score = f"score {trial.value:.4g}" if trial.state == TrialState.COMPLETE else "pruned"
    source = f"study {name}, trial {trial.number} ({score})"
    return {"settings": trial.user_attrs[SETTINGS], "source": source, "shared": found.user_attrs[DEFINITION]}


def tell_of_other_settings(args: argparse.Namespace) -> None:
    """Warn where a run that begins with a trial's settings is not as the trials of its study were."""
    there, now = args.trial.pop("shared"), define(read_request(args), args.trial["settings"])
    here = {**now, **{name: there.get(name) for name in ("seeds", "search", "eval_seed", "eval_freq")}}
    if found := shortened(differences(there, here)):
        log.warning("the settings of %s were tuned otherwise: %s", args.trial["source"], "; ".join(found))


def _find_study(study: str, log_folder: Path) -> tuple[Path, str]:
    """Return the journal file and the name of a study."""
    path, name = Path(study), ""
    if not path.is_file():
        before, _, name = study.rpartition(":")
        path = Path(before)
    if not path.is_file():
        path, name = study_folder(log_folder, study) / JOURNAL, study
    names = study_names(open_journal(path)) if path.is_file() else []
    name = names[0] if not name and len(names) == 1 else name
    if name in names:
        return path, name
    known = names or sorted(file.parent.name for file in (log_folder / STUDIES).glob(f"*/{JOURNAL}"))
    raise UsageError(
        f"`--study` expects the name of a study in {log_folder / STUDIES}, the journal file of one, or FILE:NAME, got "
        f"{study}; there are: {', '.join(known) or 'none'}"
    )


def _find_trial(study: optuna.Study, name: str, trial_id: str) -> FrozenTrial:
    """Return a trial that has been trained, by its number or as the best."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if trial_id == "best" and complete:
        return best_first(complete)[0]
    for trial in trials:
        if str(trial.number) == trial_id:
            return trial
    numbers = ", ".join(str(trial.number) for trial in trials) or "none yet"
    raise UsageError(
        f"study `{name}` has no finished trial `{trial_id}`; expected the number of one of these: {numbers}"
        + ("; or best" if complete else "")
    )


def best_first(complete: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return complete trials by their score, the earlier one first where scores are equal."""
    return sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))
