"""What a comparison is: its methods, its phases, and every number that a report shows.

Two phases are compared: after the offline steps, and after the online steps that follow. A comparison has scores of one
kind: runs that are scored by success and runs that are scored by their return are compared apart.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar

import pandas as pd

from agents.common.validation import count
from zoo.report.statistics import SIGNIFICANT, Estimate
from zoo.runs.folder import short_name
from zoo.runs.read import split_environment
from zoo.runs.scores import SUCCESS, ScoreKind

Key = TypeVar("Key")
Value = TypeVar("Value")
OWN_RUNS = "own"
"""The source of own runs, in tables and of methods."""

MEAN_COLUMNS = ("method", "phase", "step", "environment", "domain", "mean", "seeds")
"""Columns of a table of published means of methods without single runs."""
CURVE_COLUMNS = ("method", "kind", "phase", "where", "step", "value", "low", "high", "seeds")
PROFILE_COLUMNS = ("method", "kind", "phase", "tau", "fraction", "low", "high", "seeds")
ALL_TASKS = "all"
"""What learning curves call the tasks that all methods with single runs have."""
MARGIN = 0.03
"""Two methods are equal whose means surely differ by less: 3 points."""


class Outcome(StrEnum):
    """How one method compares with another."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal"
    UNDECIDED = "undecided"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Tally:
    """How many runs of a method were started, and what became of them."""

    started: int = 0
    finished: int = 0
    failed: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether every run finished."""
        return self.finished == self.started

    def __add__(self, tally: Tally) -> Tally:
        return Tally(
            self.started + tally.started,
            self.finished + tally.finished,
            self.failed + tally.failed,
        )

    def __str__(self) -> str:
        return f"{self.finished} of {self.started}"


@dataclass(frozen=True)
class ComparedMethod:
    """One row of a comparison.

    :param algorithm: published name of the algorithm, or its id.
    :param source: `OWN_RUNS` or the name of a set of published scores.
    :param protocols: environment (own runs) or domain (published) -> fields of `zoo.runs.read.PROTOCOL`.
    :param departures: environment -> setting of own runs -> its value and that of the protocol of their profile.
    :param scoring: how its scores were taken, or None if they are those of the last evaluation.
    :param tallies: environment -> what became of its own runs there.
    """

    name: str
    algorithm: str
    source: str
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    departures: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    scoring: str | None = None
    tallies: Mapping[str, Tally] = field(default_factory=dict)

    def tally(self, tasks: Iterable[str] | None = None) -> Tally:
        """Return what became of its runs on some tasks, by default on all; none were started of published methods."""
        if tasks is None:
            tasks = self.tallies
        return sum((self.tallies.get(task, Tally()) for task in tasks), Tally())

    def only(self, places: Collection[str]) -> ComparedMethod:
        """Return the method as it is known on some environments and domains."""
        parts: dict[str, Any] = {}
        for name, values in vars(self).items():
            if isinstance(values, Mapping):
                parts[name] = {place: values[place] for place in values if place in places}
        return replace(self, **parts)

    def protocol_on(self, environment: str) -> Mapping[str, Any]:
        """Return how its runs on an environment were made; empty where that is not known."""
        # own runs know it for each environment, published sets for a whole domain
        by_domain = self.protocols.get(split_environment(environment)[1], {})
        return self.protocols.get(environment, by_domain)

    @cached_property
    def title(self) -> str:
        """Its name, marked where runs failed."""
        return self.name + ("‡" if self.tally().failed else "")

    @property
    def is_own(self) -> bool:
        """Whether its runs are own runs, not published ones."""
        return self.source == OWN_RUNS


Methods = Mapping[str, ComparedMethod]
"""Name -> method."""


@dataclass(frozen=True)
class Cell:
    """One method on some tasks.

    :param mean: with its 95% interval, where it is known.
    :param iqm: the same, or None where only a mean is published or asked for.
    :param seeds: the smallest and the largest number of runs of a task.
    :param tally: what became of its runs there; none were started of published scores.
    """

    mean: Estimate
    tasks: int
    seeds: tuple[int, int]
    iqm: Estimate | None = None
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True)
class Verdict:
    """How the method that the verdicts of a phase are about compares with another one.

    A method that is not comparable has an outcome and nothing else.

    :param method: the other one.
    :param difference: of means, with its interval at the level of `Decision.level`; None where there are no means.
    :param over_tasks: the difference with its 95% interval where tasks are drawn anew too.
    :param probability: of improvement, with its 95% interval.
    :param p_value: after Holm's correction; None where the pair cannot be tested.
    """

    method: str
    outcome: Outcome
    difference: Estimate | None = None
    over_tasks: Estimate | None = None
    probability: Estimate | None = None
    p_value: float | None = None

    @property
    def lead(self) -> float:
        """Lead of the subject: the difference of means, or without one the probability above one half."""
        if self.difference is not None:
            return self.difference.point
        return self.probability.point - 0.5 if self.probability else 0.0


@dataclass(frozen=True)
class Decision:
    """What the numbers of one phase decide.

    :param subject: the method that the verdicts are about; None where nothing is compared.
    :param tested: how pairs are tested, in words; empty where none is.
    :param level: the two-sided level of the intervals of differences: they exclude 0 where methods clearly differ.
    :param verdicts: on the subject against each other method with single runs, in the order of `ranking`.
    :param rival: the verdict that matters most, on the best other method.
    :param seeds_needed: how many seeds of each would decide an undecided rival; None where nothing says so.
    """

    subject: str | None = None
    tested: str = ""
    level: float = SIGNIFICANT
    verdicts: Sequence[Verdict] = ()
    rival: Verdict | None = None
    seeds_needed: int | None = None


@dataclass(frozen=True)
class Phase:
    """Everything about one phase.

    Aggregates, profiles and the curves over all tasks are empty where methods have no task in common, or have several
    whose scores are not on one scale.

    :param step_ranges: method -> the least and the largest step of its scores, since tasks may have their own.
    :param coverage: method -> the tasks it has.
    :param tasks: the tasks that all methods have; aggregates are over these.
    :param suite: the suite that consists of `tasks`, or None.
    :param left_out: task that some methods lack -> those methods.
    :param aggregates: method -> its aggregates.
    :param domains: domain -> method -> its mean over the domain's tasks; empty for returns.
    :param domain_tasks: domain -> its tasks; for returns each environment is its own domain.
    :param per_task: task -> method -> its mean.
    :param profiles: the fraction of runs above each threshold ``tau``, columns `PROFILE_COLUMNS`.
    :param curves: the points of learning curves, columns `CURVE_COLUMNS`: those over the tasks of
        `Comparison.curves_label` (``where`` is `ALL_TASKS`), then those of each domain, over the tasks that have all
        phases of the domain.
    """

    name: str
    step_ranges: Mapping[str, tuple[int, int]]
    coverage: Mapping[str, Sequence[str]]
    tasks: tuple[str, ...]
    left_out: Mapping[str, list[str]]
    aggregates: Mapping[str, Cell]
    domains: Mapping[str, Mapping[str, Cell]]
    domain_tasks: Mapping[str, list[str]]
    per_task: Mapping[str, Mapping[str, Cell]]
    decision: Decision = Decision()
    profiles: pd.DataFrame = field(default_factory=pd.DataFrame)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    suite: str | None = None

    @property
    def means(self) -> dict[str, float]:
        """Method -> its mean over `tasks`."""
        return {name: cell.mean.point for name, cell in self.aggregates.items()}

    @property
    def tasks_label(self) -> str:
        """What aggregates are over, e.g. ``"50 tasks of qam50"`` or ``"2 common tasks"``."""
        return label_of(self.tasks, self.suite)


@dataclass(frozen=True)
class Comparison:
    """All phases of a comparison.

    :param of_own: whether it is of own runs alone, while another one has published scores beside them.
    :param methods: name -> method; some may have scores of other kinds only.
    :param phases: name -> phase; only phases that were evaluated.
    :param curves_label: what learning curves are over: the tasks that all methods with single runs have in each phase,
        since a curve goes on from one phase to the next.
    :param focus: the method that the verdicts are about; without one that is the leading method of each phase.
    """

    kind: ScoreKind
    methods: Methods
    phases: Mapping[str, Phase]
    reps: int
    curves_label: str = ""
    focus: str | None = None
    of_own: bool = False

    @property
    def title(self) -> str:
        """What tells it from other comparisons of a report, at the end of titles; nothing for one of success."""
        words = ["own runs"] if self.of_own else []
        if self.kind is not SUCCESS:
            words.append(self.kind.name)
        return "".join(f", {word}" for word in words)

    @property
    def suffix(self) -> str:
        """The same at the end of the names of files."""
        return self.title.replace(", ", "_").replace(" ", "_")


def phases_of(comparisons: Iterable[Comparison]) -> list[Phase]:
    """Return the phases of all comparisons."""
    return [phase for comparison in comparisons for phase in comparison.phases.values()]


def joined(tables: Sequence[pd.DataFrame], columns: Iterable[str]) -> pd.DataFrame:
    """Return the rows of several tables, or an empty table."""
    # pandas takes the types of empty tables into account, which would make numbers objects
    filled = [table for table in tables if len(table)]
    if not filled:  # nothing to concatenate is an error to pandas
        return pd.DataFrame(columns=columns)
    return pd.concat(filled, ignore_index=True)


def by_domain(environments: Iterable[str]) -> dict[str, list[str]]:
    """Return domain -> its environments, both sorted by the environments' names."""
    return by_value({name: split_environment(name)[1] for name in sorted(environments)})


def places_of(environments: Iterable[str]) -> list[str]:
    """Return environments in words, several tasks of a domain together."""
    places = []
    for domain, names in by_domain(environments).items():
        place = short_name(names[0])
        if len(names) > 1:
            place = f"{len(names)} tasks of {domain}"
        places.append(place)
    return places


def by_place(
    table: pd.DataFrame, value: Callable[[pd.DataFrame], Value]
) -> dict[str, dict[str, Value]]:
    """Return method -> environment -> what a function makes of their rows."""
    result: dict[str, dict[str, Value]] = {}
    for (method, environment), rows in table.groupby(["method", "environment"]):
        result.setdefault(method, {})[environment] = value(rows)
    return result


def by_value(mapping: Mapping[Key, Value]) -> dict[Value, list[Key]]:
    """Return value -> the keys that have it."""
    result: dict[Value, list[Key]] = {}
    for key, value in mapping.items():
        result.setdefault(value, []).append(key)
    return result


def label_of(tasks: Sequence[str], suite: str | None) -> str:
    """Return tasks that methods have in common in short, by the name of their suite if they are one."""
    if suite is None:
        return count(len(tasks), "common task")
    return f"{count(len(tasks), 'task')} of {suite}"


def ranking(comparison: Comparison, phase: Phase | None = None) -> list[str]:
    """Return the methods in the order of tables and figures: the best mean of a phase first, by default of the first.

    Methods that this phase lacks follow by their mean in the next one, and methods without any aggregate in the order
    of `Comparison.methods`.
    """
    phases = list(comparison.phases.values())
    if phase is not None:  # stable: the other phases keep their order
        phases.sort(key=lambda candidate: candidate.name != phase.name)
    names: list[str] = []
    for ordering_phase in phases:
        means = ordering_phase.means
        # ties by name, so that a report's bytes do not depend on the order of its input
        names += sorted(means, key=lambda name: (-means[name], name))
    # a name keeps its first place below, so that these come after those with a mean
    covered = set().union(*(ordering_phase.coverage for ordering_phase in phases))
    names += [name for name in comparison.methods if name in covered]
    return list(dict.fromkeys(names))
