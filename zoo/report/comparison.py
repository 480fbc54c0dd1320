"""From scores of runs to a comparison: which tasks methods share, and every number that a report shows.

Two phases are compared: after the offline steps, and after the online steps that follow. The score of a run is that of
its last evaluation in the phase, never its best one. A comparison has scores of one kind: runs that are scored by
success and runs that are scored by their return are compared apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from zoo.errors import UsageError
from zoo.report import statistics
from zoo.report.learning_curves import LearningCurve, learning_curves
from zoo.report.resampling import in_parallel
from zoo.report.statistics import Array, Curve, Estimate, Improvement, Scores
from zoo.runs.history import PHASES
from zoo.runs.read import show
from zoo.runs.scores import KINDS, SUCCESS, Kind

TASKS_OF_A_DOMAIN = 5  # every domain of OGBench has this many
MEAN_COLUMNS = ("method", "phase", "step", "environment", "domain", "mean", "sd", "seeds")


@dataclass(frozen=True)
class Method:
    """One row of a comparison.

    :param name: as shown.
    :param algorithm: published name of the algorithm, or its id; fixes the colour.
    :param source: ``"own"`` or the name of a set of published scores.
    :param protocols: environment (own runs) or domain (published) -> fields of `zoo.runs.read.PROTOCOL`.
    :param departures: environment -> where own runs depart from the protocol of their profile, in words.
    """

    name: str
    algorithm: str
    source: str
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    departures: Mapping[str, Sequence[str]] = field(default_factory=dict)


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
class Phase:
    """Everything about one phase.

    Aggregates, profiles and `curves` are empty where methods have no task in common, or have several whose scores are
    not on one scale.

    :param name: ``"offline"`` or ``"online"``.
    :param steps: method -> step of its scores, or None where its runs differ.
    :param coverage: method -> the tasks it has.
    :param tasks: the tasks that all methods have; aggregates are over these.
    :param left_out: task that some methods lack -> those methods.
    :param aggregates: method -> its aggregates.
    :param improvements: (X, Y) -> how X compares with Y, for all ordered pairs of methods with single runs.
    :param domains: domain -> method -> its mean (and IQM) over the domain's tasks; empty for returns.
    :param domain_tasks: domain -> its tasks; each environment is a domain of its own for returns.
    :param per_task: task -> method -> its mean.
    :param thresholds: where the profiles are evaluated.
    :param profiles: method -> fraction of runs above each threshold.
    :param curves: method -> its learning curve over `tasks`.
    :param domain_curves: domain -> method -> its learning curve.
    """

    name: str
    steps: Mapping[str, int | None]
    coverage: Mapping[str, Sequence[str]]
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

    :param kind: what the scores are.
    :param methods: name -> method; some may have scores of other kinds only.
    :param phases: name -> phase; only phases that were evaluated.
    :param reps: bootstrap repetitions.
    """

    kind: Kind
    methods: Mapping[str, Method]
    phases: Mapping[str, Phase]
    reps: int


def compare_kinds(
    methods: Mapping[str, Method],
    evaluations: pd.DataFrame,
    means: pd.DataFrame,
    reps: int = statistics.REPETITIONS,
    curves: bool = True,
) -> list[Comparison]:
    """Compute every number of a comparison, for each kind of scores.

    :param methods: name -> method.
    :param evaluations: one row an evaluation of a run, columns `zoo.runs.read.EVALUATION_COLUMNS`.
    :param means: published means of methods without single runs, columns `MEAN_COLUMNS`; they are success rates.
    :param reps: bootstrap repetitions.
    :param curves: also compute profiles and learning curves.
    :return: one comparison a kind, in the order of `KINDS`.
    :raises UsageError: if there is nothing to compare.
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
    methods: Mapping[str, Method],
    evaluations: pd.DataFrame,
    means: pd.DataFrame,
    reps: int = statistics.REPETITIONS,
    curves: bool = True,
    kind: Kind = SUCCESS,
) -> Comparison:
    """Compute every number of a comparison of scores of one kind.

    :param methods: name -> method.
    :param evaluations: one row an evaluation of a run, columns `zoo.runs.read.EVALUATION_COLUMNS`.
    :param means: published means of methods without single runs, columns `MEAN_COLUMNS`.
    :param reps: bootstrap repetitions.
    :param curves: also compute profiles and learning curves.
    :param kind: what the scores are.
    :return: the comparison.
    """
    phases = {}
    for name in PHASES:
        runs, published = (table[table["phase"] == name] for table in (evaluations, means))
        if len(runs) or len(published):
            phases[name] = _compare_phase(name, runs, published, kind, reps, curves)
    return Comparison(kind, methods, phases, reps)


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


def _compare_phase(name: str, runs: pd.DataFrame, means: pd.DataFrame, kind: Kind, reps: int, curves: bool) -> Phase:
    """Return everything about one phase."""
    scores = final_scores(runs)
    table = _Means(means)
    coverage = {method: sorted(tasks) for method, tasks in scores.items()} or table.tasks()
    tasks, left_out = _common_tasks(coverage)
    common = {method: {task: by_task[task] for task in tasks} for method, by_task in scores.items()} if tasks else {}
    averaged = common if kind.is_comparable or len(tasks) == 1 else {}
    domain_tasks = _domain_tasks(runs, table, kind)
    thresholds = _thresholds(runs, averaged, kind)
    return Phase(
        name=name,
        steps=_steps(runs, means),
        coverage=coverage,
        tasks=tasks,
        left_out=left_out,
        aggregates=_aggregates(averaged, kind, reps) | table.aggregates(tasks),
        improvements=_all_pairs(common, kind, reps, with_difference=bool(averaged)),
        domains=_domains(scores, table, domain_tasks, reps) if kind is SUCCESS else {},
        domain_tasks=domain_tasks,
        per_task=_per_task(scores, table, kind, reps),
        thresholds=thresholds,
        profiles=_profiles(averaged, thresholds, kind, reps) if curves else {},
        curves=learning_curves(runs, tasks, kind, reps) if curves and averaged else {},
        domain_curves={
            domain: learning_curves(runs, inside, kind, reps, with_iqm=False)
            for domain, inside in domain_tasks.items()
            if curves
        },
    )


def _common_tasks(coverage: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Return the tasks that all methods have, and who lacks the others."""
    everything = sorted(set().union(*coverage.values()))
    left_out = {task: sorted(name for name, tasks in coverage.items() if task not in tasks) for task in everything}
    common = tuple(task for task, missing in left_out.items() if not missing)
    return common, {task: missing for task, missing in left_out.items() if missing}


def _domain_tasks(runs: pd.DataFrame, means: _Means, kind: Kind) -> dict[str, list[str]]:
    """Return the tasks of each domain."""
    label = "domain" if kind is SUCCESS else "environment"
    domain_of = {env: str(domain) for env, domain in runs[["environment", label]].drop_duplicates().to_numpy()}
    domain_of |= means.domain_of
    result: dict[str, list[str]] = {}
    for task in sorted(domain_of):
        result.setdefault(domain_of[task], []).append(task)
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


def _steps(runs: pd.DataFrame, means: pd.DataFrame) -> dict[str, int | None]:
    """Return the step of each method's scores."""
    last = pd.concat([last_evaluations(runs)[["method", "step"]], means[["method", "step"]]])
    steps = last.groupby("method")["step"].agg(["min", "max"])
    return {str(method): int(row["max"]) if row["min"] == row["max"] else None for method, row in steps.iterrows()}


def _aggregates(scores: Mapping[str, Scores], kind: Kind, reps: int) -> dict[str, Cell]:
    """Return the aggregates of each method over the same tasks."""
    estimates = in_parallel(lambda method: statistics.aggregate(scores[method], reps, kind.limits), scores)
    return {
        method: _cell({metric: found[metric] for metric in kind.metrics}, scores[method])
        for method, found in estimates.items()
    }


def _cell(estimates: Mapping[str, Estimate], scores: Scores) -> Cell:
    """Return estimates with the numbers of tasks and seeds."""
    seeds = [len(runs) for runs in scores.values()]
    return Cell(estimates, len(seeds), (min(seeds), max(seeds)))


def _all_pairs(
    scores: Mapping[str, Scores], kind: Kind, reps: int, with_difference: bool
) -> dict[tuple[str, str], Improvement]:
    """Return both directions of every pair; one follows from the other."""
    found = statistics.improvements(scores, combinations(sorted(scores), 2), reps, kind.limits)
    if not with_difference:
        found = {pair: Improvement(improvement.probability, None) for pair, improvement in found.items()}
    return found | {(y, x): _reversed(improvement) for (x, y), improvement in found.items()}


def _reversed(improvement: Improvement) -> Improvement:
    """Return the same comparison seen from the other method."""
    chance, difference = improvement.probability, improvement.difference
    return Improvement(_mirrored(chance, 1), difference and _mirrored(difference, 0))


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
    found = in_parallel(lambda key: statistics.mean_and_iqm(cells[key], reps), cells)
    result: dict[str, dict[str, Cell]] = {domain: {} for domain in domain_tasks}
    for (domain, method), (mean, iqm) in found.items():
        estimates = {"mean": mean.estimate(0), "iqm": iqm.estimate(0)}
        result[domain][method] = _cell(estimates, cells[domain, method])
    for domain, tasks in domain_tasks.items():
        result[domain] |= means.aggregates(tasks)
    return result


def _per_task(scores: Mapping[str, Scores], means: _Means, kind: Kind, reps: int) -> dict[str, dict[str, Cell]]:
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
            curve = statistics.mean({"": columns}, reps, kind.limits)
            for k, (task, method) in enumerate(part):
                result.setdefault(task, {})[method] = Cell({"mean": curve.estimate(k)}, 1, (seeds, seeds))
    for task, found in means.per_task().items():
        result.setdefault(task, {}).update(found)
    return dict(sorted(result.items()))


def _profiles(scores: Mapping[str, Scores], thresholds: Array, kind: Kind, reps: int) -> dict[str, Curve]:
    """Return the performance profile of each method."""
    return in_parallel(
        lambda method: statistics.performance_profile(scores[method], thresholds, reps, kind.limits), scores
    )


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

    def tasks(self) -> dict[str, list[str]]:
        """Return the tasks of each method; a domain's mean stands for all its tasks."""
        return {
            method: sorted(task for task, domain in self.domain_of.items() if task in rows or domain in rows)
            for method, rows in self._rows.items()
        }

    def aggregates(self, tasks: Sequence[str]) -> dict[str, Cell]:
        """Return the mean over some tasks of each method that has them all, task by task or in whole domains."""
        result = {}
        for method, rows in self._rows.items() if tasks else ():
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


def ranking(comparison: Comparison) -> list[str]:
    """Return the methods in the order in which tables and figures show them.

    :param comparison: the comparison.
    :return: best mean of the first phase first; methods that it lacks follow by their mean in the next, and methods
        without any aggregate in the order of `Comparison.methods`.
    """
    phases = list(comparison.phases.values())

    def key(name: str) -> tuple[Any, ...]:
        found = [(k, -p.aggregates[name].estimates["mean"].point) for k, p in enumerate(phases) if name in p.aggregates]
        return (*found[0], name) if found else (len(phases), 0.0, "")

    cells = [
        place for phase in phases for place in (phase.aggregates, *phase.domains.values(), *phase.per_task.values())
    ]
    return sorted((name for name in comparison.methods if any(name in place for place in cells)), key=key)


def baseline_in(comparison: Comparison, wanted: str) -> str:
    """Return whom to improve on.

    :param comparison: the comparison.
    :param wanted: a method, which may have scores of other kinds only.
    :return: that method, or else the best one.
    """
    names = ranking(comparison)
    return wanted if wanted in names else names[0]


def seeds_text(seeds: tuple[int, int]) -> str:
    """Return a number of seeds as text.

    :param seeds: smallest and largest number.
    :return: e.g. ``"12"`` or ``"3 to 12"``.
    """
    low, high = seeds
    return show(low) if low == high else f"{low} to {high}"
