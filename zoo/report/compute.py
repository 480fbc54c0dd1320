"""Compute every number of a comparison from the scores of runs and from published means.

The score of a run is that of its last evaluation in the phase, never its best one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd

from zoo.datasets.names import NUM_TASKS
from zoo.errors import UsageError
from zoo.report.comparison import OWN, Cell, Comparison, Method, Phase, label_of
from zoo.report.learning_curves import episodes_of, learning_curves
from zoo.report.published_scores import suite_of, suite_tasks, tasks_of
from zoo.report.significance import rank_p_values
from zoo.report.statistics import aggregates as statistics
from zoo.report.statistics.aggregates import Scores
from zoo.report.statistics.estimates import Array, Curve, Estimate, Improvement
from zoo.report.statistics.improvement import improvements, spreads_of
from zoo.report.statistics.resampling import in_parallel
from zoo.runs.history import PHASES
from zoo.runs.scores import KINDS, SUCCESS, Kind

Played = Mapping[str, statistics.Episodes]
"""Method -> the episodes behind its success rates."""
CURVE_REPS = 2_000
"""The most repetitions for the bounds of curves and profiles; the eye sees no more, and they take most of the time."""


def compare_kinds(
    methods: Mapping[str, Method],
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
    methods: Mapping[str, Method],
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
    suites = sorted({m.suite for m in methods.values() if m.suite}) if kind is SUCCESS else []
    curve_tasks, passing = _curve_tasks(evaluations), _passing_tasks(evaluations) if kind is SUCCESS else set()
    for name in PHASES:
        runs, published = (table[table["phase"] == name] for table in (evaluations, means))
        if len(runs) or len(published):
            shown = curve_tasks if curves else None
            phase = _compare_phase(name, runs, published, kind, reps, suites, shown, passing)
            phases[name] = _with_tallies(phase, methods)
    label = label_of(curve_tasks, _suite_of(curve_tasks, kind))
    return Comparison(kind, methods, phases, reps, label)


def final_scores(evaluations: pd.DataFrame) -> dict[str, dict[str, Array]]:
    """Return the last scores of the runs of one phase: method -> environment -> (runs,), in the order of the seeds."""
    scores: dict[str, dict[str, Array]] = {}
    for (method, environment), group in last_evaluations(evaluations).groupby(["method", "environment"], sort=False):
        scores.setdefault(str(method), {})[str(environment)] = group["score"].to_numpy()
    return scores


def last_evaluations(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return the last evaluation of each run in each phase, in the order of methods, environments and seeds."""
    key = ["method", "environment", "seed", "phase"]
    return evaluations.sort_values([*key, "step"]).drop_duplicates(key, keep="last")


def _compare_phase(
    name: str,
    runs: pd.DataFrame,
    means: pd.DataFrame,
    kind: Kind,
    reps: int,
    suites: Sequence[str],
    curve_tasks: Sequence[str] | None,
    passing: Collection[str],
) -> Phase:
    """Compute every number of one phase.

    :param suites: the suites of published sets.
    :param curve_tasks: what learning curves are over; None for no curves and profiles.
    :param passing: tasks that the learning curves of their domain leave out.
    """
    scores = final_scores(runs)
    episodes = episodes_of(runs) if kind is SUCCESS else None
    table = PublishedMeans(means)
    coverage = {method: sorted(tasks) for method, tasks in scores.items()}
    coverage |= table.tasks(set().union(*coverage.values()))
    strays = _find_strays(coverage, set(runs.loc[runs["source"] == OWN, "method"]))
    kept = {method: found for method, found in coverage.items() if method not in strays}
    tasks, left_out = _common_tasks(kept)
    common = {
        method: {task: by_task[task] for task in tasks}
        for method, by_task in scores.items()
        if tasks and method not in strays
    }
    averaged = common if _can_average(tasks, kind) else {}
    domain_tasks = _domain_tasks(runs, table, kind)
    thresholds = _thresholds(runs, averaged, kind)
    curve_reps = min(reps, CURVE_REPS)
    return Phase(
        name=name,
        step_ranges=_step_ranges(runs, means),
        coverage=coverage,
        tasks=tasks,
        left_out=left_out,
        strays=strays,
        aggregates=_aggregates(averaged, kind, reps, episodes) | table.aggregates(tasks),
        improvements=_all_pairs(common, kind, reps, episodes, with_difference=bool(averaged)),
        domains=_domains(scores, table, domain_tasks, reps, episodes or {}) if kind is SUCCESS else {},
        domain_tasks=domain_tasks,
        per_task=_per_task(scores, table, kind, episodes),
        thresholds=thresholds,
        profiles={} if curve_tasks is None else _profiles(averaged, thresholds, curve_reps, kind),
        curves=learning_curves(runs, curve_tasks or (), kind, curve_reps) if _can_average(curve_tasks, kind) else {},
        domain_curves={
            domain: learning_curves(runs, inside, kind, curve_reps, with_iqm=False)
            for domain, found in domain_tasks.items()
            if curve_tasks is not None and (inside := [task for task in found if task not in passing])
        },
        suite=_suite_of(tasks, kind),
        suite_aggregates=_suite_aggregates(scores, table, suites, tasks, reps, episodes),
        scores=common,
        spreads=spreads_of(averaged, kind.limits, episodes),
    )


def _profiles(scores: Mapping[str, Scores], thresholds: Array, reps: int, kind: Kind) -> dict[str, Curve]:
    """Return the performance profile of each method."""

    def profile(method: str) -> Curve:
        return statistics.performance_profile(scores[method], thresholds, reps, kind.limits)

    return in_parallel(profile, scores)


def _with_tallies(phase: Phase, methods: Mapping[str, Method]) -> Phase:
    """Return a phase whose cells say what became of the runs behind them."""

    def tallied(cells: Mapping[str, Cell], tasks: Sequence[str]) -> dict[str, Cell]:
        return {name: replace(cell, tally=methods[name].tally(tasks)) for name, cell in cells.items()}

    return replace(
        phase,
        aggregates=tallied(phase.aggregates, phase.tasks),
        domains={domain: tallied(cells, phase.domain_tasks[domain]) for domain, cells in phase.domains.items()},
        per_task={task: tallied(cells, [task]) for task, cells in phase.per_task.items()},
        suite_aggregates={suite: tallied(cells, suite_tasks(suite)) for suite, cells in phase.suite_aggregates.items()},
    )


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


def _suite_of(tasks: Sequence[str], kind: Kind) -> str | None:
    """Return the suite that consists of some tasks, or None."""
    return suite_of(tasks) if tasks and kind is SUCCESS else None


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


def _domain_tasks(runs: pd.DataFrame, means: PublishedMeans, kind: Kind) -> dict[str, list[str]]:
    """Return domain -> the tasks of it that were run.

    Where only some were run and a method has a mean over all of them, that is an entry of its own: means over different
    tasks share no column, and neither hides the other.
    """
    label = "domain" if kind is SUCCESS else "environment"
    domain_of = dict(zip(runs["environment"], runs[label], strict=True)) | means.single_tasks
    result: dict[str, list[str]] = {}
    for task in sorted(domain_of):
        result.setdefault(domain_of[task], []).append(task)
    for domain in means.whole_domains:
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
    steps = last.groupby("method")["step"].agg(["min", "max"])
    return {str(method): (int(row["min"]), int(row["max"])) for method, row in steps.iterrows()}


def _aggregates(scores: Mapping[str, Scores], kind: Kind, reps: int, episodes: Played | None) -> dict[str, Cell]:
    """Return the aggregates of each method over the same tasks."""

    def aggregate(method: str) -> dict[str, Estimate]:
        return statistics.aggregate(scores[method], reps, kind.limits, None if episodes is None else episodes[method])

    estimates = in_parallel(aggregate, scores)
    return {
        method: _cell({metric: found[metric] for metric in kind.metrics}, scores[method])
        for method, found in estimates.items()
    }


def _suite_aggregates(
    scores: Mapping[str, Scores],
    means: PublishedMeans,
    suites: Sequence[str],
    common: Sequence[str],
    reps: int,
    episodes: Played | None,
) -> dict[str, dict[str, Cell]]:
    """Return suite -> method with all its tasks -> aggregates, for suites other than the common tasks."""
    result = {}
    for suite in suites:
        tasks = suite_tasks(suite)
        if tasks == tuple(common):
            continue
        whole = {
            method: {task: by_task[task] for task in tasks}
            for method, by_task in scores.items()
            if set(tasks) <= set(by_task)
        }
        result[suite] = _aggregates(whole, SUCCESS, reps, episodes) | means.aggregates(tasks)
    return {suite: cells for suite, cells in result.items() if cells}


def _cell(estimates: Mapping[str, Estimate], scores: Scores) -> Cell:
    seeds = [len(runs) for runs in scores.values()]
    return Cell(estimates, len(seeds), (min(seeds), max(seeds)))


def _all_pairs(
    scores: Mapping[str, Scores], kind: Kind, reps: int, episodes: Played | None, with_difference: bool
) -> dict[tuple[str, str], Improvement]:
    """Return both directions of every pair; one follows from the other."""
    pairs = list(combinations(sorted(scores), 2))
    found = improvements(scores, pairs, reps, kind.limits, episodes)
    if not with_difference and pairs:
        by_rank = dict(zip(pairs, rank_p_values(scores, pairs), strict=True))
        found = {names: replace(pair, difference=None, p_value=by_rank[names]) for names, pair in found.items()}
    reverse = {
        (y, x): replace(
            pair,
            probability=_rest(pair.probability, 1),
            difference=pair.difference and _rest(pair.difference, 0),
            tasks=pair.tasks.reversed,
        )
        for (x, y), pair in found.items()
    }
    return found | reverse


def _rest(estimate: Estimate, whole: float) -> Estimate:
    interval = estimate.interval and (whole - estimate.interval[1], whole - estimate.interval[0])
    return Estimate(whole - estimate.point, interval, estimate.kind)


def _domains(
    scores: Mapping[str, Scores],
    means: PublishedMeans,
    domain_tasks: Mapping[str, list[str]],
    reps: int,
    episodes: Played,
) -> dict[str, dict[str, Cell]]:
    """Return mean and IQM of each method on each domain of which it has all tasks."""
    cells: dict[tuple[str, str], Scores] = {
        (domain, method): {task: by_task[task] for task in tasks}
        for domain, tasks in domain_tasks.items()
        for method, by_task in scores.items()
        if set(tasks) <= set(by_task)
    }
    found = in_parallel(lambda key: statistics.mean_and_iqm(cells[key], reps, episodes=episodes.get(key[1])), cells)
    result: dict[str, dict[str, Cell]] = {domain: {} for domain in domain_tasks}
    for (domain, method), (mean, iqm) in found.items():
        estimates = {"mean": mean.estimate(0), "iqm": iqm.estimate(0)}
        result[domain][method] = _cell(estimates, cells[domain, method])
    for domain, tasks in domain_tasks.items():
        result[domain] |= means.aggregates(tasks)
    return result


def _per_task(
    scores: Mapping[str, Scores], means: PublishedMeans, kind: Kind, episodes: Played | None
) -> dict[str, dict[str, Cell]]:
    """Return the mean of each method on each task it has."""
    result: dict[str, dict[str, Cell]] = {}
    for method, by_task in scores.items():
        played = None if episodes is None else episodes[method]
        for task, runs in by_task.items():
            estimate = statistics.mean({task: runs}, kind.limits, played).estimate(0)
            result.setdefault(task, {})[method] = Cell({"mean": estimate}, 1, (len(runs), len(runs)))
    for task, found in means.per_task().items():
        result.setdefault(task, {}).update(found)
    return dict(sorted(result.items()))


# -- published means of methods without single runs, which join a comparison as points without intervals -------------


class PublishedMeans:
    """The published means of one phase, a table with the columns `zoo.report.comparison.MEAN_COLUMNS`."""

    def __init__(self, means: pd.DataFrame) -> None:
        self._rows: dict[str, dict[str, tuple[float, int]]] = {}
        self.domain_of: dict[str, str] = {}
        for row in means.itertuples():
            self._rows.setdefault(row.method, {})[row.environment] = (float(row.mean), int(row.seeds))
            if row.environment != row.domain:
                self.domain_of[row.environment] = row.domain
        self.single_tasks = dict(self.domain_of)
        """Task -> its domain, for tasks that have a mean of their own."""
        self.whole_domains = sorted(set(means["domain"]) & {name for rows in self._rows.values() for name in rows})
        """Domains of which a method has a mean over all tasks."""
        for domain in set(means["domain"]) - set(self.domain_of.values()):
            self.domain_of |= {task: domain for task in tasks_of(domain)}
        self._domain_of_any = {task: domain for domain in self.whole_domains for task in tasks_of(domain)}

    def tasks(self, known: Collection[str] = ()) -> dict[str, list[str]]:
        """Return the tasks of each method.

        A domain's mean stands for those of its tasks that others have, or for all of them if nobody has a single one.

        :param known: tasks of methods with single runs.
        """
        single = {task for rows in self._rows.values() for task in rows} | set(known)
        divided = {self.domain_of[task] for task in single & self.domain_of.keys()}
        result = {}
        for method, rows in self._rows.items():
            wholes = {
                task
                for task, domain in self.domain_of.items()
                if domain in rows and (task in single or domain not in divided)
            }
            result[method] = sorted(wholes | (rows.keys() & self.domain_of.keys()))
        return result

    def aggregates(self, tasks: Sequence[str]) -> dict[str, Cell]:
        """Return the mean over some tasks of each method that has them all, task by task or in whole domains."""
        domains = sorted({self._domain_of_any.get(task, "") for task in tasks})
        are_whole = len(tasks) == NUM_TASKS * len(domains)
        result = {}
        for method, rows in self._rows.items() if tasks else ():
            if all(task in rows for task in tasks):
                parts = [rows[task] for task in tasks]
            elif are_whole and all(domain in rows for domain in domains):
                parts = [rows[domain] for domain in domains]
            else:
                continue
            values, seeds = zip(*parts, strict=True)
            estimate = Estimate(float(np.mean(values)))
            result[method] = Cell({"mean": estimate}, len(tasks), (min(seeds), max(seeds)))
        return result

    def per_task(self) -> dict[str, dict[str, Cell]]:
        """Return task -> method -> its mean."""
        result: dict[str, dict[str, Cell]] = {}
        for method, rows in self._rows.items():
            for task in rows.keys() & self.domain_of.keys():
                value, seeds = rows[task]
                result.setdefault(task, {})[method] = Cell({"mean": Estimate(value)}, 1, (seeds, seeds))
        return result
