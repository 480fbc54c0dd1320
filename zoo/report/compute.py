"""Compute every number of a comparison from the scores of runs and from published means.

The score of a run is its last evaluation in the phase, never its best one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from zoo.datasets.names import split_environment, tasks_of
from zoo.report.bootstrap import interquartile_means, performance_profiles
from zoo.report.comparison import (
    ALL_TASKS,
    CURVE_COLUMNS,
    PROFILE_COLUMNS,
    Cell,
    Comparison,
    Methods,
    Phase,
    by_domain,
    by_place,
    joined,
    label_of,
)
from zoo.report.scores import ScoreTables, last_evaluations, suite_of
from zoo.report.significance import Evidence, decide
from zoo.report.statistics import (
    Array,
    Episodes,
    Estimate,
    Mean,
    Scores,
    mean,
)
from zoo.runs.folder import PHASES
from zoo.runs.scores import SCORE_KINDS, SUCCESS, ScoreKind


def compare_kinds(scores: ScoreTables, reps: int, **choices: Any) -> list[Comparison]:
    """Compute the comparison of each kind of scores, in the order of `SCORE_KINDS`.

    :param choices: other arguments of `compare`.
    """
    comparisons = []
    for kind in SCORE_KINDS.values():
        part = scores.only("kind", [kind.name])
        if len(part.table):
            comparisons.append(compare(part, reps, kind=kind, **choices))
    return comparisons


def compare(
    tables: ScoreTables,
    reps: int,
    curves: bool = True,
    kind: ScoreKind = SUCCESS,
    focus: str | None = None,
) -> Comparison:
    """Compute every number of a comparison whose scores are of one kind.

    :param curves: whether to compute profiles and learning curves.
    :param focus: as in `Comparison`.
    """
    parts = {}
    for name in PHASES:
        table = tables.only("phase", [name]).table
        if len(table):
            parts[name] = PhaseScores(name, table, tables.methods, kind, reps)
    # a curve spans both phases, so its tasks are shared by all methods in every phase
    curve_tasks = _shared(chain.from_iterable(part.single.values() for part in parts.values()))
    label = label_of(curve_tasks, suite_of(curve_tasks))
    phases: dict[str, Phase] = {}
    comparison = Comparison(kind, tables.methods, phases, label, focus)
    incomplete_tasks = _tasks_missing_a_phase(tables.evaluations) if kind is SUCCESS else set()
    for name, scores in parts.items():
        phase = scores.phase()
        if curves:
            phase = scores.with_curves(phase, curve_tasks, incomplete_tasks)
        phases[name] = decide(comparison, phase, scores.evidence(phase), reps)
    return comparison


@dataclass(frozen=True)
class PhaseScores:
    """The scores of one phase and their averages over tasks.

    :param table: the rows of `ScoreTables` of this phase and kind.
    """

    name: str
    table: pd.DataFrame
    methods: Methods
    kind: ScoreKind
    reps: int

    def phase(self) -> Phase:
        """Compute every number of the phase except its profiles, curves and decision."""
        coverage = self.coverage()
        all_tasks = sorted(set().union(*coverage.values()))
        tasks = _shared(coverage.values())
        averages = {}
        if _can_average(tasks, self.kind):
            # only aggregates have an IQM: on one task or domain, an IQM is uninformative, and its bootstrap is slow
            averages = self.cells(tasks, with_iqm=True)
        domain_tasks = self.domain_tasks()
        domains = {}
        # for returns, each domain is a single task, and `per_task` contains its mean
        if self.kind is SUCCESS:
            domains = {domain: self.cells(own_tasks) for domain, own_tasks in domain_tasks.items()}
        per_task = {task: self.cells([task]) for task in all_tasks}
        return Phase(
            name=self.name,
            step_ranges=self.step_ranges(tasks or all_tasks),
            coverage=coverage,
            tasks=tasks,
            aggregates=averages,
            domains=domains,
            domain_tasks=domain_tasks,
            # a task has no cells if, for example, only its domain's mean was published
            per_task={task: cells for task, cells in per_task.items() if cells},
            suite=suite_of(tasks),
        )

    def evidence(self, phase: Phase) -> Evidence:
        """Return the evidence for the verdicts of the phase."""
        scores = self.having(phase.tasks)
        means = {}
        # without aggregates, tasks have different scales, so ranks are tested instead of means
        if phase.aggregates:
            means = {name: self.mean_of(name, runs) for name, runs in scores.items()}
        return Evidence(scores, means)

    def mean_of(self, method: str, scores: Scores) -> Mean:
        """Return the mean of a method over some tasks, with its standard error."""
        return mean(scores, self.episodes.get(method))

    def with_curves(
        self, phase: Phase, curve_tasks: Sequence[str], incomplete_tasks: Collection[str]
    ) -> Phase:
        """Return the phase with its profiles and learning curves.

        :param curve_tasks: tasks of the curves whose ``where`` is `ALL_TASKS`.
        :param incomplete_tasks: tasks excluded from the curves of their domain.
        """
        profiles: list[pd.DataFrame] = []
        curves: list[pd.DataFrame] = []
        averaged = self.having(phase.tasks)
        # a profile pools the runs of all tasks, so their scores need a common scale
        if phase.aggregates and averaged:
            profiles = self.profiles(averaged)
        if _can_average(curve_tasks, self.kind):
            curves = self.curves(ALL_TASKS, curve_tasks)
        for domain, tasks_inside in phase.domain_tasks.items():
            whole_tasks = [task for task in tasks_inside if task not in incomplete_tasks]
            curves += self.curves(domain, whole_tasks)
        return replace(
            phase,
            profiles=joined(profiles, PROFILE_COLUMNS),
            curves=joined(curves, CURVE_COLUMNS),
        )

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The evaluations of single runs."""
        return self.table[self.table["seed"].notna()]

    @cached_property
    def means(self) -> pd.DataFrame:
        """The published means, without intervals, of methods whose single runs are unknown."""
        return self.table[self.table["seed"].isna()]

    @cached_property
    def single(self) -> dict[str, dict[str, Array]]:
        """Method -> task -> the final score of each run, (runs,), sorted by seed."""
        return by_place(last_evaluations(self.runs), lambda runs: runs["score"].to_numpy())

    @cached_property
    def scores_by_step(self) -> dict[str, dict[str, Array]]:
        """Method -> task -> scores, (runs, steps of any run); NaN at steps at which a run was not evaluated."""
        run = ["method", "environment", "seed"]
        table = self.runs.pivot(index=run, columns="step", values="score")
        return by_place(table, pd.DataFrame.to_numpy)

    @cached_property
    def episodes(self) -> Mapping[str, Episodes]:
        """Method -> task -> the smallest number of episodes behind a success rate; empty for returns."""
        if self.kind is not SUCCESS:
            return {}
        return by_place(self.runs, lambda runs: runs["episodes"].min())

    @cached_property
    def published(self) -> dict[str, pd.DataFrame]:
        """Method -> its published means, one row for each task or domain."""
        return dict(iter(self.means.set_index("environment").groupby("method")))

    def coverage(self) -> dict[str, list[str]]:
        """Return method -> the tasks on which it has scores.

        A domain's published mean covers the domain's tasks that have scores of their own, or all of the domain's tasks
        if none has.
        """
        result = {method: sorted(tasks) for method, tasks in self.single.items()}
        evaluated = {*self.table["environment"]}
        for method, rows in self.published.items():
            tasks: set[str] = set()
            for tasks_inside in map(tasks_of, rows.index):
                tasks.update(evaluated.intersection(tasks_inside) or tasks_inside)
            result[method] = sorted(tasks)
        return result

    def step_ranges(self, tasks: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return method -> the smallest and the largest step of its scores on some tasks."""
        places = set().union(*map(split_environment, tasks))
        last = last_evaluations(self.table)
        last = last[last["environment"].isin(places)]
        ranges = {}
        for method, steps in last.groupby("method")["step"]:
            ranges[method] = (int(steps.min()), int(steps.max()))
        return ranges

    def domain_tasks(self) -> dict[str, list[str]]:
        """Return domain -> its evaluated tasks; for returns, each task is a domain.

        If a mean over all of a domain's tasks was published, but only some of the tasks were run, the whole domain is
        an additional entry.
        """
        is_whole = self.means["environment"] == self.means["domain"]
        tasks = {*self.runs["environment"], *self.means.loc[~is_whole, "environment"]}
        if self.kind is not SUCCESS:
            return {task: [task] for task in sorted(tasks)}
        result = dict(sorted(by_domain(tasks).items()))
        for domain in sorted({*self.means.loc[is_whole, "domain"]}):
            all_tasks = sorted(tasks_of(domain))
            if result.setdefault(domain, all_tasks) != all_tasks:
                result[f"{domain}, whole"] = all_tasks
        return result

    def having(self, tasks: Collection[str]) -> dict[str, Scores]:
        """Return the scores of single runs on some tasks, for each method that has runs on all of these tasks."""
        result: dict[str, Scores] = {}
        for name, scores in self.single.items():
            if tasks and scores.keys() >= set(tasks):
                result[name] = {task: scores[task] for task in tasks}
        return result

    def cells(self, tasks: Sequence[str], with_iqm: bool = False) -> dict[str, Cell]:
        """Return method -> its average over some tasks, if it has scores on all of them; published means come last."""
        result = {}
        having = self.having(tasks)
        # call this once for all methods, because methods with equal numbers of runs are resampled together
        iqms = interquartile_means(having, self.reps) if with_iqm else {}
        for name, scores in having.items():
            average = self.mean_of(name, scores).curve(self.kind.limits).estimate()
            seeds = sorted(map(len, scores.values()))
            tally = self.methods[name].tally(tasks)
            result[name] = Cell(average, (seeds[0], seeds[-1]), iqms.get(name), tally)
        return result | self._published_cells(tasks)

    def _published_cells(self, tasks: Sequence[str]) -> dict[str, Cell]:
        """Return method -> its mean over some tasks, from the published means of these tasks or of their domains."""
        domains = [split_environment(task)[1] for task in tasks]
        # the mean of a domain can be used only if all tasks of the domain are requested
        are_whole = len(tasks) == sum(len(tasks_of(domain)) for domain in {*domains})
        result = {}
        for method, means in self.published.items():
            rows = means.reindex(tasks)
            if rows["score"].hasnans and are_whole:
                rows = means.reindex(domains)  # each counts once for each of its tasks
            if not rows["score"].hasnans:
                seeds = (int(rows["seeds"].min()), int(rows["seeds"].max()))
                result[method] = Cell(Estimate(float(rows["score"].mean())), seeds)
        return result

    def profiles(self, averaged: Mapping[str, Scores]) -> list[pd.DataFrame]:
        """Return the performance profile of each method, columns `PROFILE_COLUMNS`."""
        thresholds = _thresholds(self.runs, averaged, self.kind)
        parts = []
        for name, curve in performance_profiles(averaged, thresholds, self.reps).items():
            seeds = min(map(len, averaged[name].values()))
            table = curve.table().rename(columns={"value": "fraction"})
            parts.append(table.assign(method=name, phase=self.name, tau=thresholds, seeds=seeds))
        return parts

    def curves(self, where: str, tasks: Sequence[str]) -> list[pd.DataFrame]:
        """Return learning curves over some tasks, for each method that has runs on all of these tasks.

        The columns are `CURVE_COLUMNS`. A curve contains the steps at which all runs of the method on these tasks were
        evaluated.
        """
        parts = []
        steps = np.unique(self.runs["step"])
        for name in self.having(tasks):
            scores = {task: self.scores_by_step[name][task] for task in tasks}
            # keep only steps at which all runs were evaluated, so that all means are over the same runs
            is_shared = ~np.isnan(np.concatenate(list(scores.values()))).any(axis=0)
            scores = {task: runs[:, is_shared] for task, runs in scores.items()}
            table = self.mean_of(name, scores).curve(self.kind.limits).table()
            about = {"method": name, "phase": self.name, "where": where, "step": steps[is_shared]}
            parts.append(table.assign(seeds=min(map(len, scores.values())), **about))
        return parts


def _shared(coverage: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Return the tasks that all methods share, sorted."""
    task_sets = [*map(set, coverage)]
    if not task_sets:
        return ()
    return tuple(sorted(set.intersection(*task_sets)))


def _can_average(tasks: Sequence[str], kind: ScoreKind) -> bool:
    """Return whether there is at least one task, and the tasks' scores have a common scale."""
    return len(tasks) == 1 or (kind.is_comparable and len(tasks) > 0)


def _tasks_missing_a_phase(evaluations: pd.DataFrame) -> set[str]:
    """Return the tasks that were evaluated in fewer phases than their domain.

    If they were included, their domain's curve would be over different tasks in different phases.
    """
    phases_of_task = evaluations.groupby("environment")["phase"].transform("nunique")
    phases_of_domain = evaluations.groupby("domain")["phase"].transform("nunique")
    return set(evaluations.loc[phases_of_task < phases_of_domain, "environment"])


def _thresholds(runs: pd.DataFrame, scores: Mapping[str, Scores], kind: ScoreKind) -> Array:
    """Return the thresholds of profiles: midpoints between possible success rates, or a grid over all returns."""
    if kind is SUCCESS:
        # success rates are multiples of 1 / m for m episodes; at midpoints between them, rounding does not matter
        episodes = runs["episodes"].max()
        return (np.arange(episodes) + 0.5) / episodes
    values = np.concatenate([np.concatenate([*by_task.values()]) for by_task in scores.values()])
    low = values.min()
    high = values.max()
    # the grid extends from slightly below the lowest score to slightly above the highest
    margin = 0.02 * (high - low or abs(high) or 1.0)
    return np.linspace(low - margin, high + margin, 201)
