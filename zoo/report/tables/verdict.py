"""The verdict on one method against each of the others: better or worse, by how much, how surely, on how many tasks.

Every method with single runs is compared with the one in focus on the tasks that all methods have. What is called
better or worse is clearly so by the tests of the phase, see `zoo.report.significance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.report.comparison import Comparison, Phase, by_score, ranking
from zoo.report.significance import family_of
from zoo.report.statistics.estimates import Estimate, Improvement
from zoo.report.tables.entries import CONTRADICTION, Entry, Table, digits_of, estimate_data, number_entry, unsure_note
from zoo.report.tables.scores import finished_note
from zoo.runs.protocol import count, shortened
from zoo.runs.scores import SUCCESS, Kind

BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"
_WORDS = {BETTER: "better than", WORSE: "worse than", UNDECIDED: "undecided against"}


@dataclass(frozen=True)
class Verdict:
    """How the method in focus compares with another one.

    :param p_value: after Holm's correction; None where the pair cannot be tested.
    :param outcome: whether the focus is better, worse, or neither beyond chance.
    """

    other: str
    improvement: Improvement
    p_value: float | None
    outcome: str


def verdicts(comparison: Comparison, phase: Phase) -> list[Verdict]:
    """Return the verdicts on the focus of a comparison in one phase, in the order of `ranking`; none without one."""
    focus, family = comparison.focus, family_of(comparison, phase)
    result = []
    for other in ranking(comparison, phase):
        pair = phase.improvements.get((str(focus), other))
        if pair is not None:
            sure = BETTER if pair.is_positive else WORSE
            outcome = sure if family.is_clear(str(focus), other) else UNDECIDED
            result.append(Verdict(other, pair, family.p_values.get((str(focus), other)), outcome))
    return result


def verdict_table(comparison: Comparison, phase: Phase) -> Table:
    """Return how the method in focus compares with each other one; without rows where it has no single runs."""
    kind, found = comparison.kind, verdicts(comparison, phase)
    name = f"verdict_{phase.name}{kind.suffix}"
    if not found:
        return Table(name, "", "", [], [])
    focus = comparison.methods[comparison.focus].title
    digits = digits_of(kind, (v.improvement.difference for v in found))
    has_difference = any(v.improvement.difference is not None for v in found)
    header = ["against", *(["difference of means"] if has_difference else []), "p value (Holm)"]
    header += ["probability of improvement", "tasks won / lost / undecided", "verdict"]
    rows, data = [], []
    for v in found:
        pair = v.improvement
        row = [Entry(comparison.methods[v.other].title)]
        data.append({"focus": comparison.focus, "against": v.other, **estimate_data("probability", pair.probability)})
        if pair.difference is not None:
            row.append(number_entry(pair.difference, kind.scale, digits))
            data[-1] |= estimate_data("difference", pair.difference)
        word = Entry(v.outcome + (" §" if pair.is_contradictory else ""), is_bold=v.outcome != UNDECIDED)
        chance = number_entry(pair.probability, 1, 2)
        rows.append([*row, Entry(_p_text(v.p_value)), chance, Entry(str(pair.tasks)), word])
        data[-1] |= {"p_holm": v.p_value, "won": pair.tasks.won, "lost": pair.tasks.lost}
        data[-1] |= {"undecided": pair.tasks.undecided, "verdict": v.outcome}
    title = f"{focus} against each other method, {phase.name}{kind.title}"
    return Table(name, title, _caption(comparison, phase, found, has_difference), header, rows, data)


def verdict_sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the answer for the first screen: one sentence or two for each kind of scores and phase with a focus."""
    return [
        _sentences(comparison, phase, found)
        for comparison in comparisons
        for phase in comparison.phases.values()
        if (found := verdicts(comparison, phase))
    ]


def _sentences(comparison: Comparison, phase: Phase, found: Sequence[Verdict]) -> str:
    """Return the verdict on the focus in one phase in words."""
    kind, methods = comparison.kind, comparison.methods
    focus = methods[comparison.focus].title
    text = f"{focus}, {phase.name}{kind.title}, {phase.tasks_label}: "
    cell = phase.aggregates.get(comparison.focus)
    if cell is not None:
        text += f"{_score_text(cell.estimates['mean'], kind)}. "
    groups = {outcome: [methods[v.other].title for v in found if v.outcome == outcome] for outcome in _WORDS}
    clauses = [f"{_WORDS[outcome]} {_named(names, len(found))}" for outcome, names in groups.items() if names]
    verdict = f"{', '.join(clauses)} ({family_of(comparison, phase).describe()}). "
    return text + verdict[0].upper() + verdict[1:] + _rivals(comparison, phase, found)


def _named(names: Sequence[str], total: int) -> str:
    """Return methods by name, or how many there are and the first of them."""
    if len(names) == total and total > 1:
        return f"all {total} others"
    listed = ", ".join(shortened(names))
    return listed if len(names) == 1 else f"{len(names)} of {total} ({listed})"


def _rivals(comparison: Comparison, phase: Phase, found: Sequence[Verdict]) -> str:
    """Return how the focus compares with the method that is the best of the others in this phase."""
    kind, pairs = comparison.kind, {v.other: v.improvement for v in found}
    best = next(name for name in by_score(comparison, phase) if name in pairs)
    pair = pairs[best]
    text = f"Against {comparison.methods[best].title}{', the best of them' if len(pairs) > 1 else ''}: "
    if pair.difference is not None:
        entry = number_entry(pair.difference, kind.scale, digits_of(kind, [pair.difference]))
        sign = "+" if pair.difference.point > 0 else ""
        text += f"{sign}{entry.plain} {'points' if kind is SUCCESS else kind.unit}, "
    text += f"probability of improvement {number_entry(pair.probability, 1, 2).plain}; "
    record = pair.tasks
    text += f"tasks won {record.won}, lost {record.lost}, undecided {record.undecided}."
    if pair.is_contradictory:
        text += f" {CONTRADICTION[0].upper()}{CONTRADICTION[1:]}."
    return text


def _score_text(mean: Estimate, kind: Kind) -> str:
    entry = number_entry(mean, kind.scale, digits_of(kind, [mean]))
    return f"{entry.plain}{'% success' if kind is SUCCESS else ''}"


def _p_text(p_value: float | None) -> str:
    if p_value is None:
        return "-"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _caption(comparison: Comparison, phase: Phase, found: Sequence[Verdict], has_difference: bool) -> str:
    """Return what the table of verdicts shows, and how."""
    focus = comparison.methods[comparison.focus].title
    unit = " in points" if comparison.kind is SUCCESS else ""
    text = f"{focus} at the end of the {phase.name} phase, on {count(len(phase.tasks), 'task')} that all methods have. "
    if has_difference:
        text += f"Difference of means{unit} with its 95% t-interval, which is not adjusted. "
    text += (
        f"Verdict and p value: {family_of(comparison, phase).describe()}. Probability of improvement: that a run of "
        f"{focus} is better on the same task, ties counted half. Tasks are won or lost where means differ at 5% by "
        "Welch's t-test, Holm-adjusted for the tasks of a row: a family of its own, which decides no verdict."
    )
    if any(v.improvement.is_contradictory for v in found):
        text += f" §: {CONTRADICTION}."
    text += unsure_note(v.improvement.probability for v in found)
    return text + finished_note(comparison, [comparison.focus, *(v.other for v in found)])
