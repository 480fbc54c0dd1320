"""A study: Optuna proposes settings, each trial trains them, and several starts may share one study."""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib import pyplot as plt
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances, plot_slice

from agents.common.files import atomic_path
from zoo.errors import BAD_INPUT, Interrupted, UsageError
from zoo.runs.folder import STUDY, check_log_folder
from zoo.runs.resume import differences
from zoo.runs.versions import command_line
from zoo.settings import plain_yaml
from zoo.settings.layers import merge
from zoo.terminal.messages import log, say_once
from zoo.terminal.texts import csv_cells
from zoo.training.callbacks import StopSignal
from zoo.tuning.options import Plan, params_of, read_plan, settings_in_use
from zoo.tuning.storage import is_url, open_storage, study_names
from zoo.tuning.trial import DEFINITION, SETTINGS, Objective, TrialFailed, best_first, first_attempt, retried_numbers

SECONDS_BETWEEN_LOOKS = 2.0
FEWEST_FOR_IMPORTANCE = 8


Start = Callable[[argparse.Namespace, list[str]], None]
"""What a process of several at once does: its command line, and the words that the user has typed."""


def tune(args: argparse.Namespace, start: Start) -> dict[str, Any]:
    """Do what the command line asks for, and return the result to print.

    :param start: calls :func:`share` in another process, as a program.
    """
    begin = time.monotonic()
    plan = _prepare(args)
    study = open_study(plan)
    try:
        if args.n_workers > 1:
            run_workers(study, plan, start)
        else:
            run_trials(study, plan)
    finally:
        result = summarise(study, plan)
    if result["best"] is None:
        raise RuntimeError(f"no trial has finished; see {plan.folder / 'trials.csv'} for the reasons")
    return {**result, "wall_s": round(time.monotonic() - begin, 1)}


def _prepare(args: argparse.Namespace) -> Plan:
    """Return the study that a command line asks for; let Optuna say nothing that we say ourselves."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return read_plan(args)


def open_study(plan: Plan) -> optuna.Study:
    """Return the study, made if need be; refuse one whose trials differ in more than what is searched."""
    if not is_url(plan.storage):
        check_log_folder(Path(plan.storage).parent, "folder of the study", "--storage")
    storage = open_storage(plan.storage)
    check_log_folder(plan.folder)
    if plan.name not in study_names(storage) and any(plan.folder.glob("trial_*")):
        raise UsageError(
            f"{plan.folder} has trials, but {plan.storage} does not know their study; put a copy of the database back, "
            "or choose another --study-name"
        )
    study = optuna.create_study(storage=storage, study_name=plan.name, direction="maximize", load_if_exists=True)
    study.pruner = plan.make_pruner()
    there, now = study.user_attrs.get(DEFINITION), plan.definition
    if there is None and study.get_trials(deepcopy=False):
        raise UsageError(f"study `{plan.name}` in {plan.storage} is not one of `zoo tune`; choose another --study-name")
    if there is None:
        study.set_user_attr(DEFINITION, now)
        _enqueue_untuned(study, plan)
    elif found := differences(there, now):
        raise UsageError(
            f"study `{plan.name}` exists and its trials differ: {'; '.join(found)}; repeat its command, or choose "
            "another --study-name"
        )
    with atomic_path(plan.folder / STUDY) as temporary:
        temporary.write_text(plain_yaml.write({"study": plan.name, **now}), encoding="utf-8")
    return study


def _enqueue_untuned(study: optuna.Study, plan: Plan) -> None:
    """Let the first trial have the settings as they are without tuning, if they are inside the search."""
    config = plan.request.config
    in_use = settings_in_use(config.algo, config.settings)
    params = params_of(in_use, plan.searches)
    if outside := [f"{name} is {in_use.get(name)}" for name in plan.searches if name not in params]:
        log.info("no trial has the settings as they are without tuning: %s, outside its search", "; ".join(outside))
    else:
        study.enqueue_trial(params)


def run_trials(study: optuna.Study, plan: Plan) -> None:
    """Run trials one after the other until there are enough, or time is up.

    With a total, wait for the trials that other starts run: a killed one is tried again here.

    :raises UsageError: if a trial finds its settings, data or environment wrong.
    :raises Interrupted: after a signal; the trial in training is in the queue again.
    """
    end = time.monotonic() + (math.inf if plan.args.timeout is None else plan.args.timeout)
    begun = 0
    with StopSignal() as stop:
        while time.monotonic() < end:
            if stop.requested:
                raise Interrupted("stopped by a signal; the same command continues the study")
            fail_stale_trials(study)
            if plan.args.max_total_trials is not None:
                known = begun_trials(study)
                if len(known) >= plan.args.max_total_trials:
                    if all(trial.state.is_finished() for trial in known):
                        return
                    say_once("waiting for the trials of other starts; a killed one is tried again after a minute")
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    continue
            elif begun >= plan.args.n_trials:
                return
            study.sampler = plan.make_sampler(len(begun_trials(study)))
            study.optimize(Objective(plan), n_trials=1, catch=(TrialFailed,), callbacks=[tell])
            begun += 1


def begun_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that have begun, each with its repetitions as one."""
    found = study.get_trials(deepcopy=False)
    retried = retried_numbers(found)
    return [trial for trial in found if trial.state != TrialState.WAITING and trial.number not in retried]


def tell(study: optuna.Study, trial: FrozenTrial) -> None:
    """Say how a trial ended."""
    reason = trial.user_attrs["reason"]
    if trial.state == TrialState.COMPLETE:
        note = f" (diverged: {reason})" if reason else ""
        log.info("trial %d: score %.4g%s; best %.4g", trial.number, trial.value, note, study.best_value)
    elif trial.state == TrialState.PRUNED:
        log.info("trial %d: pruned, %s", trial.number, reason)
    else:
        log.error("trial %d: failed, %s", trial.number, reason)


def run_workers(study: optuna.Study, plan: Plan, start: Start) -> None:
    """Start the same study several times, each start in a process of its own, and wait for all of them.

    :raises UsageError: if one of them found bad input.
    :raises Interrupted: after a signal.
    """
    args, total = plan.args, plan.args.max_total_trials
    if total is None:
        total = len(begun_trials(study)) + args.n_trials
    own = argparse.Namespace(**{**vars(args), "n_workers": 1, "max_total_trials": total})
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=start, args=(own, list(sys.orig_argv))) for _ in range(args.n_workers)]
    with StopSignal("stopping all trials after their current step") as stop:
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive():
                worker.join(SECONDS_BETWEEN_LOOKS)
                for other in workers if stop.requested else ():
                    other.terminate()  # which does not interrupt what a worker writes
    if stop.requested:
        raise Interrupted("stopped by a signal; the same command continues the study")
    if any(worker.exitcode == BAD_INPUT for worker in workers):
        raise UsageError("a trial found bad input; its message is above")
    for worker in workers:
        if worker.exitcode:
            log.warning(
                "a worker ended with exit code %d; the others, or the next call, try its trial again", worker.exitcode
            )


def share(args: argparse.Namespace) -> None:
    """Run trials of a study that another process has begun, until there are enough."""
    plan = _prepare(args)
    run_trials(open_study(plan), plan)


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
        "storage": plan.storage,
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
    rows, retried = [], retried_numbers(trials)
    for trial in trials:
        found = trial.user_attrs
        state = "failed" if trial.state == TrialState.FAIL else trial.state.name.lower()
        scores = found.get("scores") or [None] * len(seeds)
        own = [found.get(SETTINGS, {}).get(name) for name in searched]
        ending = [found.get("seconds"), first_attempt(trial), found.get("reason", ""), " ".join(found.get("runs", []))]
        state = "retried" if trial.number in retried else state
        rows.append([trial.number, state, trial.value, *scores, *own, *ending])
    names = ["number", "state", "score", *(f"seed {seed}" for seed in seeds), *searched]
    return pd.DataFrame(rows, columns=[*names, "seconds", "retry_of", "reason", "runs"])


def write_best(best: FrozenTrial, plan: Plan) -> None:
    """Write the settings of the best trial as a file that ``-conf`` accepts."""
    entry = {
        "source": f"study {plan.name}, trial {best.number}: score {best.value:.4g} in the last evaluation, mean of "
        f"seeds {', '.join(map(str, plan.seeds))}",
        "status": "tuned here",
        **merge({}, best.user_attrs[SETTINGS]),
    }
    text = f"# {command_line()}\n" + plain_yaml.write({plan.request.config.env: entry})
    with atomic_path(plan.folder / "best.yml") as temporary:
        temporary.write_text(text, encoding="utf-8")


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
