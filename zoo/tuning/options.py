"""A study as the flags of ``zoo tune`` ask for it, and its search space, checked before any work."""

import math
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import Trial
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from agents.common.method import Method
from agents.common.settings import Choice, Range, Search, Setting
from agents.common.streams import Purpose, seed_for
from agents.registry import Entry
from zoo.algorithms.baselines import find_algorithm, settings_of
from zoo.runs.folder import file_name_of
from zoo.settings.config import require_setting
from zoo.settings.layers import flatten, load_yaml, parse_overrides
from zoo.terminal.errors import UsageError, as_usage_error
from zoo.terminal.messages import log
from zoo.training.plan import RunPlan, plan_run
from zoo.tuning.request import StudyRequest

STUDIES = "studies"
"""Folder of studies in a log folder."""
DATABASE = "study.db"
HEARTBEAT_SECONDS = 10
"""Time between two heartbeats of a running trial."""
GRACE_SECONDS = 60
"""Time without a heartbeat after which a trial counts as killed."""
LOCK_SECONDS = 60.0
"""How long to wait for a SQLite file that another start is writing; SQLite's own 5 s are short for a slow disk."""
MAX_RETRIES = 5
"""How often a killed trial is repeated: its settings may kill it again."""


@dataclass(frozen=True)
class Plan:
    """A checked study.

    :param request: the flags.
    :param run: its training runs, without the settings of a trial.
    :param searches: setting -> where to search for its value.
    :param definition: settings that all trials of the study share, with dotted names.
    """

    request: StudyRequest
    run: RunPlan
    searches: Mapping[str, Search]
    definition: dict[str, Any]
    name: str
    storage: str
    folder: Path

    @property
    def seeds(self) -> list[int]:
        """Seeds of the replicas of every trial."""
        assert self.request.run.seeds is not None
        return list(self.request.run.seeds)

    @property
    def steps(self) -> int:
        """Steps of every trial on its learning curve."""
        return self.run.config.run.offline_steps + self.run.config.run.online_steps

    def make_sampler(self, number: int) -> BaseSampler:
        """Return the sampler that proposes a trial.

        :param number: of trials before it, where a trial and its repetitions count as one. Random numbers depend on it
            alone, so that a study proposes the same settings whether trials were killed or not.
        """
        seed = seed_for(Purpose.TRIALS, self.seeds, number)
        if self.request.sampler == "random":
            return RandomSampler(seed)
        if self.request.sampler == "qmc":  # one sequence; Optuna stores its position with the study
            return QMCSampler(
                seed=seed_for(Purpose.TRIAL_SEQUENCE, self.seeds),
                scramble=True,
                warn_independent_sampling=False,
            )
        return TPESampler(
            seed=seed, n_startup_trials=self.request.n_startup_trials, constant_liar=True
        )

    def make_pruner(self) -> BasePruner:
        """Return the pruner, which decides after each evaluation whether a trial goes on."""
        if self.request.pruner == "none":
            return NopPruner()
        if self.request.pruner == "halving":
            return SuccessiveHalvingPruner(min_resource=1)
        # no trial is pruned in its first third, where scores rank trials badly
        evaluations = self.steps // self.run.config.run.eval_freq
        return MedianPruner(
            n_startup_trials=self.request.n_startup_trials, n_warmup_steps=evaluations // 3
        )


def plan_study(request: StudyRequest) -> Plan:
    """Check the flags of a study; raise UsageError if one is wrong or two contradict each other."""
    run = plan_run(request.run)
    if request.n_evaluations is not None:
        if "eval_freq" in request.run.run:
            raise UsageError(
                "`--n-evaluations` and `--eval-freq` both say when to evaluate; give one of them"
            )
        steps = run.config.run
        interval = steps_between(request.n_evaluations, steps.offline_steps, steps.online_steps)
        request = replace(
            request, run=replace(request.run, run={**request.run.run, "eval_freq": interval})
        )
        run = plan_run(request.run)
    # a nested setting is fixed under both names, e.g. `normalize` and `normalize.norm_reward`
    entry = find_algorithm(request.run.algo)
    fixed = parse_overrides(request.run.hyperparams, "-params")
    searches = read_searches(entry, request.search, {**fixed, **dict(flatten(fixed))})
    name = request.study_name or f"{entry.id}_{file_name_of(request.run.env)}"
    if not re.fullmatch(r"[^/:.][^/:]*", name):
        raise UsageError(
            f"`--study-name` names a folder, without `/`, `:` or a leading dot, got {name!r}; choose another"
        )
    folder = request.run.log_folder.resolve() / STUDIES / name
    storage = request.study_storage or str(folder / DATABASE)
    if not is_url(storage):
        storage = str(Path(storage).resolve())
    return Plan(request, run, searches, define(run, searches), name, storage, folder)


def steps_between(evaluations: int, offline_steps: int, online_steps: int) -> int:
    """Return the steps between evaluations that give a trial that number of them, or nearly so with a warning.

    Each phase ends with an evaluation too.
    """
    steps = offline_steps + online_steps
    # all candidates; `argmin` takes the smallest of equally good ones
    intervals = np.arange(math.ceil(steps / evaluations), steps + 1)
    counts = steps // intervals + (steps % intervals > 0)
    if offline_steps and online_steps:
        counts += offline_steps % intervals > 0
    nearest = np.argmin(np.abs(counts - evaluations))
    if counts[nearest] != evaluations:
        log.warning(
            "each trial has %d evaluations instead of %d, since each phase ends with one",
            counts[nearest],
            evaluations,
        )
    return int(intervals[nearest])


def define(run: RunPlan, searches: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that all trials of a study share; two starts must agree in them to share the study."""
    record = run.config.identity("machine", "output")
    shared = {
        name: value
        for name, value in record.items()
        if name.removeprefix("settings.") not in searches
    }
    search = {name: str(search) for name, search in searches.items()}
    seeds = run.request.seeds and list(run.request.seeds)
    return {**shared, "seeds": seeds, "search": search, "dataset": run.request.dataset}


# -- where to search --------------------------------------------------------------------------------------------------


def suggest(trial: Trial, searches: Mapping[str, Search]) -> dict[str, Any]:
    """Return values of all settings that are searched for a trial."""
    settings: dict[str, Any] = {}
    for name, search in searches.items():
        if isinstance(search, Choice):
            # by its text: Optuna stores plain values only, and some values are lists
            values = {str(value): value for value in search.values}
            settings[name] = values[trial.suggest_categorical(name, list(values))]
        elif isinstance(search.low, int) and isinstance(search.high, int):
            settings[name] = trial.suggest_int(name, search.low, search.high, log=search.log)
        else:
            settings[name] = trial.suggest_float(name, search.low, search.high, log=search.log)
    return settings


def params_of(settings: Mapping[str, Any], searches: Mapping[str, Search]) -> dict[str, Any]:
    """Return the searched settings of a trial with these settings, without values outside their search."""
    params: dict[str, Any] = {}
    values = dict(flatten(settings))
    for name, search in searches.items():
        value = values.get(name)
        if isinstance(search, Choice):
            if value in search.values:
                params[name] = str(value)
        elif isinstance(value, int | float) and search.low <= value <= search.high:
            params[name] = value
    return params


def read_searches(entry: Entry, words: Sequence[str], fixed: Collection[str]) -> dict[str, Search]:
    """Return the searches of ``--search``; without a word, those that the algorithm declares.

    :param words: ``NAME``, ``NAME=low:high``, ``NAME=low:high:log`` or ``NAME=[a,b,c]``.
    :param fixed: settings that ``-params`` fixes, which are not searched.
    :raises UsageError: for an unknown setting, a range outside its bounds, or if nothing is left to search.
    """
    algorithm_settings = settings_of(entry.algorithm)
    searches: dict[str, Search] = {}
    for word in words:
        name, search = _read_word(entry, algorithm_settings, word)
        if name in searches:
            raise UsageError(
                f"`--search` names a setting twice, got {' '.join(words)}; give one range of each"
            )
        if name in fixed:
            raise UsageError(
                f"`{name}` is both searched and fixed by -params; leave out one of the two"
            )
        searches[name] = search
    if not words:
        # without settings that all algorithms share: a search over ten settings needs hundreds of trials
        searches = declared_searches(algorithm_settings)
        for name in fixed:
            searches.pop(name, None)
    if not searches:
        raise UsageError(
            f"there is no setting to search: `{entry.id}` declares none, or -params fixes all; name settings, e.g. "
            "`--search learning_rate weight=0.1:10:log`"
        )
    return {name: _checked(algorithm_settings[name], search) for name, search in searches.items()}


def declared_searches(declared: Mapping[str, Setting]) -> dict[str, Search]:
    """Return the searches that an algorithm declares itself, without those that all algorithms share."""
    shared = Method.declared()
    searches = {}
    for name, setting in declared.items():
        is_shared = name in shared and setting.search is shared[name].search
        if setting.search is not None and not is_shared:
            searches[name] = setting.search
    return searches


def _read_word(entry: Entry, declared: Mapping[str, Setting], word: str) -> tuple[str, Search]:
    """Return the setting that a word of ``--search`` names, and where to search."""
    name, equals, text = word.partition("=")
    require_setting(entry.id, name, declared)
    if equals:
        return name, _read_search(name, text)
    search = declared[name].search
    if search is None:
        raise UsageError(
            f"`{name}` has no declared range; give one, e.g. --search {name}=low:high or {name}=[a,b]"
        )
    return name, search


def _read_search(name: str, text: str) -> Search:
    """Read ``low:high``, ``low:high:log`` or ``[a,b,c]``."""
    with as_usage_error():
        if text.lstrip().startswith("["):
            return Choice(tuple(load_yaml(text, f"`--search {name}`")))
        words = text.split(":")
        bounds = [load_yaml(word, f"`--search {name}`") for word in words[:2]]
        scale = words[2:]
        are_numbers = {type(bound) for bound in bounds} <= {int, float}
        if len(bounds) < 2 or not are_numbers or scale not in ([], ["log"], ["linear"]):
            raise UsageError(
                f"`--search {name}=` expects low:high, low:high:log or [a,b,c], got {text!r}"
            )
        return Range(bounds[0], bounds[1], log=scale == ["log"])


def _checked(setting: Setting, search: Search) -> Search:
    """Return a search whose values have the type of the setting; refuse one outside the setting's bounds."""
    try:
        values = [setting.checked(value) for value in search.ends]
        if isinstance(search, Choice):
            return Choice(tuple(values))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the search of `{setting.name}` in {search} leaves its allowed values: {error}"
        ) from error
    if "float" in setting.annotation:  # else 0:1 would search the integers 0 and 1
        values = list(map(float, values))
    return Range(values[0], values[1], log=search.log)


# -- the database of a study, which any number of starts of ``zoo tune`` share ----------------------------------------


def is_url(storage: str) -> bool:
    """Return whether a storage is the URL of a database rather than the path of a SQLite file."""
    return "://" in storage


def open_storage(storage: str) -> RDBStorage:
    """Open a study's database: the path of a SQLite file, made if it is missing, or a URL that SQLAlchemy knows.

    :raises UsageError: if it cannot be read, or is something else.
    """
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats
    options = {}
    url = storage
    if not is_url(storage):
        # quotes characters with a meaning in a URL (`?`, `%`) or in Optuna's URL templates (`{`)
        url = URL.create("sqlite", database=str(Path(storage).resolve())).render_as_string()
        options = {"connect_args": {"timeout": LOCK_SECONDS}}
    try:
        return RDBStorage(
            url,
            options,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(MAX_RETRIES),
        )
    except (SQLAlchemyError, ImportError, RuntimeError, AssertionError) as error:
        raise UsageError(
            f"the study's database {storage} cannot be opened: {error}; choose another with --storage"
        ) from error
