"""The sentences of a report: the verdict of each phase, and what a reader must know before believing a number.

The verdict is about the focus, or without one about the leading method of each phase. `zoo.report.significance`
decides; this module words it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from packaging.version import Version

from zoo.report.comparison import (
    Comparison,
    Outcome,
    Phase,
    Verdict,
    by_domain,
    by_value,
    phases_of,
    places_of,
)
from zoo.report.failed_runs import describe_tallies
from zoo.report.published_scores import PublishedSet
from zoo.report.reproduction import set_differences
from zoo.report.significance import changes, seed_plan, steps_short
from zoo.report.statistics.estimates import MIN_SEEDS, Estimate
from zoo.report.statistics.means import FRACTION, MAX_PLANNED_SEEDS
from zoo.report.tables import TableEntry, digits_of, number_entry, range_text, scored_otherwise
from zoo.runs.folder import RunFolder, UnreadableRun, short_name
from zoo.runs.protocol import count, shortened
from zoo.runs.read import RunTables, split_environment
from zoo.runs.scores import SUCCESS, ScoreKind

REWARDS_CHANGED = Version("1.2.0")
"""Version of OGBench since which single-task rewards come at another step (ogbench#34)."""
_NOT_ALIKE = {
    "success_return": "count a success from different returns on",
    "played": "were evaluated with different arguments of the environment",
    "dataset_fingerprint": "were trained on different data",
}
"""What the runs of a comparison should have in common on an environment -> what is said where they do not."""
_WORDS: Mapping[str, str] = {
    Outcome.BETTER: "better by more than {points} points than",
    Outcome.AHEAD: "ahead of",
    Outcome.SLIGHTLY_AHEAD: "ahead by less than {points} points of",
    Outcome.EQUAL: "equal to",
    Outcome.SLIGHTLY_BEHIND: "less than {points} points behind",
    Outcome.BEHIND: "behind",
    Outcome.WORSE: "worse by more than {points} points than",
    Outcome.BOTH_SOLVE: "undecided, since both solve the tasks, against",
    Outcome.BOTH_FAIL: "undecided, since both fail, against",
    Outcome.UNCLEAR: "undecided against",
    Outcome.UNTESTED: "not to be decided, since a task has one seed or all seeds agree, against",
    Outcome.NOT_COMPARABLE: "not comparable yet, since own runs are shorter, with",
}


def verdict_sentences(comparisons: Sequence[Comparison]) -> list[tuple[str, str]]:
    """Return the answer for the first screen, for each kind of scores and phase: the verdict, and what it rests on."""
    return [
        _sentences(comparison, phase)
        for comparison in comparisons
        for phase in comparison.phases.values()
        if phase.improvements or phase.aggregates
    ]


def _sentences(comparison: Comparison, phase: Phase) -> tuple[str, str]:
    """Return the verdict of one phase in words, and what it rests on: nothing where nothing can be compared."""
    means = phase.means
    decision = phase.decision
    subject = decision.subject or max(sorted(means), key=lambda name: means[name])
    if comparison.kind.limits == FRACTION and len(means) > 1 and not any(means.values()):
        return f"No method succeeds {_place(comparison, phase)}.", ""
    lacking = _not_comparable(comparison, phase, subject)
    if lacking:
        return lacking, ""
    sentences = [_opening(comparison, phase, subject)]
    if decision.rival is None:
        if len(means) > 1:
            sentences.append("Means without single runs decide nothing.")
        return " ".join(sentences), ""
    against_rival, details = _rival(comparison, phase, decision.rival)
    sentences += [_outcomes(comparison, decision.verdicts), against_rival]
    untested = _untested_above(comparison, phase, subject)
    if untested:
        names = ", ".join(shortened(untested))
        sentences.append(f"Higher means without single runs cannot be tested: {names}.")
    if decision.tested:
        details += f" Tested by {decision.tested}."
    if _can_be_fragile(phase):
        details += f" {_fragility(comparison, phase)}"
    return " ".join(sentences), details


def _place(comparison: Comparison, phase: Phase) -> str:
    """Return the phase, the kind of scores and the number of tasks in words."""
    return f"{phase.name}{comparison.kind.title}, {count(len(phase.tasks), 'task')}"


def _opening(comparison: Comparison, phase: Phase, subject: str) -> str:
    """Return which method the verdict is about, where, and its score."""
    kind = comparison.kind
    leads = subject != comparison.focus and len(phase.means) != 1
    verb = " leads" if leads else ","
    text = f"{comparison.methods[subject].title}{verb} {_place(comparison, phase)}:"
    if subject not in phase.means:
        return text
    unit = " success" if kind is SUCCESS else ""
    return f"{text} {_score(kind, phase.aggregates[subject].mean).plain}{unit}."


def _untested_above(comparison: Comparison, phase: Phase, subject: str) -> list[str]:
    """Return the methods with a higher mean than the subject whose runs are not published, so nothing tests them."""
    if subject not in phase.means:
        return []
    limit = phase.means[subject]
    higher = [name for name, mean in phase.means.items() if mean > limit]
    return [
        comparison.methods[name].title
        for name in higher
        if (subject, name) not in phase.improvements
    ]


def _can_be_fragile(phase: Phase) -> bool:
    """Return whether there are several domains of which one can be left out, and all verdicts are tested."""
    has_domains = len(by_domain(phase.tasks)) > 1 and bool(phase.spreads)
    return has_domains and all(verdict.p_value is not None for verdict in phase.decision.verdicts)


def _fragility(comparison: Comparison, phase: Phase) -> str:
    """Return what leaving out one domain changes, as a sentence."""
    outcomes = changes(comparison, phase)
    if not outcomes:
        return "Leaving out any one domain changes nothing that is clear."
    remainder = f"; and {len(outcomes) - 2} more" if len(outcomes) > 2 else ""
    return f"Fragile: {'; '.join(outcomes[:2])}{remainder}."


def _score(kind: ScoreKind, estimate: Estimate) -> TableEntry:
    """Return a score as a table has it, success in per cent."""
    entry = number_entry(estimate, kind.scale, digits_of(kind, [estimate]))
    return replace(entry, text=f"{entry.text}%") if kind is SUCCESS else entry


def _not_comparable(comparison: Comparison, phase: Phase, subject: str) -> str:
    """Return which steps an own method lacks beside its published scores, or else the best; empty if none."""
    ours = comparison.methods[subject]
    cells = phase.aggregates
    published_methods = [
        comparison.methods[name] for name in cells if not comparison.methods[name].is_own
    ]
    if subject not in cells or not published_methods:
        return ""
    closest = max(
        published_methods,
        key=lambda method: (method.algorithm == ours.algorithm, cells[method.name].mean.point),
    )
    if (short := steps_short(phase, ours, closest)) is None:
        return ""
    published, yours = (
        _score(comparison.kind, cells[name].mean).text for name in (closest.name, subject)
    )
    steps = f"{short[0]:,} of {short[1]:,} {phase.name} steps"
    return f"Not comparable yet: {steps}. {closest.title} published {published}, yours {yours}."


def _outcomes(comparison: Comparison, verdicts: Sequence[Verdict]) -> str:
    """Return which methods have which outcome, as a sentence."""
    clauses = []
    points = f"{100 * comparison.resolve:g}"
    for outcome, words in _WORDS.items():
        names = [comparison.methods[v.other].title for v in verdicts if v.outcome == outcome]
        if not comparison.kind.is_comparable and outcome in (Outcome.BETTER, Outcome.WORSE):
            words = f"{outcome} than"
        if names:
            clauses.append(f"{words.format(points=points)} {', '.join(shortened(names))}")
    verdict = f"{'; '.join(clauses)}."
    return verdict[0].upper() + verdict[1:]


def _rival(comparison: Comparison, phase: Phase, rival: Verdict) -> tuple[str, str]:
    """Return how the subject compares with its rival, and details."""
    kind = comparison.kind
    pair = rival.improvement
    record = rival.improvement.tasks
    against = f"Against {comparison.methods[rival.other].title}"
    chance = number_entry(pair.probability, 1, 2).plain
    details = f"{against}: probability of improvement {chance}; tasks won {record.won}, lost {record.lost}, "
    details += f"undecided {record.undecided}."
    text = f"{against}: probability of improvement {chance}."
    if pair.difference is not None:
        entry = number_entry(pair.difference, kind.scale, digits_of(kind, [pair.difference]))
        sign = "+" if pair.difference.point > 0 else ""
        text = f"{against}: {sign}{entry.plain} {'points' if kind is SUCCESS else kind.unit}."
    if rival.outcome not in (Outcome.UNCLEAR, Outcome.UNTESTED):
        return text, details
    plan = seed_plan(comparison, phase, (str(phase.decision.subject), rival.other))
    if plan is None:
        text += f" It takes at least {MIN_SEEDS} seeds to decide that."
    elif plan.half_width >= comparison.resolve:  # else there are enough
        seeds = (
            f"more than {MAX_PLANNED_SEEDS:,}" if plan.seeds is None else f"about {plan.seeds:,}"
        )
        text += f" It takes {seeds} seeds of each to resolve {100 * comparison.resolve:g} points."
    return text, details


# -- what a reader must know before believing a number ---------------------------------------------------------------


def warnings(
    comparisons: Sequence[Comparison],
    own_runs: RunTables,
    sets: Sequence[PublishedSet] = (),
    failed: str = "last",
) -> list[str]:
    """Return sentences on what a reader must know before believing a number.

    :param sets: the published sets that were asked for.
    :param failed: what failed runs count for, see `zoo.report.failed_runs.failed_scores`.
    """
    methods = comparisons[0].methods
    skipped = own_runs.skipped()
    places = {name: _shown_tasks(comparisons, name) for name in methods}
    shown = own_runs.runs[
        own_runs.runs["problem"].isna() & own_runs.runs["method"].isin(list(methods))
    ]
    shown = shown[shown["environment"].isin({task for tasks in places.values() for task in tasks})]
    apart = _differences_from_sets(comparisons, sets)
    explained = {name for name, _ in apart}
    sentences = [
        f"{name} was not run as {published} was: {differences}."
        for (name, published), differences in apart.items()
    ]
    if skipped:
        few = f"{len(skipped)} of {len(own_runs.runs)} run folders did not finish, or do not count"
        sentences.append(f"{few}; each is listed with its reason.")
    sentences += describe_tallies(
        {name: method.tally() for name, method in methods.items()}, failed
    )
    sentences += _rewards_of_other_versions(shown, sets)
    sentences += [
        f"{published.name}: means only, since single runs are not published. So its methods have no IQM, profile, "
        "curve, probability of improvement or verdict here."
        for published in sets
        if published.runs is None
    ]
    for name, method in methods.items():
        departures = {task: method.departures.get(task, ()) for task in places[name]}
        if name not in explained and any(departures.values()):
            sentences.append(
                f"{name} departs from the protocol of its profile: {_gathered(departures)}."
            )
    sentences += _never_reported(shown)
    sentences += _told_apart(shown)
    for name, codes in shown.dropna(subset="code").groupby("method")["code"].nunique().items():
        if codes > 1:
            sentences.append(
                f"{name}: runs were trained by {codes} versions of the algorithm's file."
            )
    for scoring, names in scored_otherwise(comparisons[0], methods).items():
        text = f"Scoring of {', '.join(shortened(names))}: {scoring}"
        sentences.append(f"{text}. Other scores are those of the last evaluation.")
    for comparison in comparisons:
        for phase in comparison.phases.values():
            where = f"{phase.name}{comparison.kind.title}"
            sentences += [
                f"{where}: {text}" for text in _warnings_of_phase(comparison, phase, explained)
            ]
    return [*sentences, *_warnings_of_seeds(comparisons)]


def _warnings_of_phase(
    comparison: Comparison, phase: Phase, explained: Collection[str]
) -> Iterator[str]:
    """Yield what limits the comparison in one phase.

    :param explained: methods of which it is told already that they were run otherwise.
    """
    for name in phase.strays:
        has = f"{name} has only {_listed(phase.coverage[name])}"
        yield f"{has}; aggregates leave it out, so that the others keep their {phase.tasks_label}."
    if not phase.tasks:
        who = shortened(
            f"{name} has {_listed(has)}" for name, has in sorted(phase.coverage.items())
        )
        yield f"no aggregate is possible, because no environment was run by all methods: {'; '.join(who)}."
    elif phase.left_out:
        lacking = by_value({task: tuple(names) for task, names in phase.left_out.items()})
        missing = _with_methods((_listed(tasks), names) for names, tasks in lacking.items())
        yield f"aggregates leave out tasks that some methods lack: {missing}."
    without = [
        name for name in sorted(phase.coverage) if name not in (*phase.aggregates, *phase.strays)
    ]
    if phase.aggregates and without:
        why = "published are means of whole domains, not of single tasks"
        yield f"no aggregate of {', '.join(shortened(without))}: {why}."
    sources = {
        name: method.source for name, method in comparison.methods.items() if not method.is_own
    }
    absent = sorted({*sources.values()} - {sources.get(name) for name in phase.coverage})
    if absent and comparison.kind is SUCCESS:
        yield f"no scores of {', '.join(absent)}."
    if not comparison.kind.is_comparable and len(phase.tasks) > 1:
        yield (
            f"returns of {len(phase.tasks)} environments are not averaged, because each has its own scale; "
            "--reference-scores puts them on a common one."
        )
    by_steps = by_value(
        {
            name: range_text(steps)
            for name, steps in phase.step_ranges.items()
            if name not in explained
        }
    )
    if len(by_steps) > 1:
        yield f"methods were scored at different steps: {_with_methods(by_steps.items())}."


def _never_reported(runs: pd.DataFrame) -> Iterator[str]:
    """Yield which runs have no success because only others report any on their environment."""
    silent = runs[runs["never_reported"].eq(True)]
    for environment, group in silent.groupby("environment"):
        by_method = group.groupby("method")["seed"].agg(
            lambda seeds: ", ".join(f"{seed:g}" for seed in sorted(seeds))
        )
        texts = shortened(f"{name} (seeds {seeds})" for name, seeds in by_method.items())
        yield (
            f"{short_name(environment)}: no episode of {'; '.join(texts)} reported a success, while others did; each "
            "counts as a failure."
        )


def _told_apart(runs: pd.DataFrame) -> Iterator[str]:
    """Yield where runs that stand side by side were scored, played or trained on something else."""
    played = [
        methods_by_value.get("eval_env_kwargs") or methods_by_value.get("env_kwargs") or "none"
        for methods_by_value in runs["settings"]
    ]
    for column, clause in _NOT_ALIKE.items():
        stated = (
            runs.assign(played=played)
            .dropna(subset=column)
            .sort_values(["environment", column, "method"])
        )
        for environment, part in stated.groupby("environment"):
            methods_by_value = part.groupby(column)["method"].unique()
            if len(methods_by_value) > 1:
                texts = _with_methods(methods_by_value.items())
                yield f"{short_name(environment)}: runs {clause}: {texts}. That alone may set their scores apart."


def _rewards_of_other_versions(runs: pd.DataFrame, sets: Sequence[PublishedSet]) -> list[str]:
    """Return whether scores stand side by side whose rewards came at different steps of an episode."""
    versions = [(published.name, published.ogbench) for published in sets]
    for name, run in sorted(zip(runs["method"], runs["run"], strict=True)):
        with contextlib.suppress(UnreadableRun):  # old runs may have none
            packages = RunFolder(Path(run)).read_versions().get("packages") or {}
            versions.append((name, packages.get("ogbench")))
    parsed = [(name, Version(version)) for name, version in dict.fromkeys(versions) if version]
    older = [f"{name} ({version})" for name, version in parsed if version < REWARDS_CHANGED]
    newer = [f"{name} ({version})" for name, version in parsed if version >= REWARDS_CHANGED]
    if not older or not newer:
        return []
    return [
        f"OGBench {REWARDS_CHANGED} changed when rewards come, so scores from before and after it may differ for that "
        f"alone: {', '.join(shortened(older))}, and {', '.join(shortened(newer))}."
    ]


def _warnings_of_seeds(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Yield which methods have too few seeds."""
    seeds: dict[str, int] = {}
    for phase in phases_of(comparisons):
        for cells in [phase.aggregates] if phase.aggregates else phase.per_task.values():
            for name, cell in cells.items():
                if comparisons[0].methods[name].is_own or cell.mean.interval is not None:
                    seeds[name] = min(seeds.get(name, cell.seeds[0]), cell.seeds[0])
    if few := [f"{name} ({number})" for name, number in seeds.items() if number < MIN_SEEDS]:
        yield (
            f"Fewer than {MIN_SEEDS} seeds: {', '.join(few)}. Means have t-intervals, with one seed none; bootstrap "
            "intervals (IQM, median, profiles, probabilities) are too narrow."
        )


def _differences_from_sets(
    comparisons: Sequence[Comparison], sets: Sequence[PublishedSet]
) -> dict[tuple[str, str], str]:
    """Return (own method, set) -> where it was not run as the published scores beside it were."""
    result = {}
    for comparison in (differences for differences in comparisons if differences.kind is SUCCESS):
        phase = list(comparison.phases)[-1]
        for published in sets:
            published_protocols = [
                m.protocols for m in comparison.methods.values() if m.source == published.name
            ]
            domains = set().union(*published_protocols)
            for name, method in comparison.methods.items():
                tasks = [
                    t
                    for t in _shown_tasks([comparison], name)
                    if split_environment(t)[1] in domains
                ]
                differences = {
                    t: set_differences(phase, method, t, published) for t in tasks if method.is_own
                }
                if any(differences.values()):
                    result[name, published.name] = _gathered(differences)
    return result


def _shown_tasks(comparisons: Sequence[Comparison], name: str) -> list[str]:
    """Return the environments on which a method has scores."""
    tasks = set()
    for phase in phases_of(comparisons):
        tasks |= {task for task, cells in phase.per_task.items() if name in cells}
    return sorted(tasks)


def _gathered(phrases: Mapping[str, Sequence[str]]) -> str:
    """Return the phrases of environments, each once, with the environments that it is about."""
    where: dict[str, tuple[str, ...]] = {}
    for place, phrases_there in phrases.items():
        for phrase in phrases_there:
            where[phrase] = (*where.get(phrase, ()), place)
    texts = []
    for places, alike in by_value(where).items():
        is_everywhere = 1 < len(places) == len(phrases)
        listed = f"all {len(phrases)} environments" if is_everywhere else _listed(places)
        texts.append(f"{', '.join(shortened(alike, 12))} ({listed})")
    return "; ".join(texts)


def _with_methods(methods_by_text: Iterable[tuple[Any, Iterable[str]]]) -> str:
    """Return things, each with the methods that it is about."""
    return "; ".join(f"{text} ({', '.join(shortened(names))})" for text, names in methods_by_text)


def _listed(environments: Iterable[str]) -> str:
    return ", ".join(shortened(places_of(environments)))
