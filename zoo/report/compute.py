"""Compute every number of a comparison from the scores of runs and from published means.

The score of a run is that of its last evaluation in the phase, never its best one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from zoo.datasets.names import NUM_TASKS
from zoo.errors import UsageError
from zoo.report.comparison import (
    ALL_TASKS,
    CURVE_COLUMNS,
    OWN,
    PROFILE_COLUMNS,
    Cell,
    ComparedMethod,
    Comparison,
    Phase,
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
from zoo.runs.read import split_environment
from zoo.runs.scores import KINDS, SUCCESS, Kind

Means = dict[str, tuple[float, int]]
"""Task or domain -> its published mean and number of seeds."""
CURVE_REPS = 2_000
"""The most repetitions for the bounds of curves and profiles, of which the eye sees no more."""


def compare_kinds(
    methods: Mapping[str, ComparedMethod],
    evaluations: pd.DataFrame,
    means: pd.DataFrame,
    reps: int,
    curves: bool = True,
) -> list[Comparison]:
    """Compute one comparison for each kind of scores, in the order of `KINDS`; the arguments are those of `compare`.

    Published means are success rates. Raises UsageError if there is nothing to compare.
    """
    tables = {kind: evaluations[evaluations["kind"] == kind.name] for kind in KINDS.values()}
    found = [
        compare(methods, table, means if kind is SUCCESS else means.iloc[:0], reps, curves, kind)
        for kind, table in tables.items()
        if len(table) or (kind is SUCCESS and len(means))
    ]
    if not found:
        raise UsageError("expected runs with evaluations, got none; see which runs were skipped and why")
    return found


def compare(
    methods: Mapping[str, ComparedMethod],
    evaluations: pd.DataFrame,
    means: pd.DataFrame,
    reps: int,
    curves: bool = True,
    kind: Kind = SUCCESS,
) -> Comparison:
    """Compute every number of a comparison of scores of one kind.

    :param evaluations: one row for each evaluation of a run, columns `zoo.runs.read.EVALUATION_COLUMNS`.
    :param means: published means of methods without single runs, columns `zoo.report.comparison.MEAN_COLUMNS`.
    :param curves: also compute profiles and learning curves.
    """
    phases = {}
    curve_tasks, passing = _curve_tasks(evaluations), _passing_tasks(evaluations) if kind is SUCCESS else set()
    for name in PHASES:
        runs, published = (table[table["phase"] == name] for table in (evaluations, means))
        if len(runs) or len(published):
            shown = curve_tasks if curves else None
            phases[name] = _compare_phase(name, runs, published, methods, kind, reps, shown, passing)
    label = label_of(curve_tasks, suite_of(curve_tasks) if kind is SUCCESS else None)
    return decide(Comparison(kind, methods, phases, reps, label))


def final_scores(evaluations: pd.DataFrame) -> dict[str, dict[str, Array]]:
    """Return the last scores of the runs of one phase: method -> environment -> (runs,), in the order of the seeds."""
    scores: dict[str, dict[str, Array]] = {}
    for (method, environment), group in last_evaluations(evaluations).groupby(["method", "environment"], sort=False):
        scores.setdefault(str(method), {})[str(environment)] = group["score"].to_numpy()
    return scores


def _compare_phase(
    name: str,
    runs: pd.DataFrame,
    means: pd.DataFrame,
    methods: Mapping[str, ComparedMethod],
    kind: Kind,
    reps: int,
    curve_tasks: Sequence[str] | None,
    passing: Collection[str],
) -> Phase:
    """Compute every number of one phase.

    :param curve_tasks: what learning curves are over; None for no curves and profiles.
    :param passing: tasks that the learning curves of their domain leave out.
    """
    single, published = final_scores(runs), _published_means(means)
    found = _Scores(single, published, episodes_of(runs, kind), methods, kind, reps)
    coverage = {method: sorted(tasks) for method, tasks in single.items()}
    coverage |= _tasks_of_means(published, set().union(*coverage.values()))
    strays = _find_strays(coverage, set(runs.loc[runs["source"] == OWN, "method"]))
    tasks, left_out = _common_tasks({method: has for method, has in coverage.items() if method not in strays})
    is_averaged = _can_average(tasks, kind)
    common = {method: found.on(method, tasks) for method in single if tasks and method not in strays}
    spreads = {method: Spread.of(scores, found.episodes.get(method)) for method, scores in common.items()}
    domain_tasks = _domain_tasks(runs, means, kind)
    per_task = {task: found.cells([task], ("mean",)) for task in sorted(set().union(*coverage.values()))}
    profiles, curves = pd.DataFrame(columns=list(PROFILE_COLUMNS)), pd.DataFrame(columns=list(CURVE_COLUMNS))
    if curve_tasks is not None:
        curve_reps, about = min(reps, CURVE_REPS), {"kind": kind.name, "phase": name}
        if is_averaged:
            profiles = _profiles(common, _thresholds(runs, common, kind), curve_reps).assign(**about)
        parts = []
        if _can_average(curve_tasks, kind):
            parts.append(_learning_curves(runs, ALL_TASKS, curve_tasks, kind, curve_reps, ("mean", "iqm")))
        for domain, inside in domain_tasks.items():
            lasting = [task for task in inside if task not in passing]
            parts.append(_learning_curves(runs, domain, lasting, kind, curve_reps, ("mean",)))
        curves = joined(parts, CURVE_COLUMNS).assign(**about)
    return Phase(
        name=name,
        step_ranges=_step_ranges(runs, means),
        coverage=coverage,
        tasks=tasks,
        left_out=left_out,
        strays=strays,
        aggregates=found.cells(tasks, kind.metrics, strays) if is_averaged else {},
        improvements=improvements(common, spreads, reps, kind.limits, with_difference=is_averaged),
        domains={place: found.cells(inside, ("mean", "iqm")) for place, inside in domain_tasks.items()}
        if kind is SUCCESS
        else {},
        domain_tasks=domain_tasks,
        per_task={task: cells for task, cells in per_task.items() if cells},
        profiles=profiles[list(PROFILE_COLUMNS)],
        curves=curves[list(CURVE_COLUMNS)],
        suite=suite_of(tasks) if kind is SUCCESS else None,
        spreads=spreads if is_averaged else {},
    )


@dataclass(frozen=True)
class _Scores:
    """The scores of one phase, and their averages over tasks.

    :param single: method -> task -> the final score of each run, (runs,).
    :param published: method without single runs -> its published means.
    :param episodes: method -> task -> the episodes behind a success rate; empty for other scores.
    """

    single: Mapping[str, Scores]
    published: Mapping[str, Means]
    episodes: Mapping[str, Episodes]
    methods: Mapping[str, ComparedMethod]
    kind: Kind
    reps: int

    def on(self, method: str, tasks: Iterable[str]) -> Scores:
        """Return the single runs of a method on some tasks."""
        return {task: self.single[method][task] for task in tasks}

    def cells(self, tasks: Sequence[str], metrics: Sequence[str], without: Collection[str] = ()) -> dict[str, Cell]:
        """Return the averages over some tasks of each method that has all of them, published means last."""
        having = {
            name: self.on(name, tasks)
            for name, scores in self.single.items()
            if tasks and set(tasks) <= set(scores) and name not in without
        }
        found = aggregates(having, [metric for metric in metrics if metric in FUNCTIONS], self.reps)
        result = {}
        for name, scores in having.items():
            limits, episodes = self.kind.limits, self.episodes.get(name)
            estimates = {"mean": mean(scores, limits, episodes).estimate(0)}
            estimates |= {metric: curve.estimate(0) for metric, curve in found[name].items()}
            if "optimality_gap" in metrics:  # what is missing to 1, where scores above 1 count as 1
                at_most_1 = {task: np.minimum(runs, 1) for task, runs in scores.items()}
                gap = mean(at_most_1, (limits[0], 1.0), episodes).estimate(0).taken_from(1)
                estimates["optimality_gap"] = gap
            seeds = [len(runs) for runs in scores.values()]
            result[name] = Cell(estimates, len(tasks), (min(seeds), max(seeds)), self.methods[name].tally(tasks))
        return result | _cells_of_means(self.published, tasks)


def _find_strays(coverage: Mapping[str, Sequence[str]], own: Collection[str]) -> tuple[str, ...]:
    """Return the own methods that have less than half as many tasks as the median method.

    They are left out if they would take tasks from at least two others.
    """
    typical = np.median([len(tasks) for tasks in coverage.values()])
    few = {method for method, tasks in coverage.items() if method in own and len(tasks) < typical / 2}
    others = {method: tasks for method, tasks in coverage.items() if method not in few}
    if len(others) < 2 or len(_common_tasks(others)[0]) <= len(_common_tasks(coverage)[0]):
        return ()
    return tuple(sorted(few))


def _common_tasks(coverage: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Return the tasks that all methods have, and who lacks the others."""
    everything = sorted(set().union(*coverage.values()))
    left_out = {task: sorted(name for name, tasks in coverage.items() if task not in tasks) for task in everything}
    common = tuple(task for task, missing in left_out.items() if not missing)
    return common, {task: missing for task, missing in left_out.items() if missing}


def _can_average(tasks: Sequence[str] | None, kind: Kind) -> bool:
    """Return whether there are tasks, and their scores are on one scale."""
    return bool(tasks and (kind.is_comparable or len(tasks) == 1))


def _curve_tasks(evaluations: pd.DataFrame) -> tuple[str, ...]:
    """Return the tasks that all methods with single runs have in all their phases; strays are left out."""
    own = set(evaluations.loc[evaluations["source"] == OWN, "method"])
    found: list[set[str]] = []
    for _, runs in evaluations.groupby("phase"):
        coverage = {str(method): sorted(set(part["environment"])) for method, part in runs.groupby("method")}
        strays = _find_strays(coverage, own)
        found += [set(tasks) for method, tasks in coverage.items() if method not in strays]
    return tuple(sorted(set.intersection(*found))) if found else ()


def _passing_tasks(evaluations: pd.DataFrame) -> set[str]:
    """Return the tasks that lack a phase of their domain, whose curve would go on about other tasks."""
    phases = evaluations[["domain", "environment", "phase"]].drop_duplicates()
    own, whole = (phases.groupby(key)["phase"].transform("nunique") for key in ("environment", "domain"))
    return set(phases.loc[own < whole, "environment"])


def _domain_tasks(runs: pd.DataFrame, means: pd.DataFrame, kind: Kind) -> dict[str, list[str]]:
    """Return domain -> the tasks of it that were run.

    Where only some were run and a method has a mean over all of them, that is an entry of its own: means over different
    tasks share no column, and neither hides the other.
    """
    if kind is not SUCCESS:
        runs = runs.assign(domain=runs["environment"])
    columns, is_task = ["environment", "domain"], means["environment"] != means["domain"]
    rows = pd.concat([runs[columns], means.loc[is_task, columns]]).drop_duplicates("environment")
    result = {str(name): sorted(part["environment"]) for name, part in rows.groupby("domain")}
    for domain in sorted(set(means["environment"]) & set(means["domain"])):
        everything = sorted(tasks_of(domain))
        if result.setdefault(domain, everything) != everything:
            result[f"{domain}, whole"] = everything
    return result


def _thresholds(runs: pd.DataFrame, scores: Mapping[str, Scores], kind: Kind) -> Array:
    """Return where to evaluate profiles: between all possible success rates, or over the range of other scores."""
    if kind is SUCCESS:
        episodes = int(runs["episodes"].max()) if len(runs) else 1
        return (np.arange(episodes) + 0.5) / episodes
    if not scores:
        return np.empty(0)
    found = np.concatenate([values for by_task in scores.values() for values in by_task.values()])
    low, high = found.min(), found.max()
    margin = 0.02 * (high - low or abs(high) or 1.0)
    return np.linspace(low - margin, high + margin, 201)


def _step_ranges(runs: pd.DataFrame, means: pd.DataFrame) -> dict[str, tuple[int, int]]:
    last = pd.concat([last_evaluations(runs)[["method", "step"]], means[["method", "step"]]])
    return {str(method): (int(steps.min()), int(steps.max())) for method, steps in last.groupby("method")["step"]}


def episodes_of(runs: pd.DataFrame, kind: Kind = SUCCESS) -> dict[str, dict[str, int]]:
    """Return method -> environment -> the number of episodes of its evaluations, the fewest where they differ.

    :param runs: one row for each evaluation of a run, columns `zoo.runs.read.EVALUATION_COLUMNS`.
    :param kind: of their scores; what is no rate has no number of episodes.
    """
    result: dict[str, dict[str, int]] = {}
    if kind.limits == FRACTION:
        for (method, environment), fewest in runs.groupby(["method", "environment"])["episodes"].min().items():
            result.setdefault(str(method), {})[str(environment)] = int(fewest)
    return result


def _profiles(averaged: Mapping[str, Scores], thresholds: Array, reps: int) -> pd.DataFrame:
    """Return the performance profile of each method, `PROFILE_COLUMNS` without kind and phase."""
    parts = []
    for name, scores in averaged.items():
        table = performance_profile(scores, thresholds, reps).table().rename(columns={"value": "fraction"})
        parts.append(table.assign(method=name, tau=thresholds, seeds=min(map(len, scores.values()))))
    return joined(parts, PROFILE_COLUMNS)


def _learning_curves(
    runs: pd.DataFrame, where: str, tasks: Sequence[str], kind: Kind, reps: int, metrics: Sequence[str]
) -> pd.DataFrame:
    """Return the learning curves over some tasks of the methods that have them all, without kind and phase.

    A curve has the steps at which all runs of the method on these tasks were evaluated.
    """
    episodes = episodes_of(runs, kind)
    parts = []
    for name, group in runs[runs["environment"].isin(tasks)].groupby("method"):
        table = group.pivot_table(index=["environment", "seed"], columns="step", values="score").dropna(axis=1)
        if not table.shape[1] or not set(tasks) <= set(table.index.get_level_values("environment")):
            continue
        scores = {task: table.loc[task].to_numpy() for task in tasks}
        found = {"mean": mean(scores, kind.limits, episodes.get(str(name)))}
        if "iqm" in metrics:
            found |= aggregates({"": scores}, ["iqm"], reps)[""]
        about = {"method": name, "where": where, "step": table.columns, "seeds": min(map(len, scores.values()))}
        parts += [curve.table().assign(metric=metric, **about) for metric, curve in found.items()]
    return joined(parts, CURVE_COLUMNS)


# -- published means of methods without single runs, which join a comparison as points without intervals -------------


def _published_means(means: pd.DataFrame) -> dict[str, Means]:
    """Return method -> its means, from a table with the columns `zoo.report.comparison.MEAN_COLUMNS`."""
    result: dict[str, Means] = {}
    for row in means.itertuples():
        result.setdefault(str(row.method), {})[str(row.environment)] = (float(row.mean), int(row.seeds))
    return result


def _tasks_of_means(published: Mapping[str, Means], known: Collection[str]) -> dict[str, list[str]]:
    """Return the tasks of each method.

    A domain's mean stands for those of its tasks that others have, or for all of them if nobody has a single one.

    :param known: tasks of methods with single runs.
    """
    single = {*known, *(place for rows in published.values() for place in rows)}
    return {
        method: sorted({task for place in rows for task in single.intersection(tasks_of(place)) or tasks_of(place)})
        for method, rows in published.items()
    }


def _cells_of_means(published: Mapping[str, Means], tasks: Sequence[str]) -> dict[str, Cell]:
    """Return the mean over some tasks of each method that has them all, task by task or in whole domains."""
    domains = sorted({split_environment(task)[1] for task in tasks})
    result: dict[str, Cell] = {}
    for method, rows in published.items():
        places = tasks if set(tasks) <= set(rows) else domains
        is_whole = places is tasks or len(tasks) == NUM_TASKS * len(domains)
        if tasks and is_whole and set(places) <= set(rows):
            values, seeds = zip(*(rows[place] for place in places), strict=True)
            estimates = {"mean": Estimate(float(np.mean(values)))}
            result[method] = Cell(estimates, len(tasks), (min(seeds), max(seeds)))
    return result
