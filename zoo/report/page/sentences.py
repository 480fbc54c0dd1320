"""The sentences of a report: the verdict of each phase, and warnings before trusting a number.

The verdict is about the focus, or without one about the leading method of each phase. `zoo.report.significance`
decides; this module words it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from packaging.version import Version

from agents.common.validation import count
from zoo.report.comparison import (
    ComparedMethod,
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
from zoo.report.table_entries import TableEntry, digits_of, number_entry, range_text
from zoo.report.tables import scored_otherwise
from zoo.runs.folder import RunFolder, UnreadableRun, short_name
from zoo.runs.intervals import interval_of_successes
from zoo.runs.protocol import shortened, show
from zoo.runs.read import RunTables, split_environment
from zoo.runs.scores import SUCCESS, ScoreKind

REWARDS_CHANGED = Version("1.2.0")
"""Version of OGBench since which single-task rewards come at another step (ogbench#34)."""
_SHOULD_AGREE = {
    "success_return": "count a success from different returns on",
    "played": "were evaluated with different arguments of the environment",
    "dataset_fingerprint": "were trained on different data",
}
"""Setting that runs on an environment should share -> clause of the warning where they do not."""
_WORDS = {
    Outcome.BETTER: "better by more than {points} points than",
    Outcome.AHEAD: "ahead of",
    Outcome.SLIGHTLY_AHEAD: "ahead by less than {points} points of",
    Outcome.EQUAL: "equal to",
    Outcome.SLIGHTLY_BEHIND: "less than {points} points behind",
    Outcome.BEHIND: "behind",
    Outcome.WORSE: "worse by more than {points} points than",
    Outcome.BOTH_SOLVE: "undecided, since both solve the tasks, against",
    Outcome.BOTH_FAIL: "undecided, since both fail, against",
    Outcome.UNDECIDED: "undecided against",
    Outcome.UNTESTED: "not to be decided, since a task has one seed or all seeds agree, against",
    Outcome.NOT_COMPARABLE: "not comparable yet, since own runs are shorter, with",
}


def verdict_sentences(comparisons: Sequence[Comparison]) -> list[tuple[str, str]]:
    """Return the answer for the first screen, for each kind of scores and phase: the verdict, and what it rests on."""
    verdicts = []
    for comparison in comparisons:
        for phase in comparison.phases.values():
            if phase.improvements or phase.aggregates:
                verdicts.append(_sentences(comparison, phase))
    return verdicts


def _sentences(comparison: Comparison, phase: Phase) -> tuple[str, str]:
    """Return the verdict of one phase, and what it rests on: nothing where nothing can be compared."""
    means = phase.means
    # sorted: of equal means the same one leads, whatever the order of the methods
    subject = phase.decision.subject or max(sorted(means), key=means.__getitem__)
    place = f"{phase.name}{comparison.kind.title}, {count(len(phase.tasks), 'task')}"
    if comparison.kind.limits == FRACTION and len(means) > 1 and not any(means.values()):
        return f"No method succeeds {place}.", ""
    lacking = _not_comparable(comparison, phase, subject)
    if lacking:
        return lacking, ""
    # a focus need not lead, and a method alone leads nobody
    leads = subject != comparison.focus and len(means) != 1
    opening = f"{comparison.methods[subject].title}{' leads' if leads else ','} {place}:"
    if subject in means:
        opening += f" {_mean(comparison, phase, subject)}."
    verdict = [opening, *_verdict(comparison, phase, subject)]
    return " ".join(verdict), " ".join(_basis(comparison, phase))


def _verdict(comparison: Comparison, phase: Phase, subject: str) -> Iterator[str]:
    """Yield how the subject of a phase compares with the others."""
    kind = comparison.kind
    means = phase.means
    rival = phase.decision.rival
    if rival is None:
        if len(means) > 1:
            yield "Means without single runs decide nothing."
        return
    yield _outcomes(comparison, phase.decision.verdicts)
    against = f"Against {comparison.methods[rival.other].title}"
    difference = rival.improvement.difference
    if difference is None:
        chance = number_entry(rival.improvement.probability, 1, 2).plain
        yield f"{against}: probability of improvement {chance}."
    else:
        entry = number_entry(difference, kind.scale, digits_of(kind, [difference]))
        sign = "+" if difference.point > 0 else ""
        unit = "points" if kind is SUCCESS else kind.unit
        tasks = count(len(phase.tasks), "task")
        text = f"{against}: {sign}{entry.plain} {unit} on {'this' if len(phase.tasks) == 1 else 'these'} {tasks}"
        if rival.over_tasks is not None:
            text += f", {number_entry(rival.over_tasks, kind.scale, 1).detail} over new tasks"
        yield f"{text}."
    if rival.outcome in (Outcome.UNDECIDED, Outcome.UNTESTED):
        plan = seed_plan(comparison, phase, (subject, rival.other))
        if plan is None:
            yield f"It takes at least {MIN_SEEDS} seeds to decide that."
        elif plan.half_width >= comparison.resolve:  # else there are enough
            seeds = f"about {plan.seeds:,}" if plan.seeds else f"more than {MAX_PLANNED_SEEDS:,}"
            yield f"It takes {seeds} seeds of each to resolve {100 * comparison.resolve:g} points."
    untested = [
        comparison.methods[name].title
        for name, mean in means.items()
        if mean > means.get(subject, math.inf) and (subject, name) not in phase.improvements
    ]
    if untested:
        yield f"Higher means without single runs cannot be tested: {_enumerated(untested)}."


def _basis(comparison: Comparison, phase: Phase) -> Iterator[str]:
    """Yield what a verdict rests on: counts and tests, and what leaving out one domain changes."""
    decision = phase.decision
    rival = decision.rival
    if rival is None:
        return
    chance = number_entry(rival.improvement.probability, 1, 2).plain
    tasks = rival.improvement.tasks
    yield (
        f"Against {comparison.methods[rival.other].title}: probability of improvement {chance}; tasks won {tasks.won}, "
        f"lost {tasks.lost}, undecided {tasks.undecided}."
    )
    if decision.tested:
        yield f"Tested by {decision.tested}."
    # what leaving out a domain changes can only be told of tested verdicts on several domains
    is_tested = all(verdict.p_value is not None for verdict in decision.verdicts)
    if is_tested and phase.aggregates and len(by_domain(phase.tasks)) > 1:
        fragile = changes(comparison, phase)
        remainder = ""
        if len(fragile) > 2:
            remainder = f"; and {len(fragile) - 2} more"
        if fragile:
            yield f"Fragile: {'; '.join(fragile[:2])}{remainder}."
        else:
            yield "Leaving out any one domain changes nothing that is clear."


def _score(kind: ScoreKind, estimate: Estimate) -> TableEntry:
    """Return a score as a table has it, success in per cent."""
    entry = number_entry(estimate, kind.scale, digits_of(kind, [estimate]))
    if kind is SUCCESS:
        return replace(entry, text=f"{entry.text}%")
    return entry


def _mean(comparison: Comparison, phase: Phase, subject: str) -> str:
    """Return the mean of a method in words; that of a single run with the interval of its episodes."""
    kind = comparison.kind
    cell = phase.aggregates[subject]
    mean = cell.mean
    unit = " success" if kind is SUCCESS else ""
    episodes = comparison.methods[subject].protocol_on(phase.tasks[0]).get("eval_episodes")
    is_single = cell.tasks == 1 == cell.seeds[1]
    # runs of several numbers of episodes have them as text
    if kind.limits != FRACTION or not is_single or not isinstance(episodes, int):
        return f"{_score(kind, mean).plain}{unit}"
    successes = round(mean.point * episodes)
    wilson = interval_of_successes(successes, episodes)
    score = _score(kind, replace(mean, interval=wilson)).plain
    return (
        f"{successes} of {episodes} episodes of one seed, {score}{unit} (95% Wilson interval of such episodes, not of "
        "other seeds)"
    )


def _not_comparable(comparison: Comparison, phase: Phase, subject: str) -> str:
    """Return which steps an own method lacks beside its published scores, or else the best; empty if none."""
    ours = comparison.methods[subject]
    means = phase.means
    published = [comparison.methods[name] for name in means if not comparison.methods[name].is_own]
    if subject not in means or not published:
        return ""
    # the scores that the user's runs are to reproduce, else the best ones
    closest = max(published, key=lambda m: (m.algorithm == ours.algorithm, means[m.name]))
    short = steps_short(phase, ours, closest)
    if short is None:
        return ""
    published_score = _score(comparison.kind, phase.aggregates[closest.name].mean)
    own_score = _score(comparison.kind, phase.aggregates[subject].mean)
    return (
        f"Not comparable yet: {short[0]:,} of {short[1]:,} {phase.name} steps. {closest.title} published "
        f"{published_score.text}, yours {own_score.text}."
    )


def _outcomes(comparison: Comparison, verdicts: Sequence[Verdict]) -> str:
    """Return which methods have which outcome, as a sentence."""
    clauses = []
    points = f"{100 * comparison.resolve:g}"
    for outcome, words in _WORDS.items():
        names = [comparison.methods[v.other].title for v in verdicts if v.outcome == outcome]
        # scores without a common scale are not better by any number of points
        if not comparison.kind.is_comparable and outcome in (Outcome.BETTER, Outcome.WORSE):
            words = f"{outcome} than"
        if names:
            clauses.append(f"{words.format(points=points)} {_enumerated(names)}")
    verdict = f"{'; '.join(clauses)}."
    return verdict[0].upper() + verdict[1:]  # `capitalize` would make names of methods small


# -- warnings ---------------------------------------------------------------------------------------------------------


def warnings(
    comparisons: Sequence[Comparison],
    own_runs: RunTables,
    sets: Sequence[PublishedSet] = (),
) -> Iterator[str]:
    """Yield warnings that a reader needs before trusting a number.

    :param sets: the published sets that were asked for.
    """
    methods = comparisons[0].methods
    places = {name: _shown_tasks(comparisons, name) for name in methods}
    runs = own_runs.runs
    shown = runs[runs["problem"].isna() & runs["method"].isin(methods)]
    shown = shown[shown["environment"].isin(set().union(*places.values()))]
    explained = set()  # methods whose departures later warnings leave out
    for name, published, differences in _differences_from_sets(comparisons, sets):
        explained.add(name)
        yield f"{name} was not run as {published} was: {differences}."
    skipped = own_runs.skipped()
    if skipped:
        yield (
            f"{len(skipped)} of {len(runs)} run folders did not finish, or do not count; each is listed with its "
            "reason."
        )
    yield from describe_tallies({name: method.tally() for name, method in methods.items()})
    yield from _warnings_of_sets(shown, sets)
    yield from _departures(methods.values(), places, explained)
    yield from _never_reported(shown)
    yield from _unlike_runs(shown)
    for scoring, names in scored_otherwise(comparisons[0], methods).items():
        yield f"Scoring of {_enumerated(names)}: {scoring}. Other scores are those of the last evaluation."
    for comparison in comparisons:
        for phase in comparison.phases.values():
            for text in _warnings_of_phase(comparison, phase, explained):
                yield f"{phase.name}{comparison.kind.title}: {text}"
    yield from _few_seeds(comparisons)


def _departures(
    methods: Iterable[ComparedMethod],
    places: Mapping[str, Sequence[str]],
    explained: Collection[str],
) -> Iterator[str]:
    """Yield how own methods depart from the protocol of their profile; methods that do so alike share a sentence."""
    texts = {}
    own_methods = [method for method in methods if method.is_own]
    for method in own_methods:
        departures = {}
        for task in places[method.name]:
            values = method.departures.get(task, {})
            # steps first: they say most
            names = sorted(values, key=lambda name: not name.endswith("_steps"))
            departures[task] = [_readable(name, *values[name]) for name in names]
        if method.name in explained or not any(departures.values()):
            continue
        opening = "departs from the protocol of its profile:"
        if any(method.protocols[task]["profile"] == "quick" for task in places[method.name]):
            opening = "trained with `--quick`:"
        texts[method.name] = f"{opening} {_gathered(departures)}."
    for text, names in by_value(texts).items():
        if len(own_methods) == 1:  # whose name stands above
            yield text[0].upper() + text[1:]
        else:
            yield f"{_enumerated(names)} {text}"


def _readable(name: str, value: Any, expected: Any) -> str:
    """Return a departure from a protocol as a phrase, e.g. ``3,000 of 1,000,000 offline steps``."""
    if name in ("offline_steps", "online_steps"):
        return f"{show(value)} of {show(expected)} {name.replace('_', ' ')}"
    if expected is None:  # the protocol does not set it
        return f"{name} {show(value)}"
    return f"{name} {show(value)} instead of {show(expected)}"


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
        coverage = sorted(phase.coverage.items())
        texts = shortened(f"{name} has {_listed(tasks)}" for name, tasks in coverage)
        yield f"no aggregate is possible, because no environment was run by all methods: {'; '.join(texts)}."
    elif phase.left_out:
        lacking = by_value({task: tuple(names) for task, names in phase.left_out.items()})
        missing = _with_methods((_listed(tasks), names) for names, tasks in lacking.items())
        yield f"aggregates leave out tasks that some methods lack: {missing}."
    without = sorted(set(phase.coverage) - {*phase.aggregates, *phase.strays})
    if phase.aggregates and without:
        yield f"no aggregate of {_enumerated(without)}: published are means of whole domains, not of single tasks."
    # a set may have been asked for and lack this phase
    sources = {name: m.source for name, m in comparison.methods.items() if not m.is_own}
    absent = sorted({*sources.values()} - {sources.get(name) for name in phase.coverage})
    if absent and comparison.kind is SUCCESS:
        yield f"no scores of {', '.join(absent)}."
    if not comparison.kind.is_comparable and len(phase.tasks) > 1:
        yield (
            f"returns of {len(phase.tasks)} environments are not averaged, because each has its own scale; "
            "--reference-scores puts them on a common one."
        )
    steps = {}
    for name, step_range in phase.step_ranges.items():
        if name not in explained:
            steps[name] = range_text(step_range)
    by_steps = by_value(steps)
    if len(by_steps) > 1:
        yield f"methods were scored at different steps: {_with_methods(by_steps.items())}."


def _never_reported(runs: pd.DataFrame) -> Iterator[str]:
    """Yield which runs have no success because only others report any on their environment."""
    silent = runs[runs["never_reported"].eq(True)]
    for environment, group in silent.groupby("environment"):
        texts = []
        for name, seeds in group.groupby("method")["seed"]:
            numbers = seeds.sort_values().map("{:g}".format)
            texts.append(f"{name} (seeds {', '.join(numbers)})")
        yield (
            f"{short_name(environment)}: no episode of {'; '.join(shortened(texts))} reported a success, while others "
            "did; each counts as a failure."
        )


def _unlike_runs(runs: pd.DataFrame) -> Iterator[str]:
    """Yield where runs that stand side by side were scored, played or trained on something else."""
    # evaluations play with the arguments of training unless they have their own
    played = [s.get("eval_env_kwargs") or s.get("env_kwargs") or "none" for s in runs["settings"]]
    runs = runs.assign(played=played)
    for column, clause in _SHOULD_AGREE.items():
        # runs of older releases do not state it, and are compared with none
        stated = runs.dropna(subset=column).sort_values(["environment", column, "method"])
        for environment, part in stated.groupby("environment"):
            methods_by_value = part.groupby(column)["method"].unique()
            if len(methods_by_value) > 1:
                texts = _with_methods(methods_by_value.items())
                yield f"{short_name(environment)}: runs {clause}: {texts}. That alone may set their scores apart."
    for name, codes in runs.groupby("method")["code"].nunique().items():
        if codes > 1:
            yield f"{name}: runs were trained by {codes} versions of the algorithm's file."


def _warnings_of_sets(runs: pd.DataFrame, sets: Sequence[PublishedSet]) -> Iterator[str]:
    """Yield which sets lack single runs, and whether rewards of scores came at different steps of an episode."""
    versions = [(published.name, published.ogbench) for published in sets]
    for name, run in sorted(zip(runs["method"], runs["run"], strict=True)):
        with contextlib.suppress(UnreadableRun):  # old runs may have none
            packages = RunFolder(Path(run)).read_versions()["packages"]
            versions.append((name, packages.get("ogbench")))
    older = []
    newer = []
    for name, version in dict.fromkeys(versions):  # once for all seeds of a method
        if version and Version(version) < REWARDS_CHANGED:
            older.append(f"{name} ({version})")
        elif version:
            newer.append(f"{name} ({version})")
    if older and newer:
        yield (
            f"OGBench {REWARDS_CHANGED} changed when rewards come, so scores from before and after it may differ for "
            f"that alone: {_enumerated(older)}, and {_enumerated(newer)}."
        )
    for published in sets:
        if not published.has_runs:
            yield (
                f"{published.name}: means only, since single runs are not published. So its methods have no IQM, "
                "profile, curve, probability of improvement or verdict here."
            )


def _few_seeds(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Yield which methods have too few seeds."""
    seeds: dict[str, int] = {}
    for phase in phases_of(comparisons):
        tables = [phase.aggregates]
        if not phase.aggregates:  # where nothing is averaged, e.g. returns, each task counts
            tables = [*phase.per_task.values()]
        for cells in tables:
            for name, cell in cells.items():
                # published means without an interval have no seeds that could be too few
                if comparisons[0].methods[name].is_own or cell.mean.interval is not None:
                    seeds[name] = min(seeds.get(name, cell.seeds[0]), cell.seeds[0])
    few = [f"{name} ({number})" for name, number in seeds.items() if number < MIN_SEEDS]
    if few and max(seeds.values()) == 1:
        yield (
            f"One seed of {_enumerated(seeds)} says nothing about other seeds: train at least {MIN_SEEDS}."
        )
    elif few:
        yield (
            f"Fewer than {MIN_SEEDS} seeds: {', '.join(few)}. Means have t-intervals, with one seed none; IQM and "
            "median have no interval, and those of profiles and probabilities are too narrow."
        )


def _differences_from_sets(
    comparisons: Sequence[Comparison], sets: Sequence[PublishedSet]
) -> Iterator[tuple[str, str, str]]:
    """Yield own methods, and where they were not run as the published scores of a set beside them were."""
    for comparison in comparisons:
        if comparison.kind is not SUCCESS:
            continue
        phase = list(comparison.phases)[-1]  # offline scores do not depend on online steps
        methods = comparison.methods.values()
        for published in sets:
            protocols = [m.protocols for m in methods if m.source == published.name]
            domains = set().union(*protocols)
            for method in methods:
                if not method.is_own:
                    continue
                differences = {}
                for task in _shown_tasks([comparison], method.name):
                    if split_environment(task)[1] in domains:
                        differences[task] = set_differences(phase, method, task, published)
                if any(differences.values()):
                    yield method.name, published.name, _gathered(differences)


def _shown_tasks(comparisons: Sequence[Comparison], name: str) -> list[str]:
    """Return the environments on which a method has scores."""
    tasks = set()
    for phase in phases_of(comparisons):
        for task, cells in phase.per_task.items():
            if name in cells:
                tasks.add(task)
    return sorted(tasks)


def _gathered(phrases: Mapping[str, Sequence[str]]) -> str:
    """Return the phrases of environments, each once, with the environments that it is about."""
    where: dict[str, tuple[str, ...]] = {}
    for place, phrases_there in phrases.items():
        for phrase in phrases_there:
            where[phrase] = (*where.get(phrase, ()), place)
    texts = []
    for places, alike in by_value(where).items():
        listed = _listed(places)
        if 1 < len(places) == len(phrases):
            # a list of all environments would say less than that it is all of them
            listed = f"all {len(phrases)} environments"
        texts.append(f"{', '.join(shortened(alike, 12))} ({listed})")
    return "; ".join(texts)


def _with_methods(methods_by_text: Iterable[tuple[Any, Iterable[str]]]) -> str:
    """Return texts, each with the methods that it is about."""
    return "; ".join(f"{text} ({_enumerated(names)})" for text, names in methods_by_text)


def _enumerated(names: Iterable[str]) -> str:
    return ", ".join(shortened(names))


def _listed(environments: Iterable[str]) -> str:
    return _enumerated(places_of(environments))
