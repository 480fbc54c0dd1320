"""From scores of runs to a comparison: which tasks methods share, and every number that a report shows.

Two phases are compared: after the offline steps, and after the online steps that follow. The score of a run is that of
its last evaluation in the phase, never its best one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from zoo.cli import UsageError
from zoo.evaluation import statistics
from zoo.evaluation.statistics import Array, Curve, Estimate, Improvement, Scores
from zoo.run import show
from zoo.run_evaluations import PHASES

T = TypeVar("T")
TASKS_OF_A_DOMAIN = 5  # every domain of OGBench has this many
MEAN_COLUMNS = ("method", "phase", "step", "environment", "domain", "mean", "sd", "seeds")


@dataclass(frozen=True)
class Method:
    """One row of a comparison.

    :param name: as shown.
    :param algorithm: published name of the algorithm, or its id; fixes the colour.
    :param source: ``"own"`` or the name of a set of published scores.
    :param protocols: environment (own runs) or domain (published) -> fields of `zoo.run.PROTOCOL`.
    """

    name: str
    algorithm: str
    source: str
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One method on some tasks.

    :param estimates: ``mean`` and, where known, ``iqm``, ``median`` and ``optimality_gap``.
    :param tasks: how many tasks.
    :param seeds: the smallest and the largest number of runs of a task.
    """

    estimates: Mapping[str, Estimate]
    tasks: int
    seeds: tuple[int, int]


@dataclass(frozen=True)
class LearningCurve:
    """Scores of one method at its evaluations.

    :param steps: shape (K,), gradient steps, then on with environment steps.
    :param mean: mean at each step.
    :param iqm: interquartile mean at each step, or None where it was not computed.
    """

    steps: np.ndarray
    mean: Curve
    iqm: Curve | None = None


@dataclass(frozen=True)
class Phase:
    """Everything about one phase.

    :param name: ``"offline"`` or ``"online"``.
    :param steps: method -> step of its scores, or None where its runs differ.
    :param tasks: the tasks that all methods have; aggregates are over these.
    :param left_out: task that some methods lack -> those methods.
    :param aggregates: method -> its aggregates.
    :param improvements: (X, Y) -> how X compares with Y, for all ordered pairs of methods with single runs.
    :param domains: domain -> method -> its mean (and IQM) over the domain's tasks.
    :param domain_tasks: domain -> its tasks.
    :param per_task: task -> method -> its mean.
    :param thresholds: where the profiles are evaluated.
    :param profiles: method -> fraction of runs above each threshold.
    :param curves: method -> its learning curve over `tasks`.
    :param domain_curves: domain -> method -> its learning curve.
    """

    name: str
    steps: Mapping[str, int | None]
    tasks: tuple[str, ...]
    left_out: Mapping[str, list[str]]
    aggregates: Mapping[str, Cell]
    improvements: Mapping[tuple[str, str], Improvement]
    domains: Mapping[str, Mapping[str, Cell]]
    domain_tasks: Mapping[str, list[str]]
    per_task: Mapping[str, Mapping[str, Cell]]
    thresholds: Array
    profiles: Mapping[str, Curve]
    curves: Mapping[str, LearningCurve]
    domain_curves: Mapping[str, Mapping[str, LearningCurve]]

    @property
    def common_step(self) -> int | None:
        """The step at which all scores were measured, or None where methods differ."""
        steps = set(self.steps.values())
        return steps.pop() if len(steps) == 1 else None


@dataclass(frozen=True)
class Comparison:
    """All phases of a comparison.

    :param methods: name -> method.
    :param phases: name -> phase; only phases that were evaluated.
    :param reps: bootstrap repetitions.
    """

    methods: Mapping[str, Method]
    phases: Mapping[str, Phase]
    reps: int


def compare(
    methods: Mapping[str, Method],
    evaluations: pd.DataFrame,
    means: pd.DataFrame,
    reps: int = statistics.REPETITIONS,
    curves: bool = True,
) -> Comparison:
    """Compute every number of a comparison.

    :param methods: name -> method.
    :param evaluations: one row an evaluation of a run, columns `zoo.run.EVALUATION_COLUMNS`.
    :param means: published means of methods without single runs, columns `MEAN_COLUMNS`.
    :param reps: bootstrap repetitions.
    :param curves: also compute profiles and learning curves.
    :return: the comparison.
    :raises UsageError: if there is nothing to compare, or methods have no environment in common.
    """
    phases = {}
    for name in PHASES:
        runs, published = (table[table["phase"] == name] for table in (evaluations, means))
        if len(runs) or len(published):
            phases[name] = _compare_phase(name, runs, published, reps, curves)
    if not phases:
        raise UsageError("expected runs with evaluations, got none; see which runs were skipped and why")
    return Comparison(methods, phases, reps)


def final_scores(evaluations: pd.DataFrame) -> dict[str, dict[str, Array]]:
    """Return the scores of the last evaluation of each run.

    :param evaluations: evaluations of one phase.
    :return: method -> environment -> (runs,), in the order of the seeds.
    """
    last = last_evaluations(evaluations)
    scores: dict[str, dict[str, Array]] = {}
    for (method, environment), group in last.groupby(["method", "environment"], sort=False):
        scores.setdefault(str(method), {})[str(environment)] = group["score"].to_numpy()
    return scores


def last_evaluations(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return the last evaluation of each run in each phase.

    :param evaluations: one row an evaluation.
    :return: one row a run and phase, in the order of methods, environments and seeds.
    """
    key = ["method", "environment", "seed", "phase"]
    return evaluations.sort_values([*key, "step"]).drop_duplicates(key, keep="last")


def _compare_phase(name: str, runs: pd.DataFrame, means: pd.DataFrame, reps: int, curves: bool) -> Phase:
    """Return everything about one phase."""
    scores = final_scores(runs)
    table = _Means(means)
    tasks, left_out = _common_tasks(scores, table)
    common = {method: {task: by_task[task] for task in tasks} for method, by_task in scores.items()}
    domain_of = {env: str(domain) for env, domain in runs[["environment", "domain"]].drop_duplicates().to_numpy()}
    domain_of |= table.domain_of
    domain_tasks: dict[str, list[str]] = {}
    for task in sorted(domain_of):
        domain_tasks.setdefault(domain_of[task], []).append(task)
    tables = _learning_tables(runs) if curves else {}
    episodes = int(runs["episodes"].max()) if len(runs) else 1
    thresholds = (np.arange(episodes) + 0.5) / episodes
    return Phase(
        name=name,
        steps=_steps(runs, means),
        tasks=tasks,
        left_out=left_out,
        aggregates=_aggregates(common, reps) | table.aggregates(tasks),
        improvements=_all_pairs(common, reps),
        domains=_domains(scores, table, domain_tasks, reps),
        domain_tasks=domain_tasks,
        per_task=_per_task(scores, table, reps),
        thresholds=thresholds,
        profiles=_profiles(common, thresholds, reps) if curves else {},
        curves=_curves(tables, tasks, reps),
        domain_curves={
            domain: _curves(tables, inside, reps, with_iqm=False) for domain, inside in domain_tasks.items() if curves
        },
    )


def _common_tasks(scores: Mapping[str, Scores], means: _Means) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Return the tasks that all methods have, and who lacks the others."""
    have = {method: set(by_task) for method, by_task in scores.items()} or means.tasks()
    everything = set().union(*have.values())
    left_out = {
        task: sorted(method for method, tasks in have.items() if task not in tasks) for task in sorted(everything)
    }
    common = tuple(task for task, missing in left_out.items() if not missing)
    if not common:
        listing = "; ".join(f"{method}: {', '.join(sorted(tasks))}" for method, tasks in sorted(have.items()))
        raise UsageError(
            f"expected methods with at least one environment in common, got none ({listing}); choose methods with "
            "--methods, or run the missing environments"
        )
    return common, {task: missing for task, missing in left_out.items() if missing}


def _steps(runs: pd.DataFrame, means: pd.DataFrame) -> dict[str, int | None]:
    """Return the step of each method's scores."""
    last = pd.concat([last_evaluations(runs)[["method", "step"]], means[["method", "step"]]])
    steps = last.groupby("method")["step"].agg(["min", "max"])
    return {str(method): int(row["max"]) if row["min"] == row["max"] else None for method, row in steps.iterrows()}


def _aggregates(scores: Mapping[str, Scores], reps: int) -> dict[str, Cell]:
    """Return the aggregates of each method over the same tasks."""
    estimates = _in_parallel(lambda method: statistics.aggregate(scores[method], reps), scores)
    return {method: _cell(found, scores[method]) for method, found in estimates.items()}


def _cell(estimates: Mapping[str, Estimate], scores: Scores) -> Cell:
    """Return estimates with the numbers of tasks and seeds."""
    seeds = [len(runs) for runs in scores.values()]
    return Cell(estimates, len(seeds), (min(seeds), max(seeds)))


def _all_pairs(scores: Mapping[str, Scores], reps: int) -> dict[tuple[str, str], Improvement]:
    """Return both directions of every pair; one follows from the other."""
    found = statistics.improvements(scores, combinations(sorted(scores), 2), reps)
    return found | {(y, x): _reversed(improvement) for (x, y), improvement in found.items()}


def _reversed(improvement: Improvement) -> Improvement:
    """Return the same comparison seen from the other method."""
    chance, difference = improvement.probability, improvement.difference
    return Improvement(_mirrored(chance, 1), _mirrored(difference, 0))


def _mirrored(estimate: Estimate, whole: float) -> Estimate:
    """Return what is left of a whole."""
    interval = estimate.interval and (whole - estimate.interval[1], whole - estimate.interval[0])
    return Estimate(whole - estimate.point, interval, estimate.kind)


def _domains(
    scores: Mapping[str, Scores], means: _Means, domain_tasks: Mapping[str, list[str]], reps: int
) -> dict[str, dict[str, Cell]]:
    """Return mean and IQM of each method on each domain of which it has all tasks."""
    cells: dict[tuple[str, str], Scores] = {
        (domain, method): {task: by_task[task] for task in tasks}
        for domain, tasks in domain_tasks.items()
        for method, by_task in scores.items()
        if set(tasks) <= set(by_task)
    }
    found = _in_parallel(lambda key: statistics.mean_and_iqm(cells[key], reps), cells)
    result: dict[str, dict[str, Cell]] = {domain: {} for domain in domain_tasks}
    for (domain, method), (mean, iqm) in found.items():
        estimates = {"mean": mean.estimate(0), "iqm": iqm.estimate(0)}
        result[domain][method] = _cell(estimates, cells[domain, method])
    for domain, tasks in domain_tasks.items():
        result[domain] |= means.aggregates(tasks)
    return result


def _per_task(scores: Mapping[str, Scores], means: _Means, reps: int) -> dict[str, dict[str, Cell]]:
    """Return the mean of each method on each task it has. Cells with equally many runs share one pass."""
    by_seeds: dict[int, list[tuple[str, str]]] = {}
    for method, by_task in scores.items():
        for task, runs in by_task.items():
            by_seeds.setdefault(len(runs), []).append((task, method))
    result: dict[str, dict[str, Cell]] = {}
    for seeds, keys in sorted(by_seeds.items()):
        for start in range(0, len(keys), 100):
            part = keys[start : start + 100]
            columns = np.stack([scores[method][task] for task, method in part], axis=1)  # (runs, cells)
            curve = statistics.mean({"": columns}, reps)
            for k, (task, method) in enumerate(part):
                result.setdefault(task, {})[method] = Cell({"mean": curve.estimate(k)}, 1, (seeds, seeds))
    for task, found in means.per_task().items():
        result.setdefault(task, {}).update(found)
    return dict(sorted(result.items()))


def _profiles(scores: Mapping[str, Scores], thresholds: Array, reps: int) -> dict[str, Curve]:
    """Return the performance profile of each method."""
    return _in_parallel(lambda method: statistics.performance_profile(scores[method], thresholds, reps), scores)


def _learning_tables(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return, for each method, scores with a row a run (environment, seed) and a column a step that all runs have."""
    return {
        str(method): group.pivot_table(index=["environment", "seed"], columns="step", values="score").dropna(axis=1)
        for method, group in runs.groupby("method")
    }


def _curves(
    tables: Mapping[str, pd.DataFrame], tasks: Sequence[str], reps: int, with_iqm: bool = True
) -> dict[str, LearningCurve]:
    """Return the learning curve over some tasks of each method that has them all."""

    def curve(method: str) -> LearningCurve:
        table = tables[method]
        scores = {task: table.loc[task].to_numpy() for task in tasks}
        steps = table.columns.to_numpy()
        if not with_iqm:
            return LearningCurve(steps, statistics.mean(scores, reps))
        return LearningCurve(steps, *statistics.mean_and_iqm(scores, reps))

    complete = [
        method
        for method, table in tables.items()
        if table.shape[1] and set(tasks) <= set(table.index.get_level_values("environment"))
    ]
    return _in_parallel(curve, complete)


class _Means:
    """Published means of methods without single runs: points without intervals.

    :param means: rows of one phase, columns `MEAN_COLUMNS`.
    """

    def __init__(self, means: pd.DataFrame) -> None:
        self._rows: dict[str, dict[str, tuple[float, int]]] = {}
        self.domain_of: dict[str, str] = {}
        for row in means.itertuples():
            self._rows.setdefault(row.method, {})[row.environment] = (float(row.mean), int(row.seeds))
            if row.environment != row.domain:
                self.domain_of[row.environment] = row.domain
        for domain in set(means["domain"]) - set(self.domain_of.values()):
            self.domain_of |= {task: domain for task in tasks_of(domain)}

    def tasks(self) -> dict[str, set[str]]:
        """Return the tasks of each method; a domain's mean stands for all its tasks."""
        return {
            method: {task for task, domain in self.domain_of.items() if task in rows or domain in rows}
            for method, rows in self._rows.items()
        }

    def aggregates(self, tasks: Sequence[str]) -> dict[str, Cell]:
        """Return the mean over some tasks of each method that has them all, task by task or in whole domains."""
        result = {}
        for method, rows in self._rows.items():
            parts = [rows[task] for task in tasks if task in rows]
            if len(parts) < len(tasks):
                domains = sorted({self.domain_of.get(task, "") for task in tasks})
                whole = len(tasks) == TASKS_OF_A_DOMAIN * len(domains)
                parts = [rows[domain] for domain in domains if domain in rows]
                if not whole or len(parts) < len(domains):
                    continue
            values, seeds = zip(*parts, strict=True)
            estimate = Estimate(float(np.mean(values)))
            result[method] = Cell({"mean": estimate}, len(tasks), (min(seeds), max(seeds)))
        return result

    def per_task(self) -> dict[str, dict[str, Cell]]:
        """Return the mean of each method on each task."""
        result: dict[str, dict[str, Cell]] = {}
        for method, rows in self._rows.items():
            for task in rows.keys() & self.domain_of.keys():
                value, seeds = rows[task]
                result.setdefault(task, {})[method] = Cell({"mean": Estimate(value)}, 1, (seeds, seeds))
        return result


def tasks_of(domain: str) -> list[str]:
    """Return the names of a domain's tasks.

    :param domain: e.g. ``"scene-play"``.
    :return: the environments of its tasks.
    """
    return [f"{domain}-singletask-task{k}-v0" for k in range(1, TASKS_OF_A_DOMAIN + 1)]


def _in_parallel(function: Callable[[Any], T], keys: Iterable[Any]) -> dict[Any, T]:
    """Return key -> function(key), on all processors: numpy lets other threads run while it works."""
    keys = list(keys)
    if not keys:
        return {}
    first = function(keys[0])  # draws the resamples that the others share
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(keys, [first, *pool.map(function, keys[1:])], strict=True))


def ranking(comparison: Comparison) -> list[str]:
    """Return the methods in the order in which tables and figures show them.

    :param comparison: the comparison.
    :return: best mean of the first phase first; methods that it lacks follow by their mean in the next.
    """

    def key(name: str) -> tuple[Any, ...]:
        means = [p.aggregates[name].estimates["mean"].point for p in comparison.phases.values() if name in p.aggregates]
        first = next((i for i, p in enumerate(comparison.phases.values()) if name in p.aggregates), len(means))
        return (first, -means[0] if means else 0, name)

    return sorted((name for name in comparison.methods if _has_scores(comparison, name)), key=key)


def _has_scores(comparison: Comparison, name: str) -> bool:
    """Return whether a method has an aggregate in any phase."""
    return any(name in phase.aggregates for phase in comparison.phases.values())


def seeds_text(seeds: tuple[int, int]) -> str:
    """Return a number of seeds as text.

    :param seeds: smallest and largest number.
    :return: e.g. ``"12"`` or ``"3 to 12"``.
    """
    low, high = seeds
    return show(low) if low == high else f"{low} to {high}"
