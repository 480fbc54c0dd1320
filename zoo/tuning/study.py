"""A study: Optuna proposes settings, each trial is a training run, and several starts may share one study."""

import contextlib
import math
import shlex
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib import pyplot as plt
from optuna.exceptions import UpdateFinishedTrialError
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.storages import RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState
from optuna.visualization.matplotlib import (
    plot_optimization_history,
    plot_param_importances,
    plot_slice,
)

from agents.common.files import atomic_path, write_text
from agents.common.replicas import DivergedError
from zoo.algorithms.baselines import find_algorithm
from zoo.runs.folder import (
    STUDY,
    Evaluations,
    RunFolder,
    check_log_folder,
    describe_error,
    find_run_folders,
)
from zoo.runs.locks import Lock
from zoo.runs.protocol import shortened
from zoo.runs.resume import differences
from zoo.runs.scores import RETURN, SUCCESS, ScoreKind
from zoo.settings.layers import dump_yaml, merge
from zoo.settings.request import TrainRequest, TrialSettings
from zoo.terminal.errors import Interrupted, UsageError, handling_signals
from zoo.terminal.messages import LOG_FILE_ONLY, log, messages, say_once
from zoo.training.callbacks import StopSignal
from zoo.training.plan import plan_run
from zoo.training.start import train
from zoo.tuning import options
from zoo.tuning.options import (
    DATABASE,
    STUDIES,
    Plan,
    define,
    is_url,
    open_storage,
    params_of,
    plan_study,
    suggest,
)  # fmt: skip
from zoo.tuning.request import StudyRequest

POLL_SECONDS = 2.0
MIN_TRIALS_FOR_IMPORTANCE = 8
STOPPED = "stopped by a signal"
"""Reason of a trial that is to be continued."""
CONTINUE = "stopped by a signal; the same command continues the study"

SCORED_BY = "scored_by"
"""Attribute of a trial: the score of its evaluations, success or return."""
SETTINGS = "settings"
"""Attribute of a trial: its settings."""
DEFINITION = "definition"
"""Attribute of a study: the settings that all of its trials share."""


first_attempt = RetryHeartbeatStaleTrialCallback.retried_trial_number
"""Returns the number of the trial that a trial repeats, or None."""


class Pruned(Interrupted):
    """The pruner ended a trial early; its run ends as ``interrupted``."""


class TrialTaken(Interrupted):
    """Another start repeats the trial, whose heartbeat was late; its run ends as ``interrupted``."""


class TrialFailed(Exception):
    """Training was stopped by a signal, or failed in a way that other settings may not; Optuna does not raise it."""


@dataclass
class TrialTrainer:
    """The objective of a study: trains the settings that Optuna proposes, or continues the trial that is repeated.

    :param stop: whether a signal has asked for the end.
    :param begun: number of trials that have begun, repetitions included.
    :param number: of the last one.
    """

    plan: Plan
    stop: StopSignal
    begun: int = 0
    number: int = -1

    def __call__(self, trial: Trial) -> float:
        """Return the mean score over the seeds in the last evaluation.

        :raises optuna.TrialPruned: if the pruner ended the trial.
        :raises TrialFailed: if training failed, or after a signal.
        :raises UsageError: for bad input, which the next trial would find too.
        """
        self.begun += 1
        self.number = trial.number
        settings = suggest(trial, self.plan.searches)
        trial.set_user_attr(SETTINGS, settings)
        values = (f"{name} {value}" for name, value in settings.items())
        log.info("trial %d: %s", trial.number, ", ".join(values))
        first = first_attempt(trial.study.get_trials(deepcopy=False)[trial.number])
        number = trial.number
        if first is not None:  # a repetition goes on with the runs of the first attempt
            number = first
        folder = self.plan.folder / f"trial_{number}"
        folder.mkdir(parents=True, exist_ok=True)
        reason = ""
        try:
            self._wait_for_runs(folder)
            scores, reason = _train(self.plan, trial, folder, first is not None)
        except Pruned as error:
            reason = str(error)
            raise optuna.TrialPruned(reason) from error
        except TrialTaken:
            raise
        except (Interrupted, KeyboardInterrupt) as error:
            self.stop.requested = True  # the training has heard the signal in place of this program
            reason = STOPPED
            raise TrialFailed(reason) from error
        except Exception as error:
            reason = describe_error(error)
            if isinstance(error, UsageError):
                raise
            log.log(LOG_FILE_ONLY, "".join(traceback.format_exception(error)).rstrip())
            raise TrialFailed(reason) from error
        finally:
            trial.set_user_attr("runs", list(map(str, find_run_folders([folder]))))
            trial.set_user_attr("reason", reason)
        trial.set_user_attr("scores", scores)
        return float(np.mean(scores))

    def _wait_for_runs(self, folder: Path) -> None:
        """Wait while a process that counts as killed, but was only suspended, still trains the runs of a trial."""
        for run in map(RunFolder, find_run_folders([folder])):
            while run.lock.is_held():
                if self.stop.requested:
                    raise Interrupted(STOPPED)
                say_once(
                    f"{run.path} is still being trained by {run.lock.describe_holder()}; waiting"
                )
                time.sleep(POLL_SECONDS)


def _train(plan: Plan, trial: Trial, folder: Path, resume: bool) -> tuple[list[float], str]:
    """Return the scores of a trial's seeds, and which of them diverged."""
    chosen = TrialSettings(trial.user_attrs[SETTINGS], f"study {plan.name}, trial {trial.number}")
    # the study logs its trials; messages of a run stay in the run's own log
    verbose = max(0, plan.request.run.verbose - 1)
    request = replace(
        plan.request.run, log_folder=folder, trial=chosen, resume=resume, verbose=verbose
    )
    kind = RETURN
    if plan.run.has_success or SUCCESS.name in scored_by(trial.study):
        kind = SUCCESS
    reporter = Reporter(trial, plan.steps, kind)
    try:
        with messages(verbose):
            result = train(request, reporter)
    except DivergedError as error:
        return [reporter.kind.limits[0]] * len(plan.seeds), str(error)
    runs = result.get("runs", [result])
    reporter.require_one_score(any(run["success"] is not None for run in runs))
    return scores_of_runs(runs, reporter.kind)


def scored_by(study: optuna.Study) -> dict[str, int]:
    """Return the scores of a study's trials, success or return -> the first trial with it."""
    numbers: dict[str, int] = {}
    for trial in study.get_trials(deepcopy=False):
        if SCORED_BY in trial.user_attrs:
            numbers.setdefault(trial.user_attrs[SCORED_BY], trial.number)
    return numbers


@dataclass
class Reporter:
    """Reports every evaluation of a run to its study, and ends the run if the study's pruner says so.

    Evaluations are numbered from 1; that of step 0 is not reported, since it does not depend on the trial. A run that
    continues from a checkpoint reports its earlier evaluations too.

    :param kind: success where that is known to be the score, else the return, until an episode reports success.
    """

    trial: Trial
    steps: int
    kind: ScoreKind
    reported: int = 0

    def __call__(self, histories: Sequence[Evaluations]) -> None:
        """Report the evaluations that are new."""
        self.require_one_score(any("successes" in history for history in histories))
        # A replica that has diverged has fewer evaluations than the others.
        steps = max((history.get("timesteps", np.empty(0)) for history in histories), key=len)
        trained = np.flatnonzero(steps)
        if len(trained) == self.reported:
            return
        for number, row in enumerate(trained[self.reported :], start=self.reported + 1):
            score = float(np.mean(scores_of(histories, row, self.kind)))
            with self._raising_if_taken():
                self.trial.report(score, number)
        self.reported = len(trained)
        if steps[-1] < self.steps and self.trial.should_prune():
            raise Pruned(f"score {score:.4g} in evaluation {len(trained)}, at step {steps[-1]}")

    def require_one_score(self, is_reported: bool) -> None:
        """Record the score of the trial: success or return.

        :param is_reported: whether its episodes have reported success.
        :raises UsageError: if earlier evaluations or trials of the study had another score.
        """
        if is_reported:
            self.kind = SUCCESS
        earlier = scored_by(self.trial.study)
        with self._raising_if_taken():
            self.trial.set_user_attr(SCORED_BY, self.kind.name)
        for name, number in earlier.items():
            if name != self.kind.name:
                raise UsageError(
                    f"the trials of a study must have one score, got {self.kind.name} in trial {self.trial.number} and "
                    f"{name} in trial {number}, where no episode had reported a success yet; start another study with "
                    "--score success, which counts such episodes as failures, or with --score return"
                )

    @contextlib.contextmanager
    def _raising_if_taken(self) -> Iterator[None]:
        """Raise TrialTaken if the study has given the trial to another start meanwhile."""
        try:
            yield
        except UpdateFinishedTrialError as error:
            raise TrialTaken(f"another start repeats trial {self.trial.number}") from error


def scores_of(histories: Sequence[Evaluations], row: int, kind: ScoreKind) -> list[float]:
    """Return the scores of replicas in an evaluation: success, or the return.

    A replica without that evaluation, or without successes where others report them, has the worst score.
    """
    name = "results"
    if kind is SUCCESS:
        name = "successes"
    scores = [kind.limits[0]] * len(histories)
    for index, history in enumerate(histories):
        values = history.get(name, ())
        if len(values) > row:
            scores[index] = float(values[row].mean())
    return scores


def scores_of_runs(runs: Sequence[Mapping[str, Any]], kind: ScoreKind) -> tuple[list[float], str]:
    """Return the scores of the last evaluation in the results of runs, and why seeds diverged."""
    scores = []
    reasons = []
    for run in runs:
        score = run.get(kind.name)
        if "reason" in run:
            reasons.append(f"seed {run['seed']}: {run['reason']}")
        if score is None:  # a seed that diverged, or whose episodes have reported no success
            score = kind.limits[0]
        scores.append(float(score))
    return scores, "; ".join(reasons)


def retried_numbers(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of the trials that others repeat."""
    numbers: set[int] = set()
    for trial in trials:
        numbers.update(RetryHeartbeatStaleTrialCallback.retry_history(trial))
    return numbers


# -- a study ---------------------------------------------------------------------------------------------------------


def tune(request: StudyRequest) -> dict[str, Any]:
    """Run the trials of a study, and return the result to print."""
    begin = time.monotonic()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # this program has messages of its own
    plan = plan_study(request)
    check_log_folder(plan.folder)
    find_study(plan)  # what is refused is refused before the lock makes a folder
    with Lock(plan.folder / ".lock"):  # only one of several simultaneous starts makes the study
        study = open_study(plan)
    try:
        run_trials(study, plan)
    finally:
        result = summarise(study, plan)
    if result["best"] is None:
        raise RuntimeError(
            f"no trial has finished; see {plan.folder / 'trials.csv'} for the reasons"
        )
    return {**result, "wall_s": round(time.monotonic() - begin, 1), "next": command_with_best(plan)}


def command_with_best(plan: Plan) -> str:
    """Return the command line that trains the best settings with new seeds, under the protocol of a report."""
    study = plan.name
    if plan.request.study_storage is not None:
        study = f"{plan.storage}:{plan.name}"
    run = dict(plan.request.run.run)
    run.pop("eval_freq", None)  # an interval for the pruner
    request = replace(
        plan.request.run, study=study, trial_id="best", seeds=None, eval_seed=0, run=run
    )
    return f"zoo train {shlex.join(request.command_line())}"


def open_study(plan: Plan) -> optuna.Study:
    """Return the study, made if need be."""
    study = find_study(plan)
    if study is None and any(plan.folder.glob("trial_*")):
        raise UsageError(
            f"{plan.folder} has trials, but {plan.storage} does not know their study; put a copy of the database back, "
            "or choose another --study-name"
        )
    if study is None:
        storage = open_storage(plan.storage)
        study = optuna.create_study(storage=storage, study_name=plan.name, direction="maximize")
    # Not stored: a call may go on with another one.
    study.pruner = plan.make_pruner()
    if not study.get_trials(deepcopy=False):
        study.set_user_attr(DEFINITION, plan.definition)
        # The untuned settings come first: what the search finds is to be better than these.
        study.enqueue_trial(params_of(plan.run.config.settings, plan.searches))
    write_text(plan.folder / STUDY, dump_yaml({"study": plan.name, **plan.definition}))
    return study


def find_study(plan: Plan) -> optuna.Study | None:
    """Return the study if it exists; refuse one whose trials differ in more than what is searched."""
    if plan.request.study_storage is None and not Path(plan.storage).exists():
        return None  # opening it would need its folder
    storage = open_storage(plan.storage)
    if plan.name not in optuna.get_all_study_names(storage):
        return None
    study = optuna.load_study(study_name=plan.name, storage=storage)
    if not study.get_trials(deepcopy=False):  # a start that was killed has only begun to make it
        return study
    if DEFINITION not in study.user_attrs:
        raise UsageError(
            f"study `{plan.name}` in {plan.storage} is not one of `zoo tune`; choose another --study-name"
        )
    changes = differences(study.user_attrs[DEFINITION], plan.definition)
    if changes:
        raise UsageError(
            f"study `{plan.name}` exists and its trials differ: {'; '.join(changes)}; repeat its command, or choose "
            "another --study-name"
        )
    return study


def run_trials(study: optuna.Study, plan: Plan) -> None:
    """Run trials one after the other until there are enough, or time is up.

    Trials that were running before this call have ended first, or are known to be alive. With a total, wait for the
    trials that other starts run: a killed one is repeated here.

    :raises UsageError: if a trial finds its settings, data or environment wrong.
    :raises Interrupted: after a signal; the trial in training is in the queue again.
    """
    deadline = math.inf
    if plan.request.timeout is not None:
        deadline = time.monotonic() + plan.request.timeout
    total = plan.request.max_total_trials
    # the database's clock counts whole seconds
    end_of_grace = time.monotonic() + options.GRACE_SECONDS + 2
    stop = StopSignal()
    trainer = TrialTrainer(plan, stop)
    with handling_signals(stop.handle):
        while True:
            if stop.requested:
                raise Interrupted(CONTINUE)
            if time.monotonic() > deadline:
                return
            fail_stale_trials(study)
            trials = study.get_trials(deepcopy=False)
            states = [trial.state for trial in trials if trial.state != TrialState.WAITING]
            is_running = TrialState.RUNNING in states
            # A trial and its repetitions count as one.
            begun = len(states) - len(retried_numbers(trials))
            left = plan.request.n_trials - trainer.begun
            if total is not None:
                left = total - begun
            if is_running and not trainer.begun and time.monotonic() < end_of_grace:
                # The first to be repeated, so that the trials after it are proposed as if nothing had happened.
                reason = "for a minute at most: trials are running, and one whose process was killed is to come first"
            elif left > 0:
                # One at a time, since what is proposed depends on how many trials all starts have begun.
                study.sampler = plan.make_sampler(begun)
                run_trial(study, trainer)
                continue
            elif total is None or not is_running:
                return
            else:
                reason = (
                    "for the trials of other starts; a killed one is repeated, in a minute at most"
                )
            say_once(f"waiting {reason}")
            time.sleep(POLL_SECONDS)


def run_trial(study: optuna.Study, trainer: TrialTrainer) -> None:
    """Run a trial, one that is in the queue if there is any."""
    try:
        study.optimize(trainer, n_trials=1, catch=TrialFailed, callbacks=[finish_trial])
    except ValueError:
        # Optuna takes no result of a trial that has ended: its heartbeat was late, as after a suspension of the
        # machine, and another start repeats it.
        if trainer.number not in retried_numbers(study.get_trials(deepcopy=False)):
            raise
        message = "trial %d: another start repeats it, since its heartbeat was late"
        log.warning(message, trainer.number)


def finish_trial(study: optuna.Study, trial: FrozenTrial) -> None:
    """Log how a trial ended; put one that a signal has stopped into the queue again."""
    reason = trial.user_attrs["reason"]
    if reason == STOPPED:
        # Optuna has recorded the end of this attempt, which works once only, so no other start repeats it too.
        del trial.user_attrs["reason"]
        RetryHeartbeatStaleTrialCallback()(study, trial)
    elif trial.state == TrialState.COMPLETE:
        message = "trial %d: score %.4g, best %.4g %s"
        log.info(message, trial.number, trial.value, study.best_value, reason)
    else:
        log.warning("trial %d: %s, %s", trial.number, trial.state.name.lower(), reason)


# -- what a study has found: a table of all trials, figures, and the best settings as a file for `-conf` -------------


def summarise(study: optuna.Study, plan: Plan) -> dict[str, Any]:
    """Write the results of a study so far to its folder, and return the program's result."""
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    table = tabulate(study, plan.seeds, list(plan.searches))
    with atomic_path(plan.folder / "trials.csv") as temporary:
        table.to_csv(temporary, index=False)
    result: dict[str, Any] = {
        "study": plan.name,
        "storage": plan.storage,
        "folder": str(plan.folder),
        "algo": plan.run.config.algo,
        "env": plan.run.config.env,
        "trials": table["state"].value_counts().to_dict(),
        "best": None,
    }
    if not complete:
        return result
    best = max(complete, key=attrgetter("value"))  # the first one of the highest score
    write_best(best, plan)
    return result | {
        "best": {
            "trial": best.number,
            "score": _finite(best.value),
            "scores": list(map(_finite, best.user_attrs["scores"])),
            "seeds": plan.seeds,
            "settings": best.user_attrs[SETTINGS],
            "runs": best.user_attrs["runs"],
        },
        "best_conf": str(plan.folder / "best.yml"),
        "figures": list(map(str, draw_figures(study, complete, plan))),
    }


def tabulate(study: optuna.Study, seeds: Sequence[int], searched: Sequence[str]) -> pd.DataFrame:
    """Return one row for each trial: number, state, score, score of each seed, settings, seconds, reason and runs."""
    names = [f"seed {seed}" for seed in seeds]
    rows = []
    for trial in study.trials:
        attributes = trial.user_attrs  # fewer in a trial that has not begun or not ended
        row = attributes.get(SETTINGS, {}) | dict(
            zip(names, attributes.get("scores", ()), strict=False)
        )
        row |= {"number": trial.number, "state": trial.state.name.lower(), "score": trial.value}
        if trial.duration is not None:
            row["seconds"] = trial.duration.total_seconds()
        row |= {"retry_of": first_attempt(trial), "reason": attributes.get("reason")}
        row["runs"] = shlex.join(attributes.get("runs", ()))  # a path may have spaces
        rows.append(row)
    order = ["number", "state", "score", *names, *searched, "seconds", "retry_of", "reason", "runs"]
    table = pd.DataFrame(
        rows, columns=order, dtype=object
    )  # whole numbers stay whole beside empty cells
    table["state"] = table["state"].replace("fail", "failed")
    table.loc[table["number"].isin(retried_numbers(study.trials)), "state"] = "retried"
    return table


def write_best(best: FrozenTrial, plan: Plan) -> None:
    """Write the settings of the best trial as a file that ``-conf`` accepts."""
    entry = {
        "source": f"study {plan.name}, trial {best.number}: score {best.value:.4g} in the last evaluation, mean of "
        f"seeds {', '.join(map(str, plan.seeds))}",
        "status": "tuned here",
        **merge({}, best.user_attrs[SETTINGS]),
    }
    command = shlex.join(sys.orig_argv).replace("\n", " ")  # a comment ends with its line
    text = f"# {command}\n" + dump_yaml({plan.run.config.env: entry})
    write_text(plan.folder / "best.yml", text)


def _finite(value: float | None) -> float | None:
    """Return a score for JSON, which knows no infinity."""
    if value is None or math.isinf(value):
        return None
    return value


def draw_figures(study: optuna.Study, complete: Sequence[FrozenTrial], plan: Plan) -> list[Path]:
    """Write Optuna's figures that the trials allow to the study's folder; return their paths."""
    values = list(filter(math.isfinite, map(attrgetter("value"), complete)))
    if not values:
        return []
    plots: dict[str, Callable[..., Any]] = {
        "history": plot_optimization_history,
        "slices": plot_slice,
    }
    if len(values) >= MIN_TRIALS_FOR_IMPORTANCE and len(set(values)) > 1 and len(plan.searches) > 1:
        plots["importances"] = partial(
            plot_param_importances, evaluator=PedAnovaImportanceEvaluator()
        )
    plt.switch_backend("agg")  # nothing is shown
    paths = []
    for name, plot in plots.items():
        paths.append(plan.folder / f"{name}.png")
        with warnings.catch_warnings(), plt.rc_context(), atomic_path(paths[-1]) as temporary:
            warnings.simplefilter("ignore")  # about trials that are left out
            axes = np.ravel(plot(study, target_name="score of the last evaluation"))
            axes[0].figure.savefig(temporary, format="png", dpi=200, bbox_inches="tight")
            plt.close(axes[0].figure)
    return paths


# -- a trial of a study that another run begins with -----------------------------------------------------------------


def read_trial(study: str, trial_id: str, log_folder: Path, algo: str) -> TrialSettings:
    """Return the settings of a trial, and where they are from.

    :param study: name of a study below the log folder, its database, or ``DATABASE:NAME``.
    :param trial_id: its number, or ``"best"``.
    :param algo: which algorithm the settings are for.
    :raises UsageError: if there is no such study or trial, or it is another algorithm's; says what there is.
    """
    storage, name = _find_study(study, log_folder)
    loaded = optuna.load_study(study_name=name, storage=open_storage(storage))
    definition = loaded.user_attrs.get(DEFINITION)
    if definition is None:
        raise UsageError(f"study `{name}` in {storage} is not one of `zoo tune`; give one that is")
    if definition["algo"] != find_algorithm(algo).id:
        raise UsageError(
            f"study `{name}` has tuned {definition['algo']}, got --algo {algo}; choose a study of that algorithm"
        )
    trial = _find_trial(loaded, trial_id)
    result = "pruned"
    if trial.state == TrialState.COMPLETE:
        result = f"score {trial.value:.4g}"
    return TrialSettings(
        trial.user_attrs[SETTINGS], f"study {name}, trial {trial.number} ({result})", definition
    )


def with_trial(request: TrainRequest) -> TrainRequest:
    """Return a run with the settings of the trial that it names; warn where it differs from the trials of the study."""
    assert request.study is not None
    assert request.trial_id is not None
    trial = read_trial(request.study, request.trial_id, request.log_folder, request.algo)
    request = replace(request, trial=trial)
    definition = define(plan_run(request), trial.settings)
    for name in ("seeds", "search", "eval_seed", "eval_freq"):  # of a report, as they are to be
        definition[name] = trial.shared.get(name)
    changes = shortened(differences(trial.shared, definition))
    if changes:
        log.warning("the settings of %s were tuned otherwise: %s", trial.source, "; ".join(changes))
    return request


def _find_study(study: str, log_folder: Path) -> tuple[str, str]:
    """Return the database and the name of a study."""
    storage, name = study, ""
    prefix, _, suffix = study.rpartition(":")
    # `DATABASE:NAME`, unless the colon is in the path of a file or after the scheme of a URL.
    if prefix and "/" not in suffix and not Path(study).is_file():
        storage, name = prefix, suffix
    if not is_url(storage) and not Path(storage).is_file():
        storage = str(log_folder / STUDIES / study / DATABASE)
        name = study
    names: list[str] = []
    if is_url(storage) or Path(storage).is_file():
        names = sorted(optuna.get_all_study_names(open_storage(storage)))
    if not name and len(names) == 1:
        name = names[0]
    if name in names:
        return storage, name
    if not names:
        names = sorted(file.parent.name for file in (log_folder / STUDIES).glob(f"*/{DATABASE}"))
    raise UsageError(
        f"`--study` expects the name of a study in {log_folder / STUDIES}, the database of one, or DATABASE:NAME, got "
        f"{study}; there are: {', '.join(names) or 'none'}"
    )


def _find_trial(study: optuna.Study, trial_id: str) -> FrozenTrial:
    """Return a trial that has been trained, by its number or as the best."""
    # A pruned trial may be trained by its number, but is never the best.
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if trial_id == "best" and complete:
        return max(complete, key=attrgetter("value"))
    for trial in trials:
        if str(trial.number) == trial_id:
            return trial
    numbers = ", ".join(str(trial.number) for trial in trials) or "none yet"
    if complete:
        numbers += "; or best"
    raise UsageError(
        f"study `{study.study_name}` has no finished trial `{trial_id}`; expected the number of one of these: {numbers}"
    )
