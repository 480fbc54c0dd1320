"""A study: Optuna suggests settings, each trial is a training run, and several processes may share one study."""

import contextlib
import math
import re
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
from zoo.runs.folder import STUDY, Evaluations, file_name_of
from zoo.runs.locks import Lock
from zoo.runs.scores import RETURN, SUCCESS, ScoreKind
from zoo.settings.layers import as_words, dump_yaml, parse_overrides
from zoo.settings.record import differences
from zoo.settings.request import StudyRequest
from zoo.terminal.errors import (
    Abandoned,
    Interrupted,
    StopSignal,
    UsageError,
    describe_error,
    handling_signals,
)
from zoo.terminal.messages import LOG_FILE_ONLY, log, messages
from zoo.terminal.parser import check_output
from zoo.training.plan import RunPlan, plan_run
from zoo.training.start import train
from zoo.tuning.searches import params_of, read_searches, suggest

STUDIES = "studies"
"""Folder of studies in a log folder."""
DATABASE = "study.db"
HEARTBEAT_SECONDS = 10
GRACE_SECONDS = 60
"""Seconds without a heartbeat after which a running trial is assumed to have been killed."""
LOCK_SECONDS = 60
"""Seconds to wait while another process writes the SQLite file; the default of 5 s is too short for slow disks."""
MAX_RETRIES = 5
"""Maximum number of repetitions of a killed trial, whose settings may be the reason that it is killed each time."""

DEFINITION = "definition"
"""Attribute of a study: the settings shared by its trials."""
STARTS = "starts"
"""Attribute of a study: number of processes that have opened it."""


@dataclass(frozen=True)
class Plan:
    """A checked study.

    :param run: plan of the training runs, before the settings of a trial are added.
    :param searches: setting name -> search over its values.
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
        """Settings shared by all trials; they must be equal in all processes of the study."""
        shared = {}
        for name, value in self.run.config.identity("machine").items():
            if name.removeprefix("settings.") not in self.searches:  # each trial has its own value
                shared[name] = value
        search = {name: str(search) for name, search in self.searches.items()}
        dataset = self.request.run.dataset
        return {**shared, "seeds": self.seeds, "search": search, "dataset": dataset}

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
        """Training steps of every trial, without pretraining."""
        run = self.run.config.run
        return run.offline_steps + run.online_steps

    def folder_of(self, trial: FrozenTrial) -> Path:
        """Return the folder of a trial's runs; a repetition continues the runs of the first attempt."""
        return self.folder / f"trial_{first_number(trial)}"


def tune(request: StudyRequest) -> dict[str, Any]:
    """Run the trials of a study, and return the result to print."""
    begin = time.monotonic()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # this program logs trials itself
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats are experimental
    plan = plan_study(request)
    check_output("--log-folder", plan.folder, "folder")
    study = open_study(plan)
    try:
        run_trials(study, plan)
    finally:
        result = summarise(study, plan)
    if result["best"] is None:
        raise RuntimeError("no trial has been completed, see the messages above")
    return {**result, "wall_s": round(time.monotonic() - begin, 1)}


def plan_study(request: StudyRequest) -> Plan:
    """Check the flags of a study, and return its plan; raise UsageError for wrong or contradictory flags."""
    entry = find_algorithm(request.run.algo)
    fixed = parse_overrides(request.run.hyperparams, "-params")
    searches = read_searches(entry, request.search, fixed)
    run = plan_run(request.run)  # slower than the checks above
    name = request.study_name or f"{entry.id}_{file_name_of(request.run.env)}"
    if not re.fullmatch(r"[^/.][^/]*", name):
        raise UsageError(
            f"`--study-name` must be a folder name without `/` or a leading dot, got {name!r}"
        )
    folder = request.run.log_folder.resolve() / STUDIES / name
    # as a URL, in which e.g. `?` is escaped
    file = sqlalchemy.URL.create("sqlite", database=str(folder / DATABASE))
    storage = request.study_storage or file.render_as_string()
    if request.study_storage:
        with _opening(storage):  # fail now, before the study's folder is created
            sqlalchemy.create_engine(storage).connect().close()
    return Plan(request, run, searches, name, storage, folder)


@contextlib.contextmanager
def _opening(storage: str) -> Iterator[None]:
    """Raise UsageError if the study's database cannot be opened."""
    try:
        yield
    except (SQLAlchemyError, ImportError, RuntimeError, AssertionError) as error:
        raise UsageError(
            f"the study's database {storage} cannot be opened: {error}; see --study-storage"
        ) from error


def open_study(plan: Plan) -> optuna.Study:
    """Create the study, or open it if it exists; reject it if its trials share different settings."""
    options: dict[str, Any] = {}
    if plan.storage.startswith("sqlite"):
        options["connect_args"] = {"timeout": LOCK_SECONDS}
    with Lock(plan.folder / ".lock"):  # so that only one process creates the study
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
            # the untuned settings come first, as the baseline; the definition is stored last, so that the next start
            # repeats this if the process is killed before that
            study.enqueue_trial(
                params_of(plan.run.config.settings, plan.searches), skip_if_exists=True
            )
            study.set_user_attr(DEFINITION, plan.definition)
        elif changes := differences(stored, plan.definition):
            raise UsageError(
                f"study `{plan.name}` exists with other settings: {'; '.join(changes)}; repeat its command, or choose "
                "another --study-name"
            )
        starts = study.user_attrs.get(STARTS, 0)
        study.set_user_attr(STARTS, starts + 1)
    write_text(plan.folder / STUDY, dump_yaml({"study": plan.name, **plan.definition}))
    # each process has its own seed, because two processes must not suggest the same values
    seed = seed_for(Purpose.TRIALS, plan.seeds, starts)
    study.sampler = TPESampler(seed=seed)
    # no trial is pruned in its first third, because early scores are poor predictors of the last score
    evaluations = plan.steps // plan.run.config.run.eval_freq
    study.pruner = MedianPruner(n_startup_trials=10, n_warmup_steps=evaluations // 3)
    return study


def run_trials(study: optuna.Study, plan: Plan) -> None:
    """Run trials one after the other until the study has enough trials.

    :raises UsageError: if a trial's settings, data or environment are invalid.
    :raises Interrupted: after a signal; the interrupted trial is queued again.
    """
    trainer = TrialTrainer(plan, StopSignal("stopping the study"))
    # while Optuna stores a trial, signals are only recorded, so that every interrupted trial is queued again
    with handling_signals(trainer.stop.record):
        while True:
            fail_stale_trials(study)  # queues killed trials again
            states = trial_states(study)
            if len(states) >= plan.request.n_trials and TrialState.WAITING not in states:
                break
            # one trial per call, because trials of other processes count too
            # a trial's model is in a reference cycle, which keeps its data until garbage is collected
            study.optimize(
                trainer,
                n_trials=1,
                catch=TrialFailed,
                gc_after_trial=True,
                callbacks=[trainer.finish],
            )
            if trainer.stop.requested:
                raise Interrupted("stopped by a signal; the same command continues the study")


def first_number(trial: FrozenTrial) -> int:
    """Return the number of the first attempt at a trial; a trial and its repetitions count as one trial."""
    first = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if first is None else first


def trial_states(study: optuna.Study) -> list[TrialState]:
    """Return the state of each trial's last attempt."""
    trials = study.get_trials(deepcopy=False)
    return list({first_number(trial): trial.state for trial in trials}.values())


# -- a trial ---------------------------------------------------------------------------------------------------------


class Pruned(Interrupted, optuna.TrialPruned):
    """The pruner stopped a trial; the trial's run ends with the state ``interrupted``."""


class TrialFailed(Exception):
    """Training was stopped by a signal, or failed, perhaps due to the trial's settings; Optuna catches this error."""


@dataclass
class TrialTrainer:
    """The objective of a study: trains with the settings that Optuna suggests, or continues a repeated trial.

    :param stop: whether a signal has stopped the study.
    """

    plan: Plan
    stop: StopSignal

    def __call__(self, trial: Trial) -> float:
        """Train a trial, and return its mean score over the seeds in the last evaluation.

        :raises Pruned: if the pruner stopped the trial.
        :raises TrialFailed: if training failed, or after a signal.
        :raises UsageError: for invalid input that would make every trial fail.
        """
        try:
            # until training begins, a signal stops the trial at once
            with handling_signals(signal.default_int_handler):
                self.stop.check()
                settings = suggest(trial, self.plan.searches)
                log.info("trial %d: %s", trial.number, " ".join(as_words(settings)))
                return train_trial(self.plan, trial, settings)
        except (Pruned, UsageError):
            raise
        except (Interrupted, Abandoned, KeyboardInterrupt) as error:
            self.stop.record()
            raise TrialFailed(str(error)) from error
        except Exception as error:
            log.warning("trial %d failed: %s", trial.number, describe_error(error))
            trial.set_user_attr("reason", describe_error(error))
            raise TrialFailed(str(error)) from error

    def finish(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Log the score of a trial; queue an interrupted trial again."""
        if trial.state == TrialState.COMPLETE:
            log.info("trial %d: score %.4g, best %.4g", trial.number, trial.value, study.best_value)
        elif trial.state == TrialState.PRUNED:
            log.info("trial %d: pruned", trial.number)
        elif self.stop.requested:
            # queue it again, as Optuna does with killed trials, but immediately
            RetryHeartbeatStaleTrialCallback()(study, trial)


def train_trial(plan: Plan, trial: Trial, settings: Mapping[str, Any]) -> float:
    """Train with the settings of a trial; return the mean score over its seeds. A diverged seed has the worst score."""
    request = plan.request.run
    # print fewer messages, because the run's log contains all of them
    verbose = max(0, request.verbose - 1)
    request = replace(
        request,
        hyperparams=(*request.hyperparams, *as_words(settings)),
        log_folder=plan.folder_of(trial.study.trials[trial.number]),
        resume=True,
        verbose=verbose,
    )
    worst = plan.score.limits[0]
    try:
        with messages(verbose):
            try:
                result = train(request, Reporter(trial, plan))
            except Interrupted:
                raise
            except Exception:  # logged here, because the run's log is closed after this block
                log.log(LOG_FILE_ONLY, traceback.format_exc().rstrip())
                raise
    except DivergedError as error:
        # as text, because logged values are kept, and with the error the trial's model
        log.warning("trial %d: %s", trial.number, str(error))
        return worst
    scores = [run.get(plan.score.name) for run in result.get("runs", [result])]
    return float(np.mean([worst if score is None else score for score in scores]))


@dataclass
class Reporter:
    """Reports the evaluations of a run to the study, and stops the run if the study's pruner decides so.

    The evaluation at step 0, before the offline and online phases, is not reported. Later evaluations are numbered
    from 1. A resumed run also reports the evaluations made before it was resumed.
    """

    trial: Trial
    plan: Plan
    reported: int = 0

    def __call__(self, histories: Sequence[Evaluations]) -> None:
        """Report new evaluations."""
        # a diverged replica has fewer evaluations than other replicas
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
    """Return the mean score over replicas in an evaluation; a replica without this evaluation has the worst score."""
    scores = [kind.limits[0]] * len(histories)
    for index, history in enumerate(histories):
        values = history.get("successes" if kind is SUCCESS else "results", ())
        if len(values) > row:
            scores[index] = float(values[row].mean())
    return float(np.mean(scores))


# -- results of a study ----------------------------------------------------------------------------------------------


def summarise(study: optuna.Study, plan: Plan) -> dict[str, Any]:
    """Write the best settings to the study's folder, and return the result to print."""
    states = Counter(state.name.lower() for state in trial_states(study))
    result = {"study": plan.name, "folder": str(plan.folder), "trials": dict(states), "best": None}
    if not states["complete"]:
        return result
    best = study.best_trial
    settings = suggest(best, plan.searches)
    source = f"study {plan.name}, trial {best.number}: mean score {best.value:.4g} over seeds "
    source += ", ".join(map(str, plan.seeds))
    # a file for `-conf`
    entry = {"source": source, "status": "tuned here", **settings}
    write_text(plan.folder / "best.yml", dump_yaml({plan.run.config.env: entry}))
    # the score is infinite if every trial has diverged, but JSON has no infinite numbers
    score = best.value if math.isfinite(best.value or 0.0) else None
    return result | {
        "best": {
            "trial": best.number,
            "score": score,
            "settings": settings,
            "folder": str(plan.folder_of(best)),
        },
        "best_conf": str(plan.folder / "best.yml"),
    }
