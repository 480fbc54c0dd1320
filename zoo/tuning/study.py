"""A study: Optuna suggests settings, each trial is a training run, and several processes may share one study."""

import contextlib
import math
import re
import shlex
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from agents.common.files import write_text
from agents.common.sb3.environments import DivergedError
from agents.common.settings import Search
from agents.common.streams import Purpose, seed_for
from zoo.algorithms.catalogue import find_algorithm
from zoo.runs.folder import (
    STUDY,
    Evaluations,
    check_log_folder,
    describe_error,
    file_name_of,
    find_run_folders,
)
from zoo.runs.locks import Lock
from zoo.runs.scores import RETURN, SUCCESS, ScoreKind
from zoo.settings.layers import as_words, dump_yaml, parse_overrides
from zoo.settings.record import differences
from zoo.settings.request import StudyRequest, TrainRequest
from zoo.terminal.errors import Interrupted, StopSignal, UsageError, handling_signals
from zoo.terminal.messages import LOG_FILE_ONLY, log, messages
from zoo.training.plan import RunPlan, plan_run
from zoo.training.start import train
from zoo.tuning.searches import params_of, read_searches, suggest

STUDIES = "studies"
"""Folder of studies in a log folder."""
DATABASE = "study.db"
HEARTBEAT_SECONDS = 10
GRACE_SECONDS = 60
"""Seconds without a heartbeat after which a running trial is assumed to be killed."""
LOCK_SECONDS = 60
"""Timeout for a SQLite file that another process is writing; SQLite's default of 5 s is short for a slow disk."""
MAX_RETRIES = 5
"""Number of repetitions of a killed trial; limited, because its settings may kill it again."""
STARTUP_TRIALS = 10
"""Trials before TPE and the median pruner start."""

DEFINITION = "definition"
"""Attribute of a study: the settings shared by its trials."""
STARTS = "starts"
"""Attribute of a study: number of processes that have opened it."""
SETTINGS = "settings"
"""Attribute of a trial: its settings."""


@dataclass(frozen=True)
class Plan:
    """A checked study.

    :param run: the plan of its training runs, without the settings of a trial.
    :param searches: setting -> search of its value.
    :param storage: URL of the database.
    """

    request: StudyRequest
    run: RunPlan
    searches: Mapping[str, Search]
    name: str
    storage: str
    folder: Path

    @property
    def definition(self) -> dict[str, Any]:
        """Settings shared by all trials, which all processes of the study must have."""
        shared = {}
        for name, value in self.run.config.identity("machine", "output").items():
            if name.removeprefix("settings.") not in self.searches:  # a trial has its own value
                shared[name] = value
        search = {name: str(search) for name, search in self.searches.items()}
        request = self.request.run
        return {**shared, "seeds": self.seeds, "search": search, "dataset": request.dataset}

    @property
    def seeds(self) -> list[int]:
        """Seeds of the replicas of every trial."""
        return list(self.request.run.seeds or ())

    @property
    def score(self) -> ScoreKind:
        """Score to maximise."""
        return SUCCESS if self.run.has_success else RETURN

    @property
    def steps(self) -> int:
        """Steps of every trial on its learning curve."""
        return self.run.config.run.offline_steps + self.run.config.run.online_steps


def tune(request: StudyRequest) -> dict[str, Any]:
    """Run the trials of a study, and return the result to print."""
    begin = time.monotonic()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # this program logs trials itself
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats
    plan = plan_study(request)
    check_log_folder(plan.folder)
    study = open_study(plan)
    try:
        run_trials(study, plan)
    finally:
        result = summarise(study, plan)
    if result["best"] is None:
        raise RuntimeError("no trial has been completed, see the messages above")
    return {**result, "wall_s": round(time.monotonic() - begin, 1)}


def plan_study(request: StudyRequest) -> Plan:
    """Check the flags of a study; raise UsageError for wrong and contradicting ones."""
    entry = find_algorithm(request.run.algo)
    fixed = parse_overrides(request.run.hyperparams, "-params")
    searches = read_searches(entry, request.search, fixed)
    run = plan_run(request.run)  # the slowest check last
    name = request.study_name or f"{entry.id}_{file_name_of(request.run.env)}"
    if not re.fullmatch(r"[^/.][^/]*", name):
        raise UsageError(
            f"`--study-name` must be a folder name without `/` or a leading dot, got {name!r}"
        )
    folder = request.run.log_folder.resolve() / STUDIES / name
    storage = request.study_storage or f"sqlite:///{folder / DATABASE}"
    if request.study_storage:
        with _opening(storage):  # now, before there is a folder
            sqlalchemy.create_engine(storage).connect().close()
    return Plan(request, run, searches, name, storage, folder)


@contextlib.contextmanager
def _opening(storage: str) -> Iterator[None]:
    """Turn errors of a database that cannot be opened into UsageError."""
    try:
        yield
    except (SQLAlchemyError, ImportError, RuntimeError, AssertionError) as error:
        text = f"the study's database {storage} cannot be opened: {error}; see --study-storage"
        raise UsageError(text) from error


def open_study(plan: Plan) -> optuna.Study:
    """Return the study, created if necessary; reject one with other shared settings."""
    options: dict[str, Any] = {}
    if plan.storage.startswith("sqlite"):
        options["connect_args"] = {"timeout": LOCK_SECONDS}
    with Lock(plan.folder / ".lock"):  # only one process creates the study
        with _opening(plan.storage):
            storage = RDBStorage(
                plan.storage,
                options,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(MAX_RETRIES),
            )
        study = optuna.create_study(
            storage=storage, study_name=plan.name, direction="maximize", load_if_exists=True
        )
        stored = study.user_attrs.get(DEFINITION)
        if stored is None:
            study.set_user_attr(DEFINITION, plan.definition)
            # the untuned settings come first, as the baseline
            study.enqueue_trial(params_of(plan.run.config.settings, plan.searches))
        elif changes := differences(stored, plan.definition):
            raise UsageError(
                f"study `{plan.name}` exists with other settings: {'; '.join(changes)}; repeat its command, or choose "
                "another --study-name"
            )
        starts = study.user_attrs.get(STARTS, 0)
        study.set_user_attr(STARTS, starts + 1)
    write_text(plan.folder / STUDY, dump_yaml({"study": plan.name, **plan.definition}))
    # two processes must not suggest the same values
    seed = seed_for(Purpose.TRIALS, plan.seeds, starts)
    study.sampler = TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=True)
    # no trial is pruned in its first third, because early scores rank trials badly
    evaluations = plan.steps // plan.run.config.run.eval_freq
    study.pruner = MedianPruner(STARTUP_TRIALS, n_warmup_steps=evaluations // 3)
    return study


def run_trials(study: optuna.Study, plan: Plan) -> None:
    """Run trials one after the other until the study has enough.

    :raises UsageError: if settings, data or environment of a trial are wrong.
    :raises Interrupted: after a signal; the interrupted trial is queued again.
    """
    trainer = TrialTrainer(plan, StopSignal("stopping the study"))
    with handling_signals(trainer.stop.handle):
        while True:
            fail_stale_trials(study)  # queues killed trials again
            trials = study.get_trials(deepcopy=False)
            states = Counter(trial.state for trial in trials)
            started = {first_number(trial) for trial in trials if trial.state != TrialState.WAITING}
            if len(started) >= plan.request.n_trials and not states[TrialState.WAITING]:
                break
            # one at a time, because trials of other processes count too
            study.optimize(trainer, n_trials=1, catch=TrialFailed, callbacks=[trainer.finish])
            if trainer.stop.requested:
                raise Interrupted("stopped by a signal; the same command continues the study")


def first_number(trial: FrozenTrial) -> int:
    """Return the number of the first attempt at a trial; all its repetitions count as one trial."""
    first = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if first is None else first


# -- a trial ---------------------------------------------------------------------------------------------------------


class Pruned(Interrupted, optuna.TrialPruned):
    """The pruner stopped a trial; its run ends as ``interrupted``."""


class TrialFailed(Exception):
    """Training was stopped by a signal, or failed perhaps because of its settings; Optuna catches this error."""


@dataclass
class TrialTrainer:
    """The objective of a study: trains the settings suggested by Optuna, or continues a repeated trial.

    :param stop: signal that asks for the end.
    """

    plan: Plan
    stop: StopSignal

    def __call__(self, trial: Trial) -> float:
        """Return the mean score over the seeds in the last evaluation.

        :raises Pruned: if the pruner stopped the trial.
        :raises TrialFailed: if training failed, or after a signal.
        :raises UsageError: for bad input, which all trials share.
        """
        settings = suggest(trial, self.plan.searches)
        trial.set_user_attr(SETTINGS, settings)
        log.info("trial %d: %s", trial.number, " ".join(as_words(settings)))
        # a repetition continues the runs of the first attempt
        number = first_number(trial.study.get_trials(deepcopy=False)[trial.number])
        folder = self.plan.folder / f"trial_{number}"
        try:
            return train_trial(self.plan, trial, folder)
        except (Pruned, UsageError):
            raise
        except (Interrupted, KeyboardInterrupt) as error:
            self.stop.handle(
                signal.SIGTERM, None
            )  # training has handled the signal; the study stops too
            raise TrialFailed(str(error)) from error
        except Exception as error:
            log.log(LOG_FILE_ONLY, "".join(traceback.format_exception(error)).rstrip())
            log.warning("trial %d failed: %s", trial.number, describe_error(error))
            trial.set_user_attr("reason", describe_error(error))
            raise TrialFailed(str(error)) from error
        finally:
            if folder.exists():  # not after bad input
                trial.set_user_attr("runs", list(map(str, find_run_folders([folder]))))

    def finish(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Log the score of a trial; queue an interrupted one again."""
        if trial.state == TrialState.COMPLETE:
            message = "trial %d: score %.4g, best %.4g"
            log.info(message, trial.number, trial.value, study.best_value)
        elif trial.state == TrialState.PRUNED:
            log.info("trial %d: pruned", trial.number)
        elif self.stop.requested:
            # like Optuna for a killed trial, but immediately
            RetryHeartbeatStaleTrialCallback()(study, trial)


def train_trial(plan: Plan, trial: Trial, folder: Path) -> float:
    """Train the settings of a trial; return the mean score over its seeds, the worst score for diverged ones."""
    # messages of a run are in the run's log
    verbose = max(0, plan.request.run.verbose - 1)
    request = with_settings(plan.request.run, trial.user_attrs[SETTINGS])
    request = replace(request, log_folder=folder, resume=folder.exists(), verbose=verbose)
    worst = plan.score.limits[0]
    try:
        with messages(verbose):
            result = train(request, Reporter(trial, plan))
    except DivergedError as error:
        log.warning("trial %d: %s", trial.number, error)
        return worst
    scores = [run.get(plan.score.name) for run in result.get("runs", [result])]
    return float(np.mean([worst if score is None else score for score in scores]))


def with_settings(request: TrainRequest, settings: Mapping[str, Any]) -> TrainRequest:
    """Return the request of a run with the settings of a trial."""
    return replace(request, hyperparams=(*request.hyperparams, *as_words(settings)))


@dataclass
class Reporter:
    """Reports every evaluation of a run to its study, and stops the run for the study's pruner.

    Evaluations are numbered from 1, without the one at step 0, which does not depend on the trial. A resumed run also
    reports earlier evaluations.
    """

    trial: Trial
    plan: Plan
    reported: int = 0

    def __call__(self, histories: Sequence[Evaluations]) -> None:
        """Report new evaluations."""
        # a diverged replica has fewer evaluations than other ones
        steps = max((history.get("timesteps", np.empty(0)) for history in histories), key=len)
        trained = np.flatnonzero(steps)
        if len(trained) == self.reported:
            return
        for number, row in enumerate(trained[self.reported :], start=self.reported + 1):
            score = mean_score(histories, row, self.plan.score)
            self.trial.report(score, number)
        self.reported = len(trained)
        if steps[-1] < self.plan.steps and self.trial.should_prune():
            raise Pruned(f"score {score:.4g} in evaluation {len(trained)}, at step {steps[-1]}")


def mean_score(histories: Sequence[Evaluations], row: int, kind: ScoreKind) -> float:
    """Return the mean score of replicas in an evaluation, the worst score for replicas without it."""
    scores = [kind.limits[0]] * len(histories)
    for index, history in enumerate(histories):
        values = history.get("successes" if kind is SUCCESS else "results", ())
        if len(values) > row:
            scores[index] = float(values[row].mean())
    return float(np.mean(scores))


# -- results of a study ----------------------------------------------------------------------------------------------


def summarise(study: optuna.Study, plan: Plan) -> dict[str, Any]:
    """Write the best settings to the study's folder, and return the result of the program."""
    states = Counter(trial.state.name.lower() for trial in study.get_trials(deepcopy=False))
    result = {"study": plan.name, "folder": str(plan.folder), "trials": dict(states), "best": None}
    if not states["complete"]:
        return result
    best = study.best_trial
    write_best(best, plan)
    settings_and_runs = {name: best.user_attrs[name] for name in (SETTINGS, "runs")}
    # infinite if every trial has diverged, which JSON does not allow
    score = best.value if math.isfinite(best.value or 0.0) else None
    return result | {
        "best": {"trial": best.number, "score": score, **settings_and_runs},
        "best_conf": str(plan.folder / "best.yml"),
        "next": command_with(best, plan),
    }


def write_best(best: FrozenTrial, plan: Plan) -> None:
    """Write the settings of the best trial as a file for ``-conf``."""
    source = f"study {plan.name}, trial {best.number}: mean score {best.value:.4g} of seeds "
    source += ", ".join(map(str, plan.seeds))
    entry = {"source": source, "status": "tuned here", **best.user_attrs[SETTINGS]}
    write_text(plan.folder / "best.yml", dump_yaml({plan.run.config.env: entry}))


def command_with(best: FrozenTrial, plan: Plan) -> str:
    """Return the command line that trains the best settings with new seeds, under the protocol of a report."""
    run = dict(plan.request.run.run)
    for name in ("eval_freq", "eval_episodes"):  # chosen for the search
        run.pop(name, None)
    count = len(plan.seeds)
    seeds = [seed for seed in range(2 * count) if seed not in plan.seeds][:count]
    request = replace(plan.request.run, seeds=tuple(seeds), eval_seed=0, run=run)
    words = with_settings(request, best.user_attrs[SETTINGS]).command_line()
    return f"zoo train {shlex.join(words)}"
