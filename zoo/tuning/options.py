"""What the command line of ``tune.py`` asks for, checked before any work."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler

from zoo.config import find_entry
from zoo.errors import UsageError
from zoo.layers import parse_overrides
from zoo.messages import log
from zoo.processes.serving import available_cores
from zoo.runs.folder import file_name_of
from zoo.runs.resume import comparable
from zoo.training.options import Request, read_request
from zoo.training.record import describe_run
from zoo.tuning import TUNING_SEED
from zoo.tuning.journal import JOURNAL, study_folder
from zoo.tuning.space import Space, read_space

NOT_COMPARED = ("settings.precision", "settings.compile", "log_interval", "save_freq", "label")
"""Entries of a run's configuration that may differ between the calls that work on one study."""


@dataclass(frozen=True)
class Plan:
    """A study that is asked for.

    :param args: the command line of its training runs, without the settings of a trial.
    :param request: the run that it asks for.
    :param definition: what all trials of the study share, with dotted names.
    :param limit: the most trials of this call, or of the whole study if ``counts_study``.
    """

    args: argparse.Namespace
    request: Request
    space: Space
    definition: dict[str, Any]
    name: str
    journal: Path
    folder: Path
    sampler: str
    pruner: BasePruner
    n_startup_trials: int
    limit: int
    counts_study: bool
    timeout: float
    workers: int

    @property
    def seeds(self) -> list[int]:
        """Seeds of the replicas of every trial."""
        assert self.request.seeds is not None
        return self.request.seeds

    @property
    def steps(self) -> int:
        """Steps of every trial on its learning curve."""
        return self.request.config.run.offline_steps + self.request.config.run.online_steps

    def make_sampler(self, number: int) -> BaseSampler:
        """Return the sampler that proposes a trial; what it draws depends on the trial's number, not on who asks."""
        seed = (self.seeds[0] + number) % 2**32
        if self.sampler == "random":
            return RandomSampler(seed)
        if self.sampler == "qmc":  # one sequence, whose position is kept with the study
            return QMCSampler(seed=self.seeds[0] % 2**32, scramble=True, warn_independent_sampling=False)
        return TPESampler(seed=seed, n_startup_trials=self.n_startup_trials, constant_liar=True)


def read_plan(args: argparse.Namespace) -> Plan:
    """Return the study that a command line asks for; raise UsageError if something in it is wrong."""
    args.seed = -1 if args.seeds else args.seed
    args.trial = None
    args.num_threads = _threads(args)
    request = _read_request(args)
    if min(request.seeds or [TUNING_SEED]) < TUNING_SEED:
        log.info(
            "seeds below %d are usually those of a report; scores of tuned settings are unbiased with other seeds only",
            TUNING_SEED,
        )
    entry = find_entry(args.algo)
    space = read_space(entry, args.search, parse_overrides(args.hyperparams, "-params"))
    name = args.study_name or f"{entry.id}_{file_name_of(args.env)}"
    if not re.fullmatch(r"[^/:.][^/:]*", name):
        raise UsageError(
            f"`--study-name` names a folder, without `/`, `:` or a leading dot, got {name!r}; choose another"
        )
    if args.study_storage and "://" in args.study_storage:
        raise UsageError(f"`--storage` expects the path of a journal file, got the URL {args.study_storage}")
    folder = study_folder(args.log_folder.resolve(), name)
    return Plan(
        args=args,
        request=request,
        space=space,
        definition=_define(request, space),
        name=name,
        journal=Path(args.study_storage).resolve() if args.study_storage else folder / JOURNAL,
        folder=folder,
        sampler=args.sampler,
        pruner=_make_pruner(args, request),
        n_startup_trials=args.n_startup_trials,
        limit=args.max_total_trials or args.n_trials,
        counts_study=args.max_total_trials is not None,
        timeout=float("inf") if args.timeout is None else args.timeout,
        workers=args.n_workers,
    )


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return where the definitions of two studies differ, one phrase each."""
    return [
        f"{name.removeprefix('settings.')} {there.get(name, 'not set')} there, {now.get(name, 'not set')} now"
        for name in dict.fromkeys([*there, *now])
        if there.get(name) != now.get(name)
    ]


def _threads(args: argparse.Namespace) -> int:
    """Return how many threads each trial gets; without a number, several trials at once share the cores."""
    if args.num_threads > 0 or args.n_workers == 1:
        return int(args.num_threads)
    return max(1, available_cores() // args.n_workers)


def _read_request(args: argparse.Namespace) -> Request:
    """Return the training run, with as many evaluations as are asked for."""
    request = read_request(args)
    if args.n_evaluations is None:
        return request
    if args.eval_freq is not None:
        raise UsageError("`--n-evaluations` and `--eval-freq` both say when to evaluate; give one of them")
    steps = request.config.run.offline_steps + request.config.run.online_steps
    args.eval_freq = max(1, steps // args.n_evaluations)
    return read_request(args)


def _make_pruner(args: argparse.Namespace, request: Request) -> BasePruner:
    """Return what decides, after each evaluation, whether a trial goes on."""
    if args.pruner == "none":
        return NopPruner()
    if args.pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=4, min_early_stopping_rate=0)
    run = request.config.run
    evaluations = (run.offline_steps + run.online_steps) // run.eval_freq
    return MedianPruner(n_startup_trials=args.n_startup_trials, n_warmup_steps=evaluations // 3)


def _define(request: Request, space: Space) -> dict[str, Any]:
    """Return what all trials of a study share: two calls must agree in it to work on one study."""
    record = comparable(describe_run(request.config, None, request.args))
    searched = {f"settings.{name}" for name in space.searches}
    shared = {name: value for name, value in record.items() if name not in searched and name not in NOT_COMPARED}
    return {**shared, "seeds": request.seeds, "search": space.describe(), "dataset": request.args.dataset}
