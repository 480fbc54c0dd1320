"""A study: it asks Optuna for settings, trains them in processes of their own, and tells Optuna what came out.

The trials are Optuna's, and the journal holds everything that is known of them. Several programs may work on one study;
what they do to it together (take up a trial, give one back) they do one at a time.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing.connection
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from logging import ERROR, INFO
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib import pyplot as plt
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances, plot_slice

from agents.common.files import atomic_path
from zoo.errors import Interrupted, UsageError
from zoo.processes.serving import ServingProcess, WorkerError
from zoo.runs.folder import STUDY, check_log_folder, find_run_folders
from zoo.runs.resume import differences
from zoo.runs.versions import command_line
from zoo.settings import plain_yaml
from zoo.settings.layers import nest
from zoo.terminal.messages import log
from zoo.terminal.texts import csv_cells
from zoo.training.callbacks import StopSignal
from zoo.tuning import trial as trials
from zoo.tuning.journal import Workers, open_journal, study_names
from zoo.tuning.options import Plan, params_of, read_plan, settings_in_use, suggest
from zoo.tuning.trial import DEFINITION, SETTINGS, best_first

MOST_ATTEMPTS = 3
"""How often settings are tried whose worker was killed: they may be what kills it."""
SECONDS_TO_STOP = 30.0
SECONDS_BETWEEN_LOOKS = 0.5
FEWEST_FOR_IMPORTANCE = 8


def tune(args: argparse.Namespace, prepare: Callable[[], None]) -> dict[str, Any]:
    """Do what the command line asks for, and return the result to print.

    :param prepare: called first in every trial's process.
    """
    begin = time.monotonic()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)
    plan = read_plan(args)
    for folder in (plan.folder, plan.journal.parent):
        check_log_folder(folder)
    storage = open_journal(plan.journal)
    with Workers(plan.journal) as workers:
        with workers.alone:
            study = _open_study(plan, storage)
        tuner = Tuner(plan, study, storage, workers, prepare)
        try:
            tuner.run()
        finally:
            result = summarise(study, plan)
    if result["best"] is None:
        raise RuntimeError(f"no trial has finished; see {plan.folder / 'trials.csv'} for the reasons")
    return {**result, "wall_s": round(time.monotonic() - begin, 1)}


def _open_study(plan: Plan, storage: JournalStorage) -> optuna.Study:
    """Return the study, made if need be; refuse one whose trials differ in more than what is searched."""
    _require_known_trials(plan, storage)
    study = optuna.create_study(storage=storage, study_name=plan.name, direction="maximize", load_if_exists=True)
    there, now = study.user_attrs.get(DEFINITION), plan.definition
    if there is None and study.get_trials(deepcopy=False):
        raise UsageError(f"study `{plan.name}` in {plan.journal} is not one of `zoo tune`; choose another --study-name")
    if there is None:
        study.set_user_attr(DEFINITION, now)
        config = plan.request.config
        now_used = settings_in_use(config.algo, config.settings)
        params = params_of(now_used, plan.searches)
        if outside := [f"{name} is {now_used.get(name)}" for name in plan.searches if name not in params]:
            log.info("no trial has the settings as they are without tuning: %s, outside its search", "; ".join(outside))
        else:
            study.enqueue_trial(params)
    elif found := differences(there, now):
        raise UsageError(
            f"study `{plan.name}` exists and its trials differ: {'; '.join(found)}; repeat its command, or choose "
            "another --study-name"
        )
    with atomic_path(plan.folder / STUDY) as temporary:
        temporary.write_text(plain_yaml.write({"study": plan.name, **now}), encoding="utf-8")
    return study


def _require_known_trials(plan: Plan, storage: JournalStorage) -> None:
    """Refuse a journal that has lost its end, which the checksums of its lines cannot show."""
    there = plan.name in study_names(storage)
    count = len(storage.get_all_trials(storage.get_study_id_from_name(plan.name), deepcopy=False)) if there else 0
    for folder in plan.folder.glob("trial_*"):
        number = folder.name.removeprefix("trial_")
        if number.isdecimal() and int(number) >= count:
            raise UsageError(
                f"{folder} was trained, but {plan.journal} ends before trial {number}; put a copy of the journal back, "
                "or choose another --study-name"
            )


class Tuner:
    """Keeps as many trials in training as there may be at once, until the study has enough."""

    def __init__(
        self, plan: Plan, study: optuna.Study, storage: JournalStorage, workers: Workers, prepare: Callable[[], None]
    ) -> None:
        self.plan, self.study, self.storage, self.workers, self.prepare = plan, study, storage, workers, prepare
        self.running: dict[ServingProcess, Trial] = {}
        self.begun = 0
        self.stop = StopSignal()
        self._end = time.monotonic() + (math.inf if plan.args.timeout is None else plan.args.timeout)

    def run(self) -> None:
        """Run trials until there are enough, time is up, or a signal comes.

        :raises UsageError: if a trial finds its settings, data or environment wrong.
        :raises Interrupted: after a signal; the trials in training will be tried again.
        """
        try:
            with self.stop:
                while not self.stop.requested and self._fill():
                    for process in self._answered(SECONDS_BETWEEN_LOOKS):
                        self._finish(process)
                if self.stop.requested:
                    self._stop_trials()
                    raise Interrupted("stopped by a signal; the same command continues the study")
        finally:
            for process, trial in self.running.items():  # after an error or a second signal
                process.kill()
                process.close()
                self._retry(trial, "stopped")
            self.running.clear()

    def _fill(self) -> bool:
        """Begin trials while there may be more; return whether any is in training."""
        while len(self.running) < self.plan.args.n_workers and not self.stop.requested and self._begin():
            pass
        return bool(self.running)

    def _begin(self) -> bool:
        """Begin a trial if there is one to begin."""
        with self.workers.alone:
            self._take_back_from_the_dead()
            if not self._may_begin():
                return False
            self.study.sampler = self.plan.make_sampler(len(self.study.get_trials(deepcopy=False)))
            trial = self.study.ask()
            trial.set_user_attr("worker", self.workers.name)
            settings = suggest(trial, self.plan.searches)
            trial.set_user_attr(SETTINGS, settings)
        self.begun += 1
        process = ServingProcess(
            trials.TrialRunner,
            "run",
            what="separate",
            name=f"trial {trial.number}",
            preload=("zoo.tuning.trial",),
            has_children=True,
            imports_main=False,
        )
        self.running[process] = trial
        process.receive()
        process.send(self._job(trial))
        again = f" (trial {trial.user_attrs['retry_of']} again)" if "retry_of" in trial.user_attrs else ""
        log.info("trial %d%s: %s", trial.number, again, in_words(settings))
        return True

    def _folder_of(self, trial: Trial | FrozenTrial) -> Path:
        """Return where a trial is trained: in the folder of its first attempt, whose number is all the journal says."""
        number = trial.user_attrs.get("retry_of", trial.number)
        if not isinstance(number, int):
            raise UsageError(f"`retry_of` in {self.plan.journal} must be a trial's number, got {number!r}")
        return self.plan.folder / f"trial_{number}"

    def _job(self, trial: Trial) -> trials.Job:
        plan = self.plan
        chosen = {"settings": trial.user_attrs[SETTINGS], "source": f"study {plan.name}, trial {trial.number}"}
        own = {"log_folder": self._folder_of(trial), "trial": chosen, "resume": "retry_of" in trial.user_attrs}
        args = argparse.Namespace(**{**vars(plan.args), **own, "verbose": max(0, plan.args.verbose - 1)})
        return trials.Job(plan, args, trial._trial_id, sys.orig_argv, self.prepare)

    def _may_begin(self) -> bool:
        """Return whether there is a trial left to do, and time to begin it."""
        if time.monotonic() >= self._end:
            return False
        if self.plan.args.max_total_trials is None:
            return self.begun < self.plan.args.n_trials
        found = self.study.get_trials(deepcopy=False)  # each with its repetitions as one
        begun = [trial for trial in found if trial.state != TrialState.WAITING and "retried" not in trial.user_attrs]
        return len(begun) < self.plan.args.max_total_trials

    def _answered(self, seconds: float) -> list[ServingProcess]:
        """Return the trials' processes that have answered or ended, after some seconds at the latest."""
        return multiprocessing.connection.wait(list(self.running), seconds)  # type: ignore[arg-type, return-value]

    def _finish(self, process: ServingProcess) -> None:
        """Tell the study how a trial ended."""
        refusal = None
        try:
            outcome: trials.Outcome = process.receive()
        except (WorkerError, UsageError) as error:
            outcome = trials.Outcome(trials.FAILED, reason=str(error))
            refusal = error if isinstance(error, UsageError) else None
        trial = self.running.pop(process)
        process.close()
        if outcome.state == trials.INTERRUPTED:
            self._retry(trial, outcome.reason)
        else:
            self._tell(trial, outcome)
        if refusal is not None:  # the next trial would be refused too
            raise refusal

    def _tell(self, trial: Trial, outcome: trials.Outcome) -> None:
        """Record the outcome of a trial."""
        number, folder = trial.number, self._folder_of(trial)
        trials.end_runs(folder, "failed", outcome.reason)
        runs = [str(run.path) for run in find_run_folders([folder])] if folder.is_dir() else []
        took = datetime.now() - (trial.datetime_start or datetime.now())
        seconds = round(took.total_seconds(), 1)
        notes = {"runs": runs, "scores": outcome.scores, "reason": outcome.reason, "seconds": seconds}
        for name, value in notes.items():
            trial.set_user_attr(name, value)
        if outcome.state == trials.COMPLETE:
            self.study.tell(trial, outcome.score)
            note = f" (diverged: {outcome.reason})" if outcome.reason else ""
            log.info("trial %d: score %.4g%s; best %.4g", number, outcome.score, note, self.study.best_value)
        else:
            was_pruned = outcome.state == trials.PRUNED
            self.study.tell(trial, state=TrialState.PRUNED if was_pruned else TrialState.FAIL)
            log.log(INFO if was_pruned else ERROR, "trial %d: %s, %s", number, outcome.state, outcome.reason)

    # -- trials that did not end by themselves ------------------------------------------------------------------------

    def _stop_trials(self) -> None:
        """Ask the trials to stop, wait for those that do, and give the others back as they are."""
        for process in self.running:
            process.interrupt()
        end = time.monotonic() + SECONDS_TO_STOP
        while self.running and (left := end - time.monotonic()) > 0:
            for process in self._answered(left):
                self._finish(process)

    def _take_back_from_the_dead(self) -> None:
        """Make the trials of workers that were killed such that are tried again; other workers are kept out."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            worker = trial.user_attrs.get("worker")  # missing: it died right after it took the trial
            if worker is None or (worker != self.workers.name and not self.workers.is_alive(worker)):
                self._retry(trial, f"its worker {worker or ''} was killed", was_killed=True)

    def _retry(self, trial: Trial | FrozenTrial, reason: str, was_killed: bool = False) -> None:
        """End a trial as failed and put its settings back in the queue, to continue from its last checkpoint."""
        attributes = dict(trial.user_attrs)
        kills = attributes.get("kills", 0) + was_killed
        again = kills < MOST_ATTEMPTS
        trials.end_runs(self._folder_of(trial), "interrupted" if again else "failed", reason)
        notes = {"reason": reason, "scores": []} | ({"retried": True} if again else {})
        for name, value in notes.items():
            self.storage.set_trial_user_attr(trial._trial_id, name, value)
        self.study.tell(trial.number, state=TrialState.FAIL)
        if again and SETTINGS in attributes:
            first = attributes.get("retry_of", trial.number)
            self.study.enqueue_trial(trial.params, user_attrs={"retry_of": first, "kills": kills})
        log.info("trial %d: %s; %s", trial.number, reason, "will be tried again" if again else "not tried again")


# -- what a study has found: a table of all trials, figures, and the best settings as a file for `-conf` -------------


def summarise(study: optuna.Study, plan: Plan) -> dict[str, Any]:
    """Write the results of a study so far to its folder, print its best trials, and return what the program prints."""
    trials = study.get_trials()
    complete = best_first([trial for trial in trials if trial.state == TrialState.COMPLETE])
    table = tabulate(trials, plan.seeds, list(plan.searches))
    with atomic_path(plan.folder / "trials.csv") as temporary:
        csv_cells(table).to_csv(temporary, index=False)
    result: dict[str, Any] = {
        "study": plan.name,
        "storage": str(plan.journal),
        "folder": str(plan.folder),
        "algo": plan.request.config.algo,
        "env": plan.request.config.env,
        "trials": table["state"].value_counts().to_dict(),
        "best": None,
    }
    if not complete:
        return result
    best = complete[0]
    write_best(best, plan)
    return result | {
        "best": {
            "trial": best.number,
            "score": _finite(best.value),
            "scores": [_finite(score) for score in best.user_attrs["scores"]],
            "seeds": plan.seeds,
            "settings": best.user_attrs[SETTINGS],
            "runs": best.user_attrs["runs"],
        },
        "best_conf": str(plan.folder / "best.yml"),
        "figures": [str(path) for path in draw_figures(study, complete, plan)],
    }


def tabulate(trials: Sequence[FrozenTrial], seeds: Sequence[int], searched: Sequence[str]) -> pd.DataFrame:
    """Return one row for each trial: number, state, score, score of each seed, settings, seconds, reason and runs."""
    rows = []
    for trial in trials:
        found = trial.user_attrs
        state = {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
        scores = found.get("scores") or [None] * len(seeds)
        own = [found.get(SETTINGS, {}).get(name) for name in searched]
        ending = [found.get("seconds"), found.get("retry_of"), found.get("reason", ""), " ".join(found.get("runs", []))]
        rows.append([trial.number, "retried" if "retried" in found else state, trial.value, *scores, *own, *ending])
    names = ["number", "state", "score", *(f"seed {seed}" for seed in seeds), *searched]
    return pd.DataFrame(rows, columns=[*names, "seconds", "retry_of", "reason", "runs"])


def write_best(best: FrozenTrial, plan: Plan) -> None:
    """Write the settings of the best trial as a file that ``-conf`` accepts."""
    entry = {
        "source": f"study {plan.name}, trial {best.number}: score {best.value:.4g} in the last evaluation, mean of "
        f"seeds {', '.join(map(str, plan.seeds))}",
        "status": "tuned here",
        **nest(best.user_attrs[SETTINGS]),
    }
    text = f"# {command_line()}\n" + plain_yaml.write({plan.request.config.env: entry})
    with atomic_path(plan.folder / "best.yml") as temporary:
        temporary.write_text(text, encoding="utf-8")


def in_words(settings: Mapping[str, Any]) -> str:
    """Return settings in short."""
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in settings.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _finite(value: float | None) -> float | None:
    """Return a score for JSON, which knows no infinity."""
    return value if value is not None and math.isfinite(value) else None


def draw_figures(study: optuna.Study, complete: Sequence[FrozenTrial], plan: Plan) -> list[Path]:
    """Write Optuna's figures that the trials allow to the study's folder; return their paths."""
    values = [trial.value for trial in complete if math.isfinite(trial.value or 0.0)]
    if not values:
        return []
    plots: dict[str, Callable[..., Any]] = {"history": plot_optimization_history, "slices": plot_slice}
    if len(values) >= FEWEST_FOR_IMPORTANCE and len(set(values)) > 1 and len(plan.searches) > 1:
        plots["importances"] = partial(plot_param_importances, evaluator=PedAnovaImportanceEvaluator())
    plt.switch_backend("agg")  # nothing is shown
    paths = []
    for name, plot in plots.items():
        paths.append(plan.folder / f"{name}.png")
        with warnings.catch_warnings(), plt.rc_context(), atomic_path(paths[-1]) as temporary:
            warnings.simplefilter("ignore")  # about trials that are left out
            axes = np.ravel(plot(study, target_name="score of the last evaluation"))
            for ax in axes:
                ax.tick_params(axis="x", which="minor", labelbottom=False)  # on a logarithmic axis they overlap
            axes[0].figure.savefig(temporary, format="png", dpi=200, bbox_inches="tight")
            plt.close(axes[0].figure)
    return paths
