"""The sentences of a report: the verdict of each phase, and warnings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pandas as pd

from agents.common.validation import count
from zoo.datasets.names import split_environment
from zoo.report.comparison import (
    Comparison,
    Outcome,
    Phase,
    by_value,
    failed_runs,
    places_of,
    ranking,
)
from zoo.report.inputs import Inputs
from zoo.report.scores import suite_tasks
from zoo.report.statistics import MIN_SEEDS
from zoo.report.tables import digits_of, number_entry
from zoo.runs.folder import short_name
from zoo.runs.protocol import protocol_differences, show
from zoo.runs.scores import SUCCESS
from zoo.terminal.errors import shortened

_SHOULD_AGREE = {
    "success_rule": "what counts as success",
    "dataset_fingerprint": "their data",
    "mujoco": "versions of MuJoCo, which simulate the robot differently",
    "played": "the arguments or wrappers of the evaluation environment",
}
"""Column in which runs on the same environment should agree -> its description."""
_WORDS = {
    Outcome.BETTER: "better than",
    Outcome.EQUAL: "equal to",
    Outcome.WORSE: "worse than",
    Outcome.UNDECIDED: "undecided against",
    Outcome.NOT_COMPARABLE: "not comparable (because your runs are shorter) with",
}


def verdict_sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the verdict on each phase of each comparison, as text."""
    verdicts = []
    for comparison in comparisons:
        for phase in comparison.phases.values():
            if phase.decision.verdicts or phase.aggregates:
                verdicts.append(" ".join(_verdict(comparison, phase)))
    return verdicts


def _verdict(comparison: Comparison, phase: Phase) -> Iterator[str]:
    """Yield the verdict of one phase in sentences."""
    means = phase.means
    decision = phase.decision
    subject = decision.subject or ranking(phase)[0]
    opening = f"{subject}, {phase.name}{comparison.title}, {phase.tasks_label}"
    if subject in means:
        opening += f": {_mean(comparison, phase, subject)}"
    yield f"{opening}."
    if decision.verdicts:
        clauses = []
        for outcome, words in _WORDS.items():
            names = [v.method for v in decision.verdicts if v.outcome == outcome]
            if names:
                clauses.append(f"{words} {_enumerated(names)}")
        text = "; ".join(clauses)
        yield f"{text[0].upper()}{text[1:]}."  # `capitalize` would put names of methods in lower case
    if means.keys() - {subject, *(v.method for v in decision.verdicts)}:
        yield "Published means without scores of single runs cannot be tested."
    yield from _rival(comparison, phase)


def _rival(comparison: Comparison, phase: Phase) -> Iterator[str]:
    """Yield sentences that compare the subject with its rival."""
    kind = comparison.kind
    rival = phase.decision.rival
    if rival is None:
        return
    text = f"Against {rival.method}: "
    if rival.difference is not None:
        digits = digits_of(kind, [rival.difference])
        sign = "+" if rival.difference.point > 0 else ""
        unit = "points" if kind is SUCCESS else kind.unit
        text += f"{sign}{number_entry(rival.difference, kind.scale, digits).plain} {unit}; "
    yield f"{text}probability of improvement {number_entry(rival.probability, 1, 2).plain}."
    needed = phase.decision.seeds_needed
    if needed is not None:
        yield f"With this difference and spread, about {needed:,} seeds per method would decide the comparison."
    elif rival.p_value is None:
        yield "The two are not tested, because a task has only one seed or all its scores are equal."


def _mean(comparison: Comparison, phase: Phase, subject: str) -> str:
    """Return the mean of a method in words."""
    kind = comparison.kind
    cell = phase.aggregates[subject]
    entry = number_entry(cell.mean, kind.scale, digits_of(kind, [cell.mean]))
    if kind is not SUCCESS:
        return entry.plain
    return f"{entry.text}% {entry.detail}".strip() + " success"


# -- omitted scores of published sets ---------------------------------------------------------------------------------


def left_out_of_sets(
    inputs: Inputs, comparisons: Sequence[Comparison]
) -> dict[str, dict[str, list[str]]]:
    """Return published set -> its methods and tasks that were not compared; including them may change a verdict."""
    phases = chain.from_iterable(comparison.phases.values() for comparison in comparisons)
    tasks = set().union(*(phase.tasks for phase in phases))
    left_out = {}
    for published in inputs.sets:
        chosen = {m.algorithm for m in inputs.methods.values() if m.source == published.name}
        left_out[published.name] = {
            "methods": sorted({*published.scores.methods} - chosen),
            "tasks": sorted(suite_tasks(published.suite) - tasks),
        }
    return left_out


# -- warnings ---------------------------------------------------------------------------------------------------------


def warnings(inputs: Inputs, comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Yield warnings about the comparison."""
    runs = inputs.own_runs.runs
    for name, missing in left_out_of_sets(inputs, comparisons).items():
        if any(missing.values()):
            parts = [_enumerated(missing["methods"])]
            if missing["tasks"]:
                parts.append(count(len(missing["tasks"]), "task"))
            yield f"Not compared: {' and '.join(filter(None, parts))} of {name}."
    yield from _departures(inputs)
    skipped = inputs.own_runs.skipped()
    if skipped:  # the page lists these runs
        yield f"Unfinished or excluded run folders: {len(skipped)} of {len(runs)}."
    failed = failed_runs(inputs.methods)
    if failed:
        yield (
            f"Failed runs: {failed}. Their last evaluation is carried forward to the end; runs that were evaluated "
            "only at step 0 have no score."
        )
    yield from _unlike_runs(runs[runs["run"].isin(inputs.table["run"])])
    for comparison in comparisons:
        for phase in comparison.phases.values():
            for text in _left_out(comparison, phase):
                yield f"{phase.name}{comparison.title}: {text}"
    # last, because most reports contain it; the user cannot add seeds to published means
    yield from _few_seeds(inputs.evaluations)


def _departures(inputs: Inputs) -> Iterator[str]:
    """Yield how the user's methods depart from their profile's protocol and from published protocols."""
    shown_sets = {method.source for method in inputs.methods.values()}
    methods_by_text: dict[str, list[str]] = {}  # methods with the same departures share a sentence
    for name, method in inputs.methods.items():
        if not method.is_own:
            continue
        phrases = {}
        for task, departures in method.departures.items():
            phrases[task] = [_readable(*item) for item in departures.items()]
        if any(phrases.values()):
            is_quick = any(protocol["profile"] == "quick" for protocol in method.protocols.values())
            opening = (
                "trained with --quick" if is_quick else "differs from the protocol of its profile"
            )
            methods_by_text.setdefault(f"{opening}: {_gathered(phrases)}.", []).append(name)
        for published in inputs.sets:
            phrases = {}
            for task in sorted(suite_tasks(published.suite) & method.protocols.keys()):
                expected = published.protocol_of(method.algorithm, split_environment(task)[1])
                phrases[task] = protocol_differences(method.protocols[task], expected)
            if published.name in shown_sets and any(phrases.values()):
                text = f"differs from the protocol of {published.name}: {_gathered(phrases)}."
                methods_by_text.setdefault(text, []).append(name)
    for text, names in methods_by_text.items():
        yield f"{_enumerated(names)}: {text}"


def _readable(name: str, values: Sequence[Any]) -> str:
    """Return a departure from a protocol as a phrase, e.g. ``offline_steps 3,000 instead of 1,000,000``."""
    value, expected = values
    # `expected` is None if the protocol does not contain the setting
    ending = "" if expected is None else f" instead of {show(expected)}"
    return f"{name} {show(value)}{ending}"


def _left_out(comparison: Comparison, phase: Phase) -> Iterator[str]:
    """Yield the methods and tasks missing from the aggregates of a phase."""
    coverage = sorted(phase.coverage.items())
    left_out = {}
    for task in sorted(set().union(*phase.coverage.values()) - {*phase.tasks}):
        left_out[task] = tuple(name for name, tasks in coverage if task not in tasks)
    if not phase.tasks:
        texts = shortened(f"{name} has {_listed(tasks)}" for name, tasks in coverage)
        yield f"no aggregates, because no environment was run with every method: {'; '.join(texts)}."
    elif left_out:
        missing = [
            f"{_listed(tasks)} (no scores of {_enumerated(names)})"
            for names, tasks in by_value(left_out).items()
        ]
        yield f"aggregates cover only tasks on which all methods have scores; left out: {'; '.join(missing)}."
    without = sorted(set(phase.coverage) - set(phase.aggregates))
    if phase.aggregates and without:
        yield f"no aggregate for {_enumerated(without)}: only domain means were published."
    if not comparison.kind.is_comparable and len(phase.tasks) > 1:
        yield (
            f"returns are not averaged over {len(phase.tasks)} environments with different scales; normalise them with "
            "--reference-scores."
        )


def _unlike_runs(runs: pd.DataFrame) -> Iterator[str]:
    """Yield differences between compared runs in scoring, evaluation or data."""
    silent = runs[runs["never_reported"].eq(True)]
    for environment, group in silent.groupby("environment"):
        yield (
            f"{short_name(environment)}: no episode of {count(len(group), 'run')} of "
            f"{_enumerated(group['method'].unique())} reported success, although other runs did; these episodes count "
            "as failures."
        )
    for column, words in _SHOULD_AGREE.items():
        for environment, part in runs.groupby("environment"):
            if part[column].nunique() > 1:
                yield f"{short_name(environment)}: runs differ in {words}; this may explain differences in score."
    for name, codes in runs.groupby("method")["code"].nunique().items():
        if codes > 1:
            yield f"{name}: runs were trained with {codes} versions of the algorithm's source file."


def _few_seeds(evaluations: pd.DataFrame) -> Iterator[str]:
    """Yield a warning if some methods have few seeds on a task."""
    seeds_on = evaluations.groupby(["method", "environment", "phase", "kind"])["seed"].nunique()
    seeds = seeds_on.groupby("method").min()
    few = [f"{name} ({number})" for name, number in seeds.items() if number < MIN_SEEDS]
    if few:
        yield (
            f"Fewer than {MIN_SEEDS} seeds on a task: {', '.join(few)}. There, only means and differences have "
            "intervals; with one seed, nothing has an interval; with two seeds, intervals can be too narrow."
        )


def _gathered(phrases: Mapping[str, Collection[str]]) -> str:
    """Return a text with each phrase once, followed by its environments.

    :param phrases: environment -> its phrases.
    """
    environments_of: dict[str, tuple[str, ...]] = {}
    for environment, its_phrases in phrases.items():
        for phrase in its_phrases:
            environments_of[phrase] = (*environments_of.get(phrase, ()), environment)
    texts = []
    for environments, shared_phrases in by_value(environments_of).items():
        listed = _listed(environments)
        if 1 < len(environments) == len(phrases):
            # a number is shorter than a list of all environments
            listed = f"all {len(phrases)} environments"
        texts.append(f"{', '.join(shortened(shared_phrases, 12))} ({listed})")
    return "; ".join(texts)


def _enumerated(names: Iterable[str]) -> str:
    return ", ".join(shortened(names))


def _listed(environments: Iterable[str]) -> str:
    return _enumerated(places_of(environments))
