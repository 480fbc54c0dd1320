"""The verdict on one method against each of the others: better or worse, by how much, how surely, on how many tasks.

Every method with single runs is compared with the one in focus on the tasks that all methods have. The verdicts on one
method in one phase are a family of tests: their p values are Holm-adjusted, so that the chance of any false one is at
most 5%.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.report.comparison import Comparison, Phase, by_score, ranking
from zoo.report.entries import CONTRADICTION, Entry, Table, digits_of, estimate_data, number_entry
from zoo.report.estimates import SIGNIFICANT, Estimate, Improvement, holm
from zoo.report.tables import finished_note
from zoo.runs.protocol import count, shortened
from zoo.runs.scores import SUCCESS, Kind

BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"
_WORDS = {BETTER: "better than", WORSE: "worse than", UNDECIDED: "undecided against"}


@dataclass(frozen=True)
class Verdict:
    """How the method in focus compares with another one.

    :param p_value: of no difference of means, Holm-adjusted; None where the difference has no interval.
    """

    other: str
    improvement: Improvement
    p_value: float | None

    @property
    def outcome(self) -> str:
        """Whether the focus is better, worse, or neither beyond chance."""
        difference = self.improvement.difference
        if difference is None or self.p_value is None or self.p_value > SIGNIFICANT:
            return UNDECIDED
        return BETTER if difference.point > 0 else WORSE


def verdicts(comparison: Comparison, phase: Phase) -> list[Verdict]:
    """Return the verdicts on the focus of a comparison in one phase, in the order of `ranking`; none without one."""
    pairs = {y: phase.improvements.get((comparison.focus, y)) for y in ranking(comparison) if comparison.focus}
    found = {y: pair for y, pair in pairs.items() if pair is not None}
    tested = {y: pair.p_value for y, pair in found.items() if pair.p_value is not None}
    adjusted = dict(zip(tested, holm(list(tested.values()), len(tested)).tolist(), strict=True))
    return [Verdict(y, pair, adjusted.get(y)) for y, pair in found.items()]


def verdict_table(comparison: Comparison, phase: Phase) -> Table:
    """Return how the method in focus compares with each other one; without rows where it has no single runs."""
    kind, found = comparison.kind, verdicts(comparison, phase)
    name = f"verdict_{phase.name}{kind.suffix}"
    if not found:
        return Table(name, "", "", [], [])
    focus = comparison.methods[comparison.focus].title
    digits = digits_of(kind, (v.improvement.difference for v in found))
    has_difference = any(v.improvement.difference is not None for v in found)
    header = ["against", *(["difference of means", "p"] if has_difference else []), f"P({focus} > it)"]
    header += ["tasks won / lost / undecided", *(["verdict"] if has_difference else [])]
    rows, data = [], []
    for v in found:
        pair = v.improvement
        row = [Entry(comparison.methods[v.other].title)]
        if has_difference:
            row += [number_entry(pair.difference, kind.scale, digits), Entry(_p_text(v.p_value))]
        row += [number_entry(pair.probability, 1, 2), Entry(str(pair.tasks))]
        if has_difference:
            row.append(Entry(v.outcome + (" §" if pair.is_contradictory else ""), is_bold=v.outcome != UNDECIDED))
        rows.append(row)
        data.append({"focus": comparison.focus, "against": v.other, **estimate_data("probability", pair.probability)})
        if pair.difference is not None:
            data[-1] |= estimate_data("difference", pair.difference) | {"p_holm": v.p_value}
        data[-1] |= {"won": pair.tasks.won, "lost": pair.tasks.lost, "undecided": pair.tasks.undecided}
        data[-1] |= {"verdict": v.outcome if has_difference else None}
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
    tasks = phase.tasks_label if not phase.is_per_method else count(len(phase.tasks), "common task")
    text = f"{focus}, {phase.name}{kind.title}, {tasks}: "
    cell = phase.aggregates.get(comparison.focus)
    if cell is not None and not phase.is_per_method:
        text += f"{_score_text(cell.estimates['mean'], kind)}. "
    if all(v.improvement.difference is None for v in found):
        return text + _rivals(comparison, found)
    groups = {outcome: [methods[v.other].title for v in found if v.outcome == outcome] for outcome in _WORDS}
    clauses = [f"{_WORDS[outcome]} {_named(names, len(found))}" for outcome, names in groups.items() if names]
    verdict = f"{', '.join(clauses)} (difference of means, 5% after Holm's correction). "
    return text + verdict[0].upper() + verdict[1:] + _rivals(comparison, found)


def _named(names: Sequence[str], total: int) -> str:
    """Return methods by name, or how many there are and the first of them."""
    if len(names) == total and total > 1:
        return f"all {total} others"
    listed = ", ".join(shortened(names))
    return listed if len(names) == 1 else f"{len(names)} of {total} ({listed})"


def _rivals(comparison: Comparison, found: Sequence[Verdict]) -> str:
    """Return how the focus compares with the best other method."""
    kind, pairs = comparison.kind, {v.other: v.improvement for v in found}
    best = next(name for name in by_score(comparison) if name in pairs)
    pair = pairs[best]
    text = f"Against {comparison.methods[best].title}{', the best of them' if len(pairs) > 1 else ''}: "
    if pair.difference is not None:
        entry = number_entry(pair.difference, kind.scale, digits_of(kind, [pair.difference]))
        sign = "+" if pair.difference.point > 0 else ""
        text += f"{sign}{entry.plain} {'points' if kind is SUCCESS else kind.unit}, "
    text += f"P = {number_entry(pair.probability, 1, 2).plain}; "
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
        text += (
            f"Difference of means{unit} with its 95% t-interval, its p value (Welch's t-test, Holm-adjusted for "
            f"{count(len(found), 'method')}), and the verdict at 5%. The intervals are not adjusted. "
        )
    text += (
        f"P: probability that a run of {focus} is better on the same task, ties counted half. Tasks are won or lost "
        "where means differ at 5%, Holm-adjusted for the tasks of a row."
    )
    if any(v.improvement.is_contradictory for v in found):
        text += f" §: {CONTRADICTION}."
    return text + finished_note(comparison, [comparison.focus, *(v.other for v in found)])
