"""A trial: one training run with a trial's settings, and how another run finds them."""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
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
from zoo.tuning.options import Plan, define, suggest
from zoo.tuning.storage import DATABASE, STUDIES, is_url, open_storage, study_folder, study_names

SETTINGS, DEFINITION = "settings", "definition"
"""Names of the attribute of a trial with its settings, and of that of a study with what all of its trials share."""


class Pruned(Interrupted):
    """A trial was ended early because it does worse than others did; its run ends as ``interrupted``."""


class TrialFailed(Exception):
    """Training failed in a way that other settings may not; the study goes on."""


class Objective:
    """Trains the settings that Optuna proposes, and returns the score of the last evaluation.

    :param plan: the study.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __call__(self, trial: Trial) -> float:
        """Train a trial, or continue the one that it repeats.

        :return: mean score over the seeds.
        :raises optuna.TrialPruned: if the pruner ended it.
        :raises TrialFailed: if training failed.
        :raises UsageError: for bad input, which the next trial would find too.
        :raises Interrupted: after a signal; the trial is in the queue again.
        """
        settings = suggest(trial, self.plan.searches)
        trial.set_user_attr(SETTINGS, settings)
        frozen = trial.study.get_trials()[trial.number]
        first = first_attempt(frozen)
        log.info("trial %d%s: %s", trial.number, "" if first is None else f" (trial {first} again)", in_words(settings))
        folder = self.plan.folder / f"trial_{trial.number if first is None else first}"
        begin, reason = time.monotonic(), ""
        try:
            scores, reason = self._train(trial, folder, first is not None)
        except (Interrupted, KeyboardInterrupt) as error:
            reason = str(error) or "stopped by a signal"
            if isinstance(error, Pruned):
                raise optuna.TrialPruned(reason) from error
            RetryHeartbeatStaleTrialCallback()(trial.study, frozen)
            raise
        except UsageError as error:
            reason = str(error)
            raise
        except Exception as error:
            reason = describe_error(error)
            log.log(FILE_ONLY, "%s", "".join(traceback.format_exception(error)).rstrip())
            raise TrialFailed(reason) from error
        finally:
            trial.set_user_attr(
                "runs", [str(run.path) for run in find_run_folders([folder] if folder.is_dir() else [])]
            )
            trial.set_user_attr("reason", reason)
            trial.set_user_attr("seconds", round(time.monotonic() - begin, 1))
        trial.set_user_attr("scores", scores)
        return float(np.mean(scores))

    def _train(self, trial: Trial, folder: Path, resume: bool) -> tuple[list[float], str]:
        """Return the scores of a trial's seeds, and which of them diverged."""
        args = vars(self.plan.args)
        chosen = {"settings": trial.user_attrs[SETTINGS], "source": f"study {self.plan.name}, trial {trial.number}"}
        own = {"log_folder": folder, "trial": chosen, "resume": resume, "verbose": max(0, args["verbose"] - 1)}
        has_success = self.plan.request.has_success
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with messages(own["verbose"]):
                result = train(argparse.Namespace(**{**args, **own}), Watch(trial, self.plan.steps))
        except Diverged as error:
            return [worst_score(has_success)] * len(self.plan.seeds), str(error)
        return scores_of_result(result, has_success)


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


def scores_of_result(result: dict[str, Any], has_success: bool) -> tuple[list[float], str]:
    """Return the scores of the last evaluation in a training program's result, and why seeds diverged."""
    runs = result.get("runs", [result])
    has_success = has_success or any(run["success"] is not None for run in runs)
    diverged = [run for run in runs if "reason" in run]
    scores = [
        worst_score(has_success) if "reason" in run else float(run["success" if has_success else "return"])
        for run in runs
    ]
    return scores, "; ".join(f"seed {run['seed']}: {run['reason']}" for run in diverged)


def first_attempt(trial: FrozenTrial) -> int | None:
    """Return the number of the trial that a trial repeats; None if it repeats none."""
    return RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)


def retried_numbers(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of the trials that others repeat."""
    return {number for trial in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(trial)}


def in_words(settings: dict[str, Any]) -> str:
    """Return settings in short."""
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in settings.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


# -- a trial of a study that another run begins with -----------------------------------------------------------------


def read_trial(study: str, trial_id: str, log_folder: Path, algo: str) -> dict[str, Any]:
    """Return the settings of a trial, and where they are from.

    :param study: name of a study below the log folder, its database, or ``DATABASE:NAME``.
    :param trial_id: its number, or ``"best"``.
    :param algo: which algorithm the settings are for.
    :return: ``settings``, ``source`` and ``shared``, what all trials of the study had in common.
    :raises UsageError: if there is no such study or trial, or it is another algorithm's; says what there is.
    """
    storage, name = _find_study(study, log_folder)
    found = optuna.load_study(study_name=name, storage=open_storage(storage))
    if DEFINITION not in found.user_attrs:
        raise UsageError(f"study `{name}` in {storage} is not one of `zoo tune`; give one that is")
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


def _find_study(study: str, log_folder: Path) -> tuple[str, str]:
    """Return the database and the name of a study."""
    before, _, after = study.rpartition(":")
    storage, name = (before, after) if before and "/" not in after else (study, "")
    if not is_url(storage) and not Path(storage).is_file():
        storage, name = str(study_folder(log_folder, study) / DATABASE), study
    names = study_names(open_storage(storage)) if is_url(storage) or Path(storage).is_file() else []
    name = names[0] if not name and len(names) == 1 else name
    if name in names:
        return storage, name
    known = names or sorted(file.parent.name for file in (log_folder / STUDIES).glob(f"*/{DATABASE}"))
    raise UsageError(
        f"`--study` expects the name of a study in {log_folder / STUDIES}, the database of one, or DATABASE:NAME, got "
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
