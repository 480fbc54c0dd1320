"""What a reader must know before believing a number of a report, in sentences."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd
from packaging.version import Version

from zoo.report.comparison import Comparison, Phase, by_domain, label_of
from zoo.report.published_scores import PublishedSet, load_progress
from zoo.report.reproduction import Expected, set_differences
from zoo.report.statistics.estimates import FEW_SEEDS
from zoo.report.survival import describe_tallies
from zoo.report.tables.entries import range_text
from zoo.report.tables.scores import scored_otherwise
from zoo.runs.folder import RunFolder, UnreadableRun
from zoo.runs.protocol import shortened
from zoo.runs.read import RunTables, short_name, split_environment
from zoo.runs.scores import SUCCESS

Value = TypeVar("Value")
REWARDS_CHANGED = Version("1.2.0")
"""Version of OGBench since which single-task rewards come at another step (ogbench#34)."""
_NOT_ALIKE = {
    "success_return": "count a success from different returns on",
    "played": "were evaluated with different arguments of the environment",
    "dataset_fingerprint": "were trained on different data",
}
"""What the runs of a comparison should have in common on an environment -> what is said where they do not."""


def warnings(
    comparisons: Sequence[Comparison],
    own: RunTables,
    sets: Sequence[PublishedSet] = (),
    failed: str = "last",
    expected: Expected | None = None,
) -> list[str]:
    """Return sentences on what a reader must know before believing a number.

    :param sets: the published sets that were asked for.
    :param failed: what failed runs count for, see `zoo.report.survival.failed_scores`.
    :param expected: gives the settings that are behind published scores.
    """
    methods, skipped = comparisons[0].methods, own.skipped()
    apart = _differences_from_sets(comparisons, sets, expected)
    shown = own.runs[own.runs["problem"].isna() & own.runs["method"].isin(list(methods))]
    shown = shown[shown["environment"].isin({task for name in methods for task in _shown_tasks(comparisons, name)})]
    few = f"{len(skipped)} of {len(own.runs)} run folders did not finish, or do not count"
    return [
        *(f"{name} was not run as {published} was: {what}." for (name, published), what in apart.items()),
        *([f"{few}; each is listed with its reason."] if skipped else []),
        *describe_tallies({name: method.tally(method.tallies) for name, method in methods.items()}, failed),
        *_rewards_of_other_versions(shown, sets),
        *_unfinished_sets(sets),
        *_departures(comparisons, {name for name, _ in apart}),
        *_told_apart(shown),
        *(
            f"{name}: runs were trained by {len(codes)} versions of the algorithm's file."
            for name, codes in shown.dropna(subset="code").groupby("method")["code"].unique().items()
            if len(codes) > 1
        ),
        *(
            f"Scoring of {', '.join(shortened(names))}: {scoring}. Other scores are those of the last evaluation."
            for scoring, names in scored_otherwise(comparisons[0]).items()
        ),
        *(
            f"{phase.name}{comparison.kind.title}: {sentence}"
            for comparison in comparisons
            for phase in comparison.phases.values()
            for sentence in _warnings_of_phase(comparison, phase, {name for name, _ in apart})
        ),
        *_warnings_of_seeds(comparisons),
    ]


def _departures(comparisons: Sequence[Comparison], told: Collection[str]) -> Iterator[str]:
    """Yield where own methods depart from the protocol of their profiles, unless how they were run is told already."""
    for name, method in comparisons[0].methods.items():
        if name in told:
            continue
        departures = {task: method.departures.get(task, ()) for task in _shown_tasks(comparisons, name)}
        if any(departures.values()):
            yield f"{name} departs from the protocol of its profile: {_gathered(departures)}."


def _warnings_of_phase(comparison: Comparison, phase: Phase, told: Collection[str]) -> Iterator[str]:
    """Yield what limits the comparison in one phase.

    :param told: methods of which it is told already that they were run otherwise.
    """
    for name in phase.strays:
        kept = label_of(phase.tasks, phase.suite)
        has = f"{name} has only {_listed(phase.coverage[name])}"
        yield f"{has}; aggregates leave it out, so that the others keep their {kept}."
    if not phase.tasks:
        who = shortened(f"{name} has {_listed(tasks)}" for name, tasks in sorted(phase.coverage.items()))
        yield f"no aggregate is possible, because no environment was run by all methods: {'; '.join(who)}."
    elif phase.left_out:
        what = "aggregates" if phase.aggregates else "probabilities of improvement"
        lacking = _by_value({task: tuple(names) for task, names in phase.left_out.items()})
        missing = "; ".join(f"{_listed(tasks)} ({', '.join(shortened(names))})" for names, tasks in lacking.items())
        yield f"{what} leave out tasks that some methods lack: {missing}."
    without = [name for name in sorted(phase.coverage) if name not in (*phase.aggregates, *phase.strays)]
    if phase.aggregates and without:
        why = "published are means of whole domains, not of single tasks"
        yield f"no aggregate of {', '.join(shortened(without))}: {why}."
    sources = {name: method.source for name, method in comparison.methods.items() if not method.is_own}
    absent = sorted({*sources.values()} - {sources.get(name) for name in phase.coverage})
    if absent and comparison.kind is SUCCESS:
        yield f"no scores of {', '.join(absent)}."
    if not comparison.kind.is_comparable and len(phase.tasks) > 1:
        yield (
            f"returns of {len(phase.tasks)} environments are not averaged, because each has its own scale; "
            "--reference-scores puts them on a common one."
        )
    by_steps = _by_value({name: range_text(steps) for name, steps in phase.step_ranges.items() if name not in told})
    if len(by_steps) > 1:
        found = "; ".join(f"{text} ({', '.join(shortened(names))})" for text, names in by_steps.items())
        yield f"methods were scored at different steps: {found}."
    if phase.uneven_seeds:
        yield f"unequal numbers of seeds between tasks: {', '.join(phase.uneven_seeds)}."


def _told_apart(runs: pd.DataFrame) -> Iterator[str]:
    """Yield where runs that stand side by side were scored, played or trained on something else."""
    played = [found.get("eval_env_kwargs") or found.get("env_kwargs") or "none" for found in runs["settings"]]
    for column, what in _NOT_ALIKE.items():
        known = runs.assign(played=played).dropna(subset=column).sort_values(["environment", column, "method"])
        for environment, part in known.groupby("environment"):
            found = {value: shortened(names.unique()) for value, names in part.groupby(column)["method"]}
            if len(found) > 1:
                texts = "; ".join(f"{value} ({', '.join(names)})" for value, names in found.items())
                yield f"{short_name(str(environment))}: runs {what}: {texts}. That alone may set their scores apart."


def _unfinished_sets(sets: Sequence[PublishedSet]) -> Iterator[str]:
    """Yield which published sets lack planned runs, or have means alone."""
    for published in sets:
        progress = load_progress(published)
        if progress and progress.missing:
            yield f"{published.name}: {progress.describe()}."
        if published.runs is None:
            yield (
                f"{published.name}: means only, since single runs are not published. So its methods have no IQM, "
                "profile, curve, probability of improvement or verdict here."
            )


def _rewards_of_other_versions(runs: pd.DataFrame, sets: Sequence[PublishedSet]) -> list[str]:
    """Return whether scores stand side by side whose rewards came at different steps of an episode."""
    found = {(published.name, published.ogbench): None for published in sets}
    for name, run in sorted(zip(runs["method"], runs["run"], strict=True)):
        with contextlib.suppress(UnreadableRun):  # old runs may have none
            found[name, (RunFolder(Path(run)).read_versions().get("packages") or {}).get("ogbench")] = None
    known = [(name, Version(version)) for name, version in found if version]
    before = [f"{name} ({version})" for name, version in known if version < REWARDS_CHANGED]
    since = [f"{name} ({version})" for name, version in known if version >= REWARDS_CHANGED]
    if not before or not since:
        return []
    return [
        f"OGBench {REWARDS_CHANGED} changed when rewards come, so scores from before and after it may differ for that "
        f"alone: {', '.join(shortened(before))}, and {', '.join(shortened(since))}."
    ]


def _warnings_of_seeds(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Yield which methods have too few seeds."""
    seeds: dict[str, int] = {}
    for phase in (phase for comparison in comparisons for phase in comparison.phases.values()):
        places = [phase.aggregates] if phase.aggregates else list(phase.per_task.values())
        for name, cell in (item for place in places for item in place.items()):
            if comparisons[0].methods[name].is_own or cell.estimates["mean"].interval is not None:
                seeds[name] = min(seeds.get(name, cell.seeds[0]), cell.seeds[0])
    if one := [name for name, number in seeds.items() if number == 1]:
        yield f"One seed gives no interval: {', '.join(one)}."
    if few := [f"{name} ({number})" for name, number in seeds.items() if 1 < number < FEW_SEEDS]:
        yield (
            f"Fewer than {FEW_SEEDS} seeds: {', '.join(few)}. Means have t-intervals; bootstrap intervals (IQM, "
            "median, profiles, probabilities) are too narrow."
        )


def _differences_from_sets(
    comparisons: Sequence[Comparison], sets: Sequence[PublishedSet], expected: Expected | None
) -> dict[tuple[str, str], str]:
    """Return (own method, set) -> where it was not run as the published scores beside it were."""
    result = {}
    for comparison in (found for found in comparisons if found.kind is SUCCESS):
        phase = list(comparison.phases)[-1]
        for published in sets:
            theirs = [m.protocols for m in comparison.methods.values() if m.source == published.name]
            domains = set().union(*theirs)
            for name, method in comparison.methods.items():
                tasks = [t for t in _shown_tasks([comparison], name) if split_environment(t)[1] in domains]
                found = {t: set_differences(phase, method, t, published, expected) for t in tasks if method.is_own}
                if any(found.values()):
                    result[name, published.name] = _gathered(found)
    return result


def _shown_tasks(comparisons: Sequence[Comparison], name: str) -> list[str]:
    """Return the environments on which a method has scores."""
    phases = [phase for comparison in comparisons for phase in comparison.phases.values()]
    return sorted({task for phase in phases for task, cells in phase.per_task.items() if name in cells})


def _gathered(phrases: Mapping[str, Sequence[str]]) -> str:
    """Return the phrases of environments, each once, with the environments that it is about."""
    every = dict.fromkeys(phrase for found in phrases.values() for phrase in found)
    where = {phrase: tuple(place for place, found in phrases.items() if phrase in found) for phrase in every}
    everywhere = f"all {len(phrases)} environments"
    return "; ".join(
        f"{', '.join(shortened(found, 12))} ({everywhere if 1 < len(places) == len(phrases) else _listed(places)})"
        for places, found in _by_value(where).items()
    )


def _by_value(found: Mapping[str, Value]) -> dict[Value, list[str]]:
    """Return value -> the keys that have it."""
    result: dict[Value, list[str]] = {}
    for key, value in found.items():
        result.setdefault(value, []).append(key)
    return result


def _listed(environments: Sequence[str]) -> str:
    """Return environments in words, several tasks of a domain together."""
    places = [
        short_name(names[0]) if len(names) == 1 else f"{len(names)} tasks of {domain}"
        for domain, names in by_domain(environments).items()
    ]
    return ", ".join(shortened(places))
