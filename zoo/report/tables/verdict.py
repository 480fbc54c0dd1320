"""The verdict on one method against each of the others: better or worse, by how much, how surely, on how many tasks.

It is about the focus, or without one about the leading method of each phase. Every other method with single runs is
compared with it on the tasks that all methods have. `zoo.report.significance` decides; this module words it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zoo.report.comparison import (
    LEADS,
    LEAST_BEST,
    Change,
    Comparison,
    Outcome,
    Phase,
    Verdict,
    by_domain,
)
from zoo.report.significance import steps_short
from zoo.report.statistics.estimates import FEW_SEEDS, Estimate
from zoo.report.statistics.means import FRACTION
from zoo.report.tables.entries import NOT_KNOWN, Entry, Table, digits_of, method_entry, number_entry
from zoo.report.tables.scores import phase_table
from zoo.runs.protocol import count, shortened
from zoo.runs.scores import SUCCESS

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
_SHORT: Mapping[str, str] = {
    Outcome.BETTER: "better than",
    Outcome.AHEAD: "ahead of",
    Outcome.SLIGHTLY_AHEAD: "slightly ahead of",
    Outcome.EQUAL: "equal to",
    Outcome.SLIGHTLY_BEHIND: "slightly behind",
    Outcome.BEHIND: "behind",
    Outcome.WORSE: "worse than",
}


def verdict_table(comparison: Comparison, phase: Phase) -> Table:
    """Return how the subject of a phase compares with each other method; without rows where nothing is compared."""
    kind, found, subject = comparison.kind, phase.decision.verdicts, str(phase.decision.subject)
    digits = digits_of(kind, (v.improvement.difference for v in found))
    rows = []
    for v in found:
        pair = v.improvement
        p_text = NOT_KNOWN if v.p_value is None else "< 0.001" if v.p_value < 0.001 else f"{v.p_value:.3f}"
        rows.append([
            method_entry(comparison.methods[v.other]),
            Entry(NOT_KNOWN) if pair.difference is None else number_entry(pair.difference, kind.scale, digits),
            Entry(p_text, value=v.p_value),
            number_entry(pair.probability, 1, 2),
            Entry(str(pair.tasks)),
            Entry(v.outcome, is_bold=v.is_clear),
        ])  # fmt: skip
    header = ["against", "difference of means", "p value (Holm)", "probability of improvement"]
    header += ["tasks won / lost / undecided", "verdict"]
    title = f"{comparison.methods[subject].title} against each other method" if found else ""
    points, least = f"{100 * comparison.resolve:g} points", f"{LEAST_BEST:.0%}"
    sizes = (
        f"Better, worse: beyond chance by more than {points}; slightly ahead, behind: by less; ahead, behind: by more "
        f"or less. Equal: surely less than {points} apart. Both fail or solve: means below {least} or above "
        f"{1 - LEAST_BEST:.0%}. "
    )
    caption = (
        f"Difference: the mean of {title.partition(' against')[0]} minus the other's, with a 95% t-interval. Verdict "
        f"and p value: {phase.decision.family.describe()}. {sizes if kind.is_comparable else ''}Tasks are won or lost "
        "by a family of their own, which decides no verdict."
    )
    names = [subject, *(v.other for v in found)] if found else []
    return phase_table("verdict", title, comparison, phase, caption, header, rows, names)


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
    kind, methods, decision = comparison.kind, comparison.methods, phase.decision
    means = {name: cell.estimates["mean"] for name, cell in phase.aggregates.items()}
    subject = decision.subject or max(sorted(means), key=lambda name: means[name].point)
    where = f"{phase.name}{kind.title}, {count(len(phase.tasks), 'task')}"
    if kind.limits == FRACTION and len(means) > 1 and not any(mean.point for mean in means.values()):
        return f"No method succeeds {where}.", ""
    if lacking := _not_comparable(comparison, phase, subject):
        return lacking, ""
    does = "," if subject == comparison.focus or len(means) == 1 else " leads"
    text = f"{methods[subject].title}{does} {where}: "
    if subject in means:
        text += f"{_score(comparison, means[subject], detail=True)}{' success' if kind is SUCCESS else ''}. "
    if not decision.verdicts or decision.rival is None:
        return text + ("Means without single runs decide nothing." if len(means) > 1 else ""), ""
    rival, details = _rival(comparison, phase, decision.rival)
    text += f"{_outcomes(comparison, decision.verdicts)} {rival}"
    untested = [methods[n].title for n in means if subject in means and (subject, n) not in phase.improvements
                and means[n].point > means[subject].point]  # fmt: skip
    if higher := ", ".join(shortened(untested)):
        text += f" Higher means without single runs cannot be tested: {higher}."
    return text, f"{details} Tested by {decision.family.describe()}.{_fragility(comparison, phase)}"


def _score(comparison: Comparison, estimate: Estimate, detail: bool = False) -> str:
    """Return a score as text, if wished with its interval."""
    kind = comparison.kind
    entry = number_entry(estimate, kind.scale, digits_of(kind, [estimate]))
    return f"{entry.text}{'%' if kind is SUCCESS else ''} {entry.detail if detail else ''}".strip()


def _not_comparable(comparison: Comparison, phase: Phase, subject: str) -> str:
    """Return which steps an own method lacks beside its published scores, or else the best; empty if none.

    Networks of another size are told too.
    """
    ours, means = comparison.methods[subject], {n: cell.estimates["mean"] for n, cell in phase.aggregates.items()}
    theirs = [comparison.methods[name] for name in means if not comparison.methods[name].is_own]
    if not ours.is_own or subject not in means or not theirs:
        return ""
    other = max(theirs, key=lambda method: (method.algorithm == ours.algorithm, means[method.name].point))
    if (short := steps_short(phase, ours, other)) is None:
        return ""
    network, published = (method.protocol_on(phase.tasks[0]).get("net_arch") for method in (ours, other))
    networks = "" if network in (None, published) else f", networks {network}"
    scores = (
        f"{other.title} published {_score(comparison, means[other.name])}, yours {_score(comparison, means[subject])}"
    )
    return f"Not comparable yet: {short[0]:,} of {short[1]:,} {phase.name} steps{networks}. {scores}."


def _outcomes(comparison: Comparison, found: Sequence[Verdict]) -> str:
    """Return which methods have which outcome, as a sentence."""
    clauses = []
    for outcome in _WORDS:
        if names := [comparison.methods[v.other].title for v in found if v.outcome == outcome]:
            listed = ", ".join(shortened(names))
            if len(names) == len(found) > 1:
                listed = "both others" if len(names) == 2 else f"all {len(names)} others"
            elif len(names) > 1:
                listed = f"{len(names)} of {len(found)} ({listed})"
            clauses.append(f"{_words(comparison, outcome)} {listed}")
    verdict = f"{'; '.join(clauses)}."
    return verdict[0].upper() + verdict[1:]


def _words(comparison: Comparison, outcome: str) -> str:
    if not comparison.kind.is_comparable and outcome in (Outcome.BETTER, Outcome.WORSE):
        return f"{outcome} than"
    return _WORDS[outcome].format(points=f"{100 * comparison.resolve:g}")


def _fragility(comparison: Comparison, phase: Phase) -> str:
    """Return, after a space, what of the verdict changes where a domain is left out."""
    changes, total = phase.decision.changes, len(by_domain(phase.tasks))
    if changes is None:
        return ""
    if not changes:
        return f" Leaving out any one of the {total} domains changes nothing that is clear."
    domains = {change.domain for change in changes}
    if len(changes) <= 2:
        return f" Fragile: {'; '.join(_turn(comparison, change) for change in changes)}."
    return (
        f" Fragile: {len(domains)} of {total} domains, left out alone, change a word; e.g. "
        f"{_turn(comparison, changes[0])}."
    )


def _turn(comparison: Comparison, change: Change) -> str:
    other, short = comparison.methods[change.other].title, _SHORT.get(change.before, f"{change.before} against")
    if change.after == LEADS:
        return f"leaving out {change.domain} lets {other} lead"
    return f"leaving out {change.domain} turns '{short} {other}' into '{change.after}'"


def _rival(comparison: Comparison, phase: Phase, rival: Verdict) -> tuple[str, str]:
    """Return how the subject compares with its rival, and details."""
    kind, methods, pair, found = comparison.kind, comparison.methods, rival.improvement, phase.decision.verdicts
    is_best = rival is min(found, key=lambda v: v.improvement.lead)
    which = "" if len(found) == 1 else ", the best of them" if is_best else ", your other method"
    against, chance = f"Against {methods[rival.other].title}", number_entry(pair.probability, 1, 2).plain
    text = f"{against}{which}: "
    if pair.difference is None:
        text += f"probability of improvement {chance}."
    else:
        entry = number_entry(pair.difference, kind.scale, digits_of(kind, [pair.difference]))
        sign = "+" if pair.difference.point > 0 else ""
        text += f"{sign}{entry.plain} {'points' if kind is SUCCESS else kind.unit}."
    record = pair.tasks
    details = f"{against}: probability of improvement {chance}; tasks won {record.won}, lost {record.lost}, "
    details += f"undecided {record.undecided}."
    if rival.outcome in (Outcome.UNCLEAR, Outcome.UNTESTED):
        text += _seeds_advice(comparison, phase)
    return text, details


def _seeds_advice(comparison: Comparison, phase: Phase) -> str:
    """Return, after a space, how many seeds would decide a pair that is not decided."""
    plan = phase.decision.advice
    if plan is None:
        return f" It takes at least {FEW_SEEDS} seeds to decide that."
    seeds = "more seeds than anyone has" if plan.seeds is None else f"about {plan.seeds:,} seeds"
    return f" It takes {seeds} of each to resolve {100 * comparison.resolve:g} points."
