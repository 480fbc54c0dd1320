"""Data model of a comparison: methods, phases and all reported numbers.

The two phases are offline training and the online training after it. All scores of a comparison are of one kind:
runs scored by success and runs scored by return are compared separately. A method's "single runs are known" if the
score of each run is known; for some published methods, only means are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar

import pandas as pd

from agents.common.validation import count
from zoo.datasets.names import split_environment
from zoo.report.statistics import SIGNIFICANT, Estimate
from zoo.runs.folder import short_name
from zoo.runs.scores import SUCCESS, ScoreKind

Key = TypeVar("Key")
Value = TypeVar("Value")
OWN_RUNS = "own"
"""`ComparedMethod.source` of the user's runs."""

CURVE_COLUMNS = ("method", "phase", "where", "step", "value", "low", "high", "seeds")
PROFILE_COLUMNS = ("method", "phase", "tau", "fraction", "low", "high", "seeds")
ALL_TASKS = "all"
"""Value of ``where`` for learning curves over the tasks shared by all methods whose single runs are known."""
MARGIN = 0.03
"""Equality margin: two methods are equal if their means are significantly less than 3 points apart."""


class Outcome(StrEnum):
    """Result of a comparison of two methods."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal"
    UNDECIDED = "undecided"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Tally:
    """Numbers of a method's started, finished and failed runs."""

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
    """One method of a comparison.

    :param algorithm: the algorithm's published name, or its id.
    :param source: `OWN_RUNS` or the name of a published set.
    :param protocols: environment (user's runs) or domain (published) -> fields of `zoo.runs.protocol.PROTOCOL`.
    :param departures: environment -> setting -> pair of its values, in the user's runs and in the profile's protocol.
    :param tallies: environment -> tally of the user's runs.
    """

    algorithm: str
    source: str
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    departures: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    tallies: Mapping[str, Tally] = field(default_factory=dict)

    def tally(self, tasks: Iterable[str] | None = None) -> Tally:
        """Return the tally of the method's runs on some tasks (default: all); all zeros for published methods."""
        if tasks is None:
            tasks = self.tallies
        return sum((self.tallies.get(task, Tally()) for task in tasks), Tally())

    def only(self, places: Collection[str]) -> ComparedMethod:
        """Return the method restricted to some environments and domains."""
        parts: dict[str, Any] = {}
        for name, values in vars(self).items():
            if isinstance(values, Mapping):
                parts[name] = {place: values[place] for place in values if place in places}
        return replace(self, **parts)

    def protocol_on(self, environment: str) -> Mapping[str, Any]:
        """Return the protocol of the method's runs on an environment; empty if unknown."""
        # keys of `protocols` are environments for the user's runs, domains for published sets
        by_domain = self.protocols.get(split_environment(environment)[1], {})
        return self.protocols.get(environment, by_domain)

    @property
    def is_own(self) -> bool:
        """Whether the runs are the user's, not published."""
        return self.source == OWN_RUNS


Methods = Mapping[str, ComparedMethod]
"""Name -> method."""


@dataclass(frozen=True)
class Cell:
    """Average score of one method over some tasks.

    :param mean: mean, with its 95% interval if known.
    :param iqm: IQM, with its 95% interval; None if only the mean is published or needed.
    :param seeds: the smallest and the largest number of runs per task.
    :param tally: tally of the method's runs on these tasks; zero for published scores.
    """

    mean: Estimate
    seeds: tuple[int, int]
    iqm: Estimate | None = None
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True)
class Verdict:
    """Verdict on the subject of a phase against another method.

    If the two are not comparable, only `method` and `outcome` are set.

    :param method: the other method.
    :param difference: difference of means, with its interval at `Decision.level`; None if scores are not averaged.
    :param over_tasks: the same difference, with its 95% interval over tasks.
    :param probability: probability of improvement, with its 95% interval.
    :param p_value: p value after Holm's correction; None if the pair cannot be tested.
    """

    method: str
    outcome: Outcome
    difference: Estimate | None = None
    over_tasks: Estimate | None = None
    probability: Estimate | None = None
    p_value: float | None = None

    @property
    def lead(self) -> float:
        """Lead of the subject: the difference of means or, without means, P(improvement) - 0.5."""
        if self.difference is not None:
            return self.difference.point
        return self.probability.point - 0.5 if self.probability else 0.0


@dataclass(frozen=True)
class Decision:
    """Verdicts of one phase.

    :param subject: the method that the verdicts are about; None if nothing is compared.
    :param tested: description of the test; empty if none was made.
    :param level: two-sided level of the differences' intervals; an interval excludes 0 if its pair is significant.
    :param verdicts: verdict against every other method whose single runs are known, in the order of `ranking`.
    :param rival: the verdict against the best comparable method.
    :param seeds_needed: seeds per method that would settle an undecided verdict against the rival; None if unknown.
    """

    subject: str | None = None
    tested: str = ""
    level: float = SIGNIFICANT
    verdicts: Sequence[Verdict] = ()
    rival: Verdict | None = None
    seeds_needed: int | None = None


@dataclass(frozen=True)
class Phase:
    """All numbers of one phase.

    Aggregates, profiles and the curves over all tasks are empty if the methods share no task, or if the tasks they
    share have different scales.

    :param step_ranges: method -> the smallest and largest last step on `tasks`, or on all tasks if there are none.
    :param coverage: method -> the tasks on which it has scores.
    :param tasks: tasks on which every method has scores; aggregates use only these.
    :param suite: the suite that consists of `tasks`, or None.
    :param aggregates: method -> its average over `tasks`.
    :param domains: domain -> method -> its mean over the domain's tasks; empty for returns.
    :param domain_tasks: domain -> its tasks; for returns, each environment is a domain of its own.
    :param per_task: task -> method -> its mean.
    :param profiles: the fraction of runs above each threshold ``tau``, columns `PROFILE_COLUMNS`.
    :param curves: the points of learning curves, columns `CURVE_COLUMNS`. The curves over the tasks of
        `Comparison.curves_label` come first; their ``where`` is `ALL_TASKS`. Each domain's curves follow; they cover
        the domain's tasks that were evaluated in all phases of the domain.
    """

    name: str
    step_ranges: Mapping[str, tuple[int, int]]
    coverage: Mapping[str, Sequence[str]]
    tasks: tuple[str, ...]
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
        """Description of the aggregates' tasks, e.g. ``"50 tasks of qam50"`` or ``"scene-play task1"``."""
        return label_of(self.tasks, self.suite)


@dataclass(frozen=True)
class Comparison:
    """All phases of a comparison.

    :param methods: name -> method; some may have no scores of this kind.
    :param phases: name -> phase; only phases that were evaluated.
    :param curves_label: description of the learning curves' tasks. A curve spans both phases, so these are the tasks
        shared, in every phase, by all methods whose single runs are known.
    :param focus: subject of the verdicts; None for the leading method of each phase.
    """

    kind: ScoreKind
    methods: Methods
    phases: Mapping[str, Phase]
    curves_label: str = ""
    focus: str | None = None

    @property
    def has_one_task(self) -> bool:
        """Whether all scores are on one task."""
        return len(set().union(*(phase.per_task for phase in self.phases.values()))) == 1

    @property
    def margin(self) -> float:
        """Equality margin; 0 for scores without a common scale, which never count as equal."""
        return MARGIN if self.kind.is_comparable else 0.0

    @property
    def title(self) -> str:
        """Suffix of titles that distinguishes a report's comparisons; empty for success rates."""
        return "" if self.kind is SUCCESS else f", {self.kind.name}"

    @property
    def suffix(self) -> str:
        """Suffix of file names, with the words of `title`."""
        return self.title.replace(", ", "_").replace(" ", "_")


def joined(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Return one table with the rows of several tables and the given columns."""
    # concatenating an empty table would turn numeric columns into dtype object
    filled = [table for table in tables if len(table)]
    if not filled:  # pandas raises for an empty list
        return pd.DataFrame(columns=columns)
    return pd.concat(filled, ignore_index=True).reindex(columns=columns)


def by_domain(environments: Iterable[str]) -> dict[str, list[str]]:
    """Return domain -> its environments, both sorted by the environments' names."""
    return by_value({name: split_environment(name)[1] for name in sorted(environments)})


def places_of(environments: Iterable[str]) -> list[str]:
    """Return a label for each domain: the name of its only environment, or the number of its tasks."""
    texts = []
    for domain, names in by_domain(environments).items():
        text = short_name(names[0])
        if len(names) > 1:
            text = f"{len(names)} tasks of {domain}"
        texts.append(text)
    return texts


def by_place(
    table: pd.DataFrame, value: Callable[[pd.DataFrame], Value]
) -> dict[str, dict[str, Value]]:
    """Return method -> environment -> the result of ``value`` for the rows of this pair."""
    result: dict[str, dict[str, Value]] = {}
    for (method, environment), rows in table.groupby(["method", "environment"]):
        result.setdefault(method, {})[environment] = value(rows)
    return result


def failed_runs(methods: Methods) -> str:
    """Return the numbers of failed and of all runs of each method with failed runs, e.g. ``"qam 3 of 6"``."""
    tallies = {name: method.tally() for name, method in methods.items()}
    return ", ".join(
        f"{name} {tally.failed} of {tally.started}"
        for name, tally in tallies.items()
        if tally.failed
    )


def by_value(mapping: Mapping[Key, Value]) -> dict[Value, list[Key]]:
    """Return value -> the keys that have it."""
    result: dict[Value, list[Key]] = {}
    for key, value in mapping.items():
        result.setdefault(value, []).append(key)
    return result


def label_of(tasks: Sequence[str], suite: str | None) -> str:
    """Return a description of common tasks: the only one's name, or their number and the suite that they form."""
    if len(tasks) == 1:
        return short_name(tasks[0])
    if suite is None:
        return count(len(tasks), "common task")
    return f"{count(len(tasks), 'task')} of {suite}"


def ranking(phase: Phase) -> list[str]:
    """Return the methods of a phase in the order of tables and figures: by their mean, best first.

    Methods without a mean come last.
    """
    means = phase.means
    # break ties by name, so that a report does not depend on the order of its input
    return sorted(phase.coverage, key=lambda name: (-means.get(name, -math.inf), name))
