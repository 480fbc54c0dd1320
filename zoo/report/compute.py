"""Compute every number of a comparison from the scores of runs and from published means.

The score of a run is that of its last evaluation in the phase, never its best one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from zoo.datasets.names import NUM_TASKS
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
from zoo.report.published_scores import suite_of, tasks_of
from zoo.report.scores_file import last_evaluations
from zoo.report.significance import decide
from zoo.report.statistics.bootstrap import FUNCTIONS, aggregates, performance_profile
from zoo.report.statistics.estimates import Array, Estimate
from zoo.report.statistics.means import FRACTION, Episodes, Scores, Spread, mean
from zoo.report.statistics.pairs import improvements
from zoo.runs.folder import PHASES
from zoo.runs.scores import SCORE_KINDS, SUCCESS, ScoreKind
from zoo.terminal.errors import UsageError

CURVE_REPS = 2_000
"""The most repetitions for the bounds of curves and profiles, of which the eye sees no more."""


def compare_kinds(
    methods: Methods,
    evaluations: pd.DataFrame,
    means: pd.DataFrame,
    reps: int,
    curves: bool = True,
    **choices: Any,
) -> list[Comparison]:
    """Compute one comparison for each kind of scores, in the order of `SCORE_KINDS`; arguments as in `compare`.

    Published means are success rates. Raises UsageError if there is nothing to compare.
    """
    comparisons = []
    for kind in SCORE_KINDS.values():
        table = evaluations[evaluations["kind"] == kind.name]
        published_means = means if kind is SUCCESS else means.iloc[:0]
        if len(table) or len(published_means):
            comparisons.append(
                compare(methods, table, published_means, reps, curves, kind, **choices)
            )
    if not comparisons:
        raise UsageError(
            "expected runs with evaluations, got none; see which runs were skipped and why"
        )
    return comparisons


def compare(
    methods: Methods,
    evaluations: pd.DataFrame,
    means: pd.DataFrame,
    reps: int,
    curves: bool = True,
    kind: ScoreKind = SUCCESS,
    **choices: Any,
) -> Comparison:
    """Compute every number of a comparison of scores of one kind.

    :param evaluations: one row for each evaluation of a run, columns `zoo.runs.read.EVALUATION_COLUMNS`.
    :param means: published means of methods without single runs, columns `zoo.report.comparison.MEAN_COLUMNS`.
    :param curves: also compute profiles and learning curves.
    :param choices: fields of `Comparison` that decide what is tested: ``order``, ``baseline``, ``focus``, ``resolve``.
    """
    curve_tasks = _curve_tasks(evaluations, methods)
    incomplete_tasks = set()
    if kind is SUCCESS:
        incomplete_tasks = _tasks_missing_a_phase(evaluations)
    phases = {}
    for name in PHASES:
        runs, published = (table[table["phase"] == name] for table in (evaluations, means))
        if len(runs) or len(published):
            scores = PhaseScores(runs, published, methods, kind, reps)
            phases[name] = _compare_phase(
                name, scores, curve_tasks if curves else None, incomplete_tasks
            )
    label = label_of(curve_tasks, suite_of(curve_tasks) if kind is SUCCESS else None)
    return decide(Comparison(kind, methods, phases, reps, label, **choices))


def final_scores(evaluations: pd.DataFrame) -> dict[str, dict[str, Array]]:
    """Return the last scores of the runs of one phase: method -> environment -> (runs,), in the order of the seeds."""
    return by_place(last_evaluations(evaluations), lambda runs: runs["score"].to_numpy())


def episodes_of(runs: pd.DataFrame, kind: ScoreKind = SUCCESS) -> dict[str, dict[str, int]]:
    """Return method -> environment -> the number of episodes of its evaluations, the fewest where they differ.

    :param runs: one row for each evaluation of a run, columns `zoo.runs.read.EVALUATION_COLUMNS`.
    :param kind: of their scores; what is no rate has no number of episodes.
    """
    return (
        by_place(runs, lambda part: int(part["episodes"].min())) if kind.limits == FRACTION else {}
    )


def _compare_phase(
    name: str,
    scores: PhaseScores,
    curve_tasks: Sequence[str] | None,
    incomplete_tasks: Collection[str],
) -> Phase:
    """Compute every number of one phase.

    :param curve_tasks: what learning curves are over; None for no curves and profiles.
    :param incomplete_tasks: tasks that the learning curves of their domain leave out.
    """
    kind = scores.kind
    coverage = scores.coverage()
    strays = _find_strays(coverage, scores.methods)
    tasks, left_out = _common_tasks(coverage, strays)
    is_averaged = _can_average(tasks, kind)
    common = scores.having(tasks, strays)
    spreads = {}
    for method, runs in common.items():
        spreads[method] = Spread.of(runs, scores.episodes.get(method))
    domain_tasks = scores.domain_tasks()
    domains = {}
    if kind is SUCCESS:  # other scores have no domains of several tasks
        for domain, tasks_inside in domain_tasks.items():
            domains[domain] = scores.cells(tasks_inside, ("mean", "iqm"))
    per_task = {}
    for task in sorted(set().union(*coverage.values())):
        cells = scores.cells([task], ("mean",))
        if cells:
            per_task[task] = cells
    profiles: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    if curve_tasks is not None:
        if is_averaged:
            profiles = scores.profiles(common)
        if _can_average(curve_tasks, kind):
            curves += scores.curves(ALL_TASKS, curve_tasks, ("mean", "iqm"))
        for domain, tasks_inside in domain_tasks.items():
            whole_tasks = [task for task in tasks_inside if task not in incomplete_tasks]
            curves += scores.curves(domain, whole_tasks, ("mean",))
    about = {"kind": kind.name, "phase": name}
    return Phase(
        name=name,
        step_ranges=scores.step_ranges(),
        coverage=coverage,
        tasks=tasks,
        left_out=left_out,
        strays=strays,
        aggregates=scores.cells(tasks, kind.metrics, strays) if is_averaged else {},
        improvements=improvements(
            common, spreads, scores.reps, kind.limits, with_difference=is_averaged
        ),
        domains=domains,
        domain_tasks=domain_tasks,
        per_task=per_task,
        profiles=joined(profiles, PROFILE_COLUMNS).assign(**about)[list(PROFILE_COLUMNS)],
        curves=joined(curves, CURVE_COLUMNS).assign(**about)[list(CURVE_COLUMNS)],
        suite=suite_of(tasks) if kind is SUCCESS else None,
        spreads=spreads if is_averaged else {},
    )


def _common_tasks(
    coverage: Mapping[str, Sequence[str]], strays: Collection[str]
) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Return the tasks that all methods but strays have, and each task that is left out with those that lack it."""
    compared = {method: tasks for method, tasks in coverage.items() if method not in strays}
    common = _shared(compared.values())
    left_out = {}
    for task in sorted(set().union(*compared.values()) - set(common)):
        left_out[task] = sorted(method for method, tasks in compared.items() if task not in tasks)
    return common, left_out


@dataclass(frozen=True)
class PhaseScores:
    """The scores of one phase, and what is averaged over tasks.

    :param runs: evaluations of single runs.
    :param means: published means of methods without single runs, which are points without intervals.
    """

    runs: pd.DataFrame
    means: pd.DataFrame
    methods: Methods
    kind: ScoreKind
    reps: int

    @cached_property
    def single(self) -> dict[str, dict[str, Array]]:
        """Method -> task -> the final score of each run, (runs,)."""
        return final_scores(self.runs)

    @cached_property
    def episodes(self) -> Mapping[str, Episodes]:
        """Method -> task -> the episodes behind a success rate; empty for other scores."""
        return episodes_of(self.runs, self.kind)

    @cached_property
    def published(self) -> dict[str, pd.DataFrame]:
        """Method -> its published means, a row for each task or domain."""
        return {
            name: rows.set_index("environment")
            for name, rows in self.means.groupby("method", sort=False)
        }

    def coverage(self) -> dict[str, list[str]]:
        """Return the tasks of each method.

        A domain's mean stands for those of its tasks that others have, or for all of them if nobody has a single one.
        """
        result = {method: sorted(tasks) for method, tasks in self.single.items()}
        evaluated = {*self.runs["environment"], *self.means["environment"]}
        for method, rows in self.published.items():
            tasks: set[str] = set()
            for place in rows.index:
                tasks_inside = tasks_of(place)
                tasks |= evaluated.intersection(tasks_inside) or set(tasks_inside)
            result[method] = sorted(tasks)
        return result

    def step_ranges(self) -> dict[str, tuple[int, int]]:
        """Return the least and the largest step of each method's scores."""
        columns = ["method", "step"]
        last = joined([last_evaluations(self.runs)[columns], self.means[columns]], columns)
        steps = last.groupby("method")["step"].agg(["min", "max"])
        return {method: (int(low), int(high)) for method, low, high in steps.itertuples()}

    def domain_tasks(self) -> dict[str, list[str]]:
        """Return domain -> the tasks of it that were run; where scores are no success, each task is one.

        Where only some were run and a method has a mean over all of them, that is an entry of its own: means over
        different tasks share no column, and neither hides the other.
        """
        is_whole = self.means["environment"] == self.means["domain"]
        tasks = {*self.runs["environment"], *self.means.loc[~is_whole, "environment"]}
        if self.kind is not SUCCESS:
            return {task: [task] for task in sorted(tasks)}
        result = dict(sorted(by_domain(tasks).items()))
        for domain in sorted({*self.means.loc[is_whole, "domain"]}):
            everything = sorted(tasks_of(domain))
            if result.setdefault(domain, everything) != everything:
                result[f"{domain}, whole"] = everything
        return result

    def having(self, tasks: Collection[str], without: Collection[str] = ()) -> dict[str, Scores]:
        """Return the single runs on some tasks of each method that has all of them."""
        return {
            name: {task: scores[task] for task in tasks}
            for name, scores in self.single.items()
            if tasks and set(tasks) <= set(scores) and name not in without
        }

    def cells(
        self, tasks: Sequence[str], metrics: Sequence[str], without: Collection[str] = ()
    ) -> dict[str, Cell]:
        """Return the averages over some tasks of each method that has all of them, published means last."""
        having = self.having(tasks, without)
        limits = self.kind.limits
        curves_by_method = aggregates(
            having, [metric for metric in metrics if metric in FUNCTIONS], self.reps
        )
        result = {}
        for name, scores in having.items():
            episodes = self.episodes.get(name)
            estimates = {"mean": mean(scores, limits, episodes).estimate(0)}
            estimates |= {
                metric: curve.estimate(0) for metric, curve in curves_by_method[name].items()
            }
            if "optimality_gap" in metrics:  # what is missing to 1, where scores above 1 count as 1
                at_most_1 = {task: np.minimum(runs, 1) for task, runs in scores.items()}
                gap = mean(at_most_1, (limits[0], 1.0), episodes).estimate(0).taken_from(1)
                estimates["optimality_gap"] = gap
            seeds = [len(runs) for runs in scores.values()]
            tally = self.methods[name].tally(tasks)
            result[name] = Cell(estimates, len(tasks), (min(seeds), max(seeds)), tally)
        return result | self._published_cells(tasks)

    def _published_cells(self, tasks: Sequence[str]) -> dict[str, Cell]:
        """Return the published mean over some tasks of each method that has all, task by task or in whole domains."""
        domains = sorted(by_domain(tasks))
        result = {}
        for method, rows in self.published.items():
            has_tasks = set(tasks) <= set(rows.index)
            places = [*tasks] if has_tasks else domains
            is_whole = has_tasks or len(tasks) == NUM_TASKS * len(domains)
            if tasks and is_whole and set(places) <= set(rows.index):
                means = rows.loc[places, "mean"].to_numpy(float)
                seeds = rows.loc[places, "seeds"]
                estimates = {"mean": Estimate(float(np.mean(means)))}
                result[method] = Cell(estimates, len(tasks), (int(seeds.min()), int(seeds.max())))
        return result

    def profiles(self, averaged: Mapping[str, Scores]) -> list[pd.DataFrame]:
        """Return the performance profiles of methods, `PROFILE_COLUMNS` without kind and phase."""
        thresholds = _thresholds(self.runs, averaged, self.kind)
        parts = []
        for name, scores in averaged.items():
            table = performance_profile(scores, thresholds, min(self.reps, CURVE_REPS)).table()
            about = {"method": name, "tau": thresholds, "seeds": min(map(len, scores.values()))}
            parts.append(table.rename(columns={"value": "fraction"}).assign(**about))
        return parts

    def curves(
        self, where: str, tasks: Sequence[str], metrics: Sequence[str]
    ) -> list[pd.DataFrame]:
        """Return the learning curves over some tasks of the methods that have them all, without kind and phase.

        A curve has the steps at which all runs of the method on these tasks were evaluated.
        """
        parts = []
        for name, group in self.runs[self.runs["environment"].isin(tasks)].groupby("method"):
            table = group.pivot_table(
                index=["environment", "seed"], columns="step", values="score"
            ).dropna(axis=1)
            if not table.shape[1] or not set(tasks) <= set(
                table.index.get_level_values("environment")
            ):
                continue
            scores = {task: table.loc[task].to_numpy() for task in tasks}
            curves = {"mean": mean(scores, self.kind.limits, self.episodes.get(name))}
            if "iqm" in metrics:
                curves |= aggregates({"": scores}, ["iqm"], min(self.reps, CURVE_REPS))[""]
            about = {
                "method": name,
                "where": where,
                "step": table.columns,
                "seeds": min(map(len, scores.values())),
            }
            parts += [
                curve.table().assign(metric=metric, **about) for metric, curve in curves.items()
            ]
        return parts


def _find_strays(coverage: Mapping[str, Sequence[str]], methods: Methods) -> tuple[str, ...]:
    """Return the own methods that have less than half as many tasks as the median method.

    They are left out if they would take tasks from at least two others.
    """
    typical = np.median([len(tasks) for tasks in coverage.values()])
    small_methods = []
    tasks_of_others = {}
    for name, tasks in sorted(coverage.items()):
        if methods[name].is_own and len(tasks) < typical / 2:
            small_methods.append(name)
        else:
            tasks_of_others[name] = tasks
    if len(tasks_of_others) < 2 or len(_shared(tasks_of_others.values())) <= len(
        _shared(coverage.values())
    ):
        return ()
    return tuple(small_methods)


def _shared(coverage: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Return the tasks that all methods have."""
    task_sets = [set(tasks) for tasks in coverage]
    return tuple(sorted(task_sets[0].intersection(*task_sets))) if task_sets else ()


def _can_average(tasks: Sequence[str], kind: ScoreKind) -> bool:
    """Return whether there are tasks, and their scores are on one scale."""
    return len(tasks) == 1 or (kind.is_comparable and len(tasks) > 0)


def _curve_tasks(evaluations: pd.DataFrame, methods: Methods) -> tuple[str, ...]:
    """Return the tasks that all methods with single runs have in all their phases; strays are left out."""
    task_lists = []
    for _, runs in evaluations.groupby("phase"):
        coverage = {
            method: sorted(set(part["environment"])) for method, part in runs.groupby("method")
        }
        strays = _find_strays(coverage, methods)
        task_lists += [tasks for method, tasks in coverage.items() if method not in strays]
    return _shared(task_lists)


def _tasks_missing_a_phase(evaluations: pd.DataFrame) -> set[str]:
    """Return the tasks that lack a phase of their domain, whose curve would go on about other tasks."""
    phases = evaluations[["domain", "environment", "phase"]].drop_duplicates()
    phases_of_task = phases.groupby("environment")["phase"].transform("nunique")
    phases_of_domain = phases.groupby("domain")["phase"].transform("nunique")
    return set(phases.loc[phases_of_task < phases_of_domain, "environment"])


def _thresholds(runs: pd.DataFrame, scores: Mapping[str, Scores], kind: ScoreKind) -> Array:
    """Return where to evaluate profiles: between all possible success rates, or over the range of other scores."""
    if kind is SUCCESS:
        episodes = int(runs["episodes"].max()) if len(runs) else 1
        return (np.arange(episodes) + 0.5) / episodes
    if not scores:
        return np.empty(0)
    values = np.concatenate([values for by_task in scores.values() for values in by_task.values()])
    low = values.min()
    high = values.max()
    margin = 0.02 * (high - low or abs(high) or 1.0)
    return np.linspace(low - margin, high + margin, 201)
