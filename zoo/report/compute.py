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

from zoo.datasets.names import NUM_TASKS
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
from zoo.report.scores import ScoreTables, last_evaluations, suite_of, tasks_of
from zoo.report.significance import Evidence, decide
from zoo.report.statistics import (
    FRACTION,
    Array,
    Episodes,
    Estimate,
    Mean,
    Scores,
    mean,
)
from zoo.runs.folder import PHASES
from zoo.runs.scores import SCORE_KINDS, SUCCESS, ScoreKind

_COLUMNS = ["method", "environment", "domain", "seed", "phase", "step", "episodes", "score"]


def compare_kinds(scores: ScoreTables, reps: int, **choices: Any) -> list[Comparison]:
    """Compute the comparisons of each kind of scores, in the order of `SCORE_KINDS`; arguments as in `compare`.

    Several methods of the user are first compared among themselves, on all common tasks; published scores may have
    fewer.
    """
    own_methods = {name: method for name, method in scores.methods.items() if method.is_own}
    comparisons = []
    means = scores.means  # success rates, which are the first kind
    for kind in SCORE_KINDS.values():
        # copy only the used columns of hundreds of thousands of rows
        runs = scores.evaluations.loc[scores.evaluations["kind"] == kind.name, _COLUMNS]
        own_runs = runs[runs["method"].isin(own_methods)]
        has_others = len(means) + len(runs) > len(own_runs)
        if has_others and own_runs["method"].nunique() > 1:
            comparison = compare(own_methods, own_runs, means.iloc[:0], reps, kind=kind, **choices)
            comparisons.append(replace(comparison, only_own=True))
        if len(runs) or len(means):
            comparisons.append(compare(scores.methods, runs, means, reps, kind=kind, **choices))
        means = means.iloc[:0]
    return comparisons


def compare(
    methods: Methods,
    evaluations: pd.DataFrame,
    means: pd.DataFrame,
    reps: int,
    curves: bool = True,
    kind: ScoreKind = SUCCESS,
    focus: str | None = None,
) -> Comparison:
    """Compute every number of a comparison of scores of one kind.

    :param evaluations: one row for each evaluation of a run, columns `zoo.runs.read.EVALUATION_COLUMNS`.
    :param means: published means of methods without single runs, columns `zoo.report.comparison.MEAN_COLUMNS`.
    :param curves: also compute profiles and learning curves.
    :param focus: as in `Comparison`.
    """
    parts = {}
    for name in PHASES:
        runs = evaluations[evaluations["phase"] == name]
        published = means[means["phase"] == name]
        if len(runs) or len(published):
            parts[name] = PhaseScores(name, runs, published, methods, kind, reps)
    # a curve spans both phases, so it is over the tasks of all methods in each phase
    curve_tasks = _shared(chain.from_iterable(part.single.values() for part in parts.values()))
    label = label_of(curve_tasks, _suite(curve_tasks, kind))
    # phases first: verdicts need the order of methods, which depends on all phases
    phases = {name: scores.phase() for name, scores in parts.items()}
    comparison = Comparison(kind, methods, phases, reps, label, focus)
    incomplete_tasks = _tasks_missing_a_phase(evaluations) if kind is SUCCESS else set()
    for name, scores in parts.items():
        if curves:
            phases[name] = scores.with_curves(phases[name], curve_tasks, incomplete_tasks)
        phases[name] = decide(comparison, phases[name], scores.evidence(phases[name]))
    return comparison


def final_scores(evaluations: pd.DataFrame) -> dict[str, dict[str, Array]]:
    """Return the last scores of the runs of one phase: method -> environment -> (runs,), in the order of the seeds."""
    return by_place(last_evaluations(evaluations), lambda runs: runs["score"].to_numpy())


def episodes_of(runs: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return method -> environment -> the number of episodes of its evaluations, the fewest if they differ.

    :param runs: one row for each evaluation of a run, columns `zoo.runs.read.EVALUATION_COLUMNS`.
    """
    return by_place(runs, lambda part: int(part["episodes"].min()))


@dataclass(frozen=True)
class PhaseScores:
    """The scores of one phase and their averages over tasks.

    :param runs: evaluations of single runs.
    :param means: published means of methods without single runs, which are points without intervals.
    """

    name: str
    runs: pd.DataFrame
    means: pd.DataFrame
    methods: Methods
    kind: ScoreKind
    reps: int

    def phase(self) -> Phase:
        """Compute every number of the phase but its profiles, curves and decisions."""
        coverage = self.coverage()
        all_tasks = sorted(set().union(*coverage.values()))
        tasks = _shared(coverage.values())
        left_out = {}
        for task in all_tasks:
            if task not in tasks:
                left_out[task] = sorted(name for name in coverage if task not in coverage[name])
        averages = {}
        if _can_average(tasks, self.kind):
            # only of aggregates: an IQM of one task or domain is uninformative, and its bootstrap is slow
            averages = self.cells(tasks, with_iqm=True)
        domain_tasks = self.domain_tasks()
        domains = {}
        if self.kind is SUCCESS:  # other scores have no domains of several tasks
            domains = {domain: self.cells(own_tasks) for domain, own_tasks in domain_tasks.items()}
        per_task = {task: self.cells([task]) for task in all_tasks}
        return Phase(
            name=self.name,
            step_ranges=self.step_ranges(),
            coverage=coverage,
            tasks=tasks,
            left_out=left_out,
            aggregates=averages,
            domains=domains,
            domain_tasks=domain_tasks,
            # tasks without per-task results are omitted, e.g. if only a domain mean was published
            per_task={task: cells for task, cells in per_task.items() if cells},
            suite=_suite(tasks, self.kind),
        )

    def evidence(self, phase: Phase) -> Evidence:
        """Return the evidence for the verdicts of the phase."""
        scores = self.having(phase.tasks)
        means = {}
        # without aggregates, scores of tasks have no common scale, and ranks are tested
        if phase.aggregates:
            means = {name: self.mean_of(name, runs) for name, runs in scores.items()}
        return Evidence(scores, means)

    def mean_of(self, method: str, scores: Scores) -> Mean:
        """Return the mean of a method over some tasks, with its error."""
        return mean(scores, self.episodes.get(method))

    def with_curves(
        self, phase: Phase, curve_tasks: Sequence[str], incomplete_tasks: Collection[str]
    ) -> Phase:
        """Return the phase with its profiles and learning curves.

        :param curve_tasks: tasks of the curves over all tasks.
        :param incomplete_tasks: tasks excluded from the curves of their domain.
        """
        profiles: list[pd.DataFrame] = []
        curves: list[pd.DataFrame] = []
        if phase.aggregates:  # a profile pools runs of all tasks, so these need one scale
            profiles = self.profiles(self.having(phase.tasks))
        if _can_average(curve_tasks, self.kind):
            curves = self.curves(ALL_TASKS, curve_tasks)
        for domain, tasks_inside in phase.domain_tasks.items():
            whole_tasks = [task for task in tasks_inside if task not in incomplete_tasks]
            curves += self.curves(domain, whole_tasks)
        return replace(
            phase,
            profiles=self.table(profiles, PROFILE_COLUMNS),
            curves=self.table(curves, CURVE_COLUMNS),
        )

    def table(self, parts: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
        """Return rows of several tables with their kind of scores and phase."""
        about = {"kind": self.kind.name, "phase": self.name}
        return joined(parts, columns).assign(**about)[list(columns)]

    @cached_property
    def single(self) -> dict[str, dict[str, Array]]:
        """Method -> task -> the final score of each run, (runs,)."""
        return final_scores(self.runs)

    @cached_property
    def scores_by_step(self) -> dict[str, dict[str, Array]]:
        """Method -> task -> the score of each run at every step of any run, (runs, steps), NaN if missing."""
        run = ["method", "environment", "seed"]
        table = self.runs.pivot(index=run, columns="step", values="score")
        return by_place(table, pd.DataFrame.to_numpy)

    @cached_property
    def episodes(self) -> Mapping[str, Episodes]:
        """Method -> task -> the number of episodes of a success rate; empty for returns."""
        if self.kind.limits != FRACTION:
            return {}
        return episodes_of(self.runs)

    @cached_property
    def published(self) -> dict[str, pd.DataFrame]:
        """Method -> its published means, a row for each task or domain."""
        return dict(iter(self.means.set_index("environment").groupby("method", sort=False)))

    def coverage(self) -> dict[str, list[str]]:
        """Return the tasks of each method.

        A domain mean covers the tasks of the domain that other methods have, or all tasks if no method has single ones.
        """
        result = {method: sorted(tasks) for method, tasks in self.single.items()}
        evaluated = {*self.runs["environment"], *self.means["environment"]}
        for method, rows in self.published.items():
            tasks: set[str] = set()
            for tasks_inside in map(tasks_of, rows.index):
                tasks.update(evaluated.intersection(tasks_inside) or tasks_inside)
            result[method] = sorted(tasks)
        return result

    def step_ranges(self) -> dict[str, tuple[int, int]]:
        """Return the least and the largest step of each method's scores."""
        columns = ["method", "step"]
        # published means have one step each
        last = joined([last_evaluations(self.runs)[columns], self.means[columns]], columns)
        ranges = {}
        for method, steps in last.groupby("method")["step"]:
            ranges[method] = (int(steps.min()), int(steps.max()))
        return ranges

    def domain_tasks(self) -> dict[str, list[str]]:
        """Return domain -> its evaluated tasks; for returns, each task is a domain.

        If only some tasks were run and a method has a mean over all of them, the whole domain is a separate entry.
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
        """Return the single runs on some tasks of each method that has all of them."""
        result: dict[str, Scores] = {}
        for name, scores in self.single.items():
            if tasks and scores.keys() >= set(tasks):
                result[name] = {task: scores[task] for task in tasks}
        return result

    def cells(self, tasks: Sequence[str], with_iqm: bool = False) -> dict[str, Cell]:
        """Return the averages over some tasks of each method that has all of them, published means last."""
        result = {}
        having = self.having(tasks)
        # all methods together: equal numbers of runs share their resampling
        iqms = interquartile_means(having, self.reps) if with_iqm else {}
        for name, scores in having.items():
            average = self.mean_of(name, scores).curve(self.kind.limits).estimate()
            seeds = sorted(map(len, scores.values()))
            tally = self.methods[name].tally(tasks)
            result[name] = Cell(average, len(tasks), (seeds[0], seeds[-1]), iqms.get(name), tally)
        return result | self._published_cells(tasks)

    def _published_cells(self, tasks: Sequence[str]) -> dict[str, Cell]:
        """Return the published mean over some tasks of each method that has all, task by task or in whole domains."""
        domains = sorted(by_domain(tasks))
        result = {}
        for method, means in self.published.items():
            rows = means.reindex(tasks)
            # a domain mean is usable only for all of its tasks
            if rows["mean"].hasnans and len(tasks) == NUM_TASKS * len(domains):
                rows = means.reindex(domains)
            if not rows["mean"].hasnans:
                seeds = (int(rows["seeds"].min()), int(rows["seeds"].max()))
                result[method] = Cell(Estimate(float(rows["mean"].mean())), len(tasks), seeds)
        return result

    def profiles(self, averaged: Mapping[str, Scores]) -> list[pd.DataFrame]:
        """Return the performance profiles of methods, `PROFILE_COLUMNS` without kind and phase."""
        thresholds = _thresholds(self.runs, averaged, self.kind)
        parts = []
        for name, curve in performance_profiles(averaged, thresholds, self.reps).items():
            seeds = min(map(len, averaged[name].values()))
            table = curve.table().rename(columns={"value": "fraction"})
            parts.append(table.assign(method=name, tau=thresholds, seeds=seeds))
        return parts

    def curves(self, where: str, tasks: Sequence[str]) -> list[pd.DataFrame]:
        """Return the learning curves over some tasks of the methods that have them all, without kind and phase.

        A curve has the steps at which all runs of the method on these tasks were evaluated.
        """
        parts = []
        steps = np.unique(self.runs["step"])
        for name in self.having(tasks):
            scores = {task: self.scores_by_step[name][task] for task in tasks}
            # a step that a run lacks would average other runs
            is_shared = ~np.isnan(np.concatenate(list(scores.values()))).any(axis=0)
            if not is_shared.any():
                continue
            # a fixed memory order, because the last bits of sums depend on it
            scores = {task: np.asfortranarray(runs[:, is_shared]) for task, runs in scores.items()}
            table = self.mean_of(name, scores).curve(self.kind.limits).table()
            about = {"method": name, "where": where, "step": steps[is_shared]}
            parts.append(table.assign(seeds=min(map(len, scores.values())), **about))
        return parts


def _suite(tasks: Sequence[str], kind: ScoreKind) -> str | None:
    """Return the suite that consists of tasks; suites have success rates."""
    if kind is not SUCCESS:
        return None
    return suite_of(tasks)


def _shared(coverage: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Return the tasks that all methods have."""
    task_sets = [*map(set, coverage)]
    if not task_sets:
        return ()
    return tuple(sorted(set.intersection(*task_sets)))


def _can_average(tasks: Sequence[str], kind: ScoreKind) -> bool:
    """Return whether there are tasks, and their scores are on one scale."""
    return len(tasks) == 1 or (kind.is_comparable and len(tasks) > 0)


def _tasks_missing_a_phase(evaluations: pd.DataFrame) -> set[str]:
    """Return the tasks that lack a phase of their domain: its curve would continue on other tasks."""
    phases_of_task = evaluations.groupby("environment")["phase"].transform("nunique")
    phases_of_domain = evaluations.groupby("domain")["phase"].transform("nunique")
    return set(evaluations.loc[phases_of_task < phases_of_domain, "environment"])


def _thresholds(runs: pd.DataFrame, scores: Mapping[str, Scores], kind: ScoreKind) -> Array:
    """Return thresholds of profiles: between possible success rates, or over the range of returns."""
    if kind is SUCCESS:
        # rates of m episodes lie on k / m: halfway between them no rounding decides
        episodes = 1
        if len(runs):
            episodes = int(runs["episodes"].max())
        return (np.arange(episodes) + 0.5) / episodes
    values = np.concatenate([np.concatenate([*by_task.values()]) for by_task in scores.values()])
    low = values.min()
    high = values.max()
    # from all runs above to no run above
    margin = 0.02 * (high - low or abs(high) or 1.0)
    return np.linspace(low - margin, high + margin, 201)
