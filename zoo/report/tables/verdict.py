"""The verdict on one method against each of the others: better or worse, by how much, how surely, on how many tasks.

It is about the focus, or without one about the leading method of each phase. Every other method with single runs is
compared with it on the tasks that all methods have. What is called better, worse or equivalent is clearly so by the
tests of the phase, see `zoo.report.significance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.report.comparison import Comparison, Phase, ranking
from zoo.report.significance import family_of, subject_of, without_tasks
from zoo.report.statistics.aggregates import FRACTION
from zoo.report.statistics.estimates import FEW_SEEDS, Improvement
from zoo.report.statistics.seeds_needed import plan_seeds, with_typical_spread
from zoo.report.tables.entries import (
    LEAST_BEST,
    Entry,
    Table,
    digits_of,
    estimate_data,
    number_entry,
)
from zoo.report.tables.scores import by_domain, phase_table
from zoo.runs.protocol import count, shortened
from zoo.runs.scores import RETURN, SUCCESS

BETTER, WORSE, EQUIVALENT = "better", "worse", "equivalent"
BOTH_FAIL, BOTH_SOLVE, UNCLEAR, UNTESTED = "both fail", "both solve", "unclear", "untested"
_WORDS = {
    BETTER: "better than",
    WORSE: "worse than",
    EQUIVALENT: "equivalent to",
    BOTH_SOLVE: "undecided, since both solve the tasks, against",
    BOTH_FAIL: "undecided, since both fail, against",
    UNCLEAR: "undecided against",
    UNTESTED: "not to be decided, since a task has one seed or all seeds agree, against",
}


@dataclass(frozen=True)
class Verdict:
    """How the method that the verdict is about compares with another one.

    :param p_value: after Holm's correction; None where the pair cannot be tested.
    :param outcome: whether the subject is better, worse or equivalent, or why that is undecided.
    """

    other: str
    improvement: Improvement
    p_value: float | None
    outcome: str

    @property
    def is_clear(self) -> bool:
        """Whether one of the two is better beyond chance."""
        return self.outcome in (BETTER, WORSE)

    @property
    def lead(self) -> float:
        """How far the subject is ahead."""
        pair = self.improvement
        return pair.probability.point - 0.5 if pair.difference is None else pair.difference.point


def verdicts(comparison: Comparison, phase: Phase) -> list[Verdict]:
    """Return the verdicts on the subject of one phase, in the order of `ranking`; none where nothing is compared."""
    subject, family = str(subject_of(comparison, phase)), family_of(comparison, phase)
    result = []
    for other in ranking(comparison, phase):
        pair = phase.improvements.get((subject, other))
        if pair is not None:
            p_value, is_clear = family.p_values.get((subject, other)), family.is_clear(subject, other)
            if p_value is None:
                outcome = UNTESTED
            elif is_clear:
                outcome = BETTER if pair.is_positive else WORSE
            else:
                outcome = _undecided(comparison, phase, (subject, other)) or (
                    EQUIVALENT if (subject, other) in family.equivalent else UNCLEAR
                )
            result.append(Verdict(other, pair, p_value, outcome))
    return result


def _undecided(comparison: Comparison, phase: Phase, pair: tuple[str, str]) -> str:
    """Return whether both methods of a pair fail or solve the tasks; empty if neither."""
    means = [phase.aggregates[name].estimates["mean"].point for name in pair if name in phase.aggregates]
    if comparison.kind.limits != FRACTION or not means:
        return ""
    return BOTH_FAIL if max(means) < LEAST_BEST else BOTH_SOLVE if min(means) > 1 - LEAST_BEST else ""


def verdict_table(comparison: Comparison, phase: Phase) -> Table:
    """Return how the subject of a phase compares with each other method; without rows where nothing is compared."""
    kind, found, subject = comparison.kind, verdicts(comparison, phase), str(subject_of(comparison, phase))
    digits = digits_of(kind, (v.improvement.difference for v in found))
    has_difference = any(v.improvement.difference is not None for v in found)
    rows, data = [], []
    for v in found:
        pair = v.improvement
        row = [Entry(comparison.methods[v.other].title)]
        data.append({"focus": subject, "against": v.other, **estimate_data("probability", pair.probability)})
        if pair.difference is not None:
            row.append(number_entry(pair.difference, kind.scale, digits))
            data[-1] |= estimate_data("difference", pair.difference)
        p_text = "-" if v.p_value is None else "< 0.001" if v.p_value < 0.001 else f"{v.p_value:.3f}"
        row += [Entry(p_text), number_entry(pair.probability, 1, 2), Entry(str(pair.tasks))]
        rows.append([*row, Entry(v.outcome, is_bold=v.is_clear)])
        data[-1] |= {"p_holm": v.p_value, "won": pair.tasks.won, "lost": pair.tasks.lost}
        data[-1] |= {"undecided": pair.tasks.undecided, "verdict": v.outcome}
    header = ["against", *(["difference of means"] if has_difference else []), "p value (Holm)"]
    header += ["probability of improvement", "tasks won / lost / undecided", "verdict"]
    caption = (
        f"Difference: its mean minus the other's, with a 95% t-interval. Verdict and p value: "
        f"{family_of(comparison, phase).describe()}. Equivalent: surely less than {100 * comparison.resolve:g} points "
        f"apart (two one-sided tests, Holm). Both fail or solve: means below {LEAST_BEST:.0%} or above "
        f"{1 - LEAST_BEST:.0%}. Tasks are won or lost by a family of their own, which decides no verdict."
    )
    names = [subject, *(v.other for v in found)] if found else []
    title = f"{comparison.methods[subject].title} against each other method" if found else ""
    return phase_table("verdict", title, comparison, phase, caption, header, rows, data, names)


def verdict_sentences(comparisons: Sequence[Comparison]) -> list[tuple[str, str]]:
    """Return the answer for the first screen, for each kind of scores and phase: the verdict, and what it rests on."""
    return [
        _sentences(comparison, phase, verdicts(comparison, phase))
        for comparison in comparisons
        for phase in comparison.phases.values()
        if phase.improvements or phase.aggregates
    ]


def _sentences(comparison: Comparison, phase: Phase, found: Sequence[Verdict]) -> tuple[str, str]:
    """Return the verdict of one phase in words, and what it rests on: nothing where nothing can be compared."""
    kind, methods = comparison.kind, comparison.methods
    means = {name: cell.estimates["mean"] for name, cell in phase.aggregates.items()}
    subject = subject_of(comparison, phase) or max(sorted(means), key=lambda name: means[name].point)
    does = "," if subject == comparison.focus or len(means) == 1 else " leads"
    text = f"{methods[subject].title}{does} {phase.name}{kind.title}, {count(len(phase.tasks), 'task')}: "
    if subject in means:
        entry = number_entry(means[subject], kind.scale, digits_of(kind, [means[subject]]))
        score = f"{entry.text}% {entry.detail}".strip() + " success" if kind is SUCCESS else entry.plain
        text += f"{score}. "
    if not found:
        return text + ("Means without single runs decide nothing." if len(means) > 1 else ""), ""
    groups = {outcome: [methods[v.other].title for v in found if v.outcome == outcome] for outcome in _WORDS}
    clauses = [f"{_WORDS[outcome]} {_named(names, len(found))}" for outcome, names in groups.items() if names]
    verdict = f"{'; '.join(clauses)}. "
    rival, details = _rivals(comparison, phase, subject, found)
    text += verdict[0].upper() + verdict[1:] + rival
    untested = (methods[n].title for n in means if subject in means and (subject, n) not in phase.improvements
                and means[n].point > means[subject].point)  # fmt: skip
    if higher := ", ".join(shortened(untested)):
        text += f" Higher means without single runs cannot be tested: {higher}."
    tests = family_of(comparison, phase).describe()
    return text, f"{details} Tested by {tests}.{_robustness(comparison, phase, found)}"


def _robustness(comparison: Comparison, phase: Phase, found: Sequence[Verdict]) -> str:
    """Return, after a space, what of the verdict changes where a domain is left out."""
    domains = by_domain(phase.tasks)
    if len(domains) < 2 or any(v.improvement.difference is None or v.p_value is None for v in found):
        return ""
    subject, before = subject_of(comparison, phase), {v.other: v for v in found}
    changes = []
    for domain, tasks in domains.items():
        part = without_tasks(phase, tasks)
        leader = str(subject_of(comparison, part))
        moved = [
            f"{comparison.methods[v.other].title} {v.outcome}"
            for v in verdicts(comparison, part)
            if v.outcome != before[v.other].outcome and (v.is_clear or before[v.other].is_clear)
        ] if leader == subject else [f"{comparison.methods[leader].title} leads"]  # fmt: skip
        if moved:
            changes.append(f"{domain} ({', '.join(shortened(moved))})")
    left_out = f" Leaving out any one of the {len(domains)} domains"
    return f"{left_out} changes: {'; '.join(changes)}." if changes else f"{left_out} changes no better or worse."


def _named(names: Sequence[str], total: int) -> str:
    """Return methods by name, or how many there are and the first of them."""
    if len(names) == total and total > 1:
        return f"all {total} others"
    listed = ", ".join(shortened(names))
    return listed if len(names) == 1 else f"{len(names)} of {total} ({listed})"


def _rivals(comparison: Comparison, phase: Phase, subject: str, found: Sequence[Verdict]) -> tuple[str, str]:
    """Return how the subject compares with the best other method, or with the other own one of two, and details."""
    kind, methods = comparison.kind, comparison.methods
    own = [v for v in found if methods[v.other].is_own and methods[subject].is_own]
    best = own[0] if len(own) == 1 else min(found, key=lambda v: v.lead)
    pair, which = best.improvement, ", your other method" if len(own) == 1 else ", the best of them"
    against, chance = f"Against {methods[best.other].title}", number_entry(pair.probability, 1, 2).plain
    text = f"{against}{which if len(found) > 1 else ''}: "
    if pair.difference is None:
        text += f"probability of improvement {chance}."
    else:
        entry = number_entry(pair.difference, kind.scale, digits_of(kind, [pair.difference]))
        sign = "+" if pair.difference.point > 0 else ""
        text += f"{sign}{entry.plain} {'points' if kind is SUCCESS else kind.unit}."
    record = pair.tasks
    details = f"{against}: probability of improvement {chance}; tasks won {record.won}, lost {record.lost}, "
    details += f"undecided {record.undecided}."
    is_open = best.outcome in (UNCLEAR, UNTESTED)
    return text + (_seeds_advice(comparison, phase, (subject, best.other)) if is_open else ""), details


def _seeds_advice(comparison: Comparison, phase: Phase, pair: tuple[str, str]) -> str:
    """Return, after a space, how many seeds would decide a pair that is not decided."""
    plan = None
    if comparison.kind is not RETURN and phase.spreads:
        plan = plan_seeds(with_typical_spread(phase.spreads), [pair], comparison.resolve)[pair]
    if plan is None:
        return f" It takes at least {FEW_SEEDS} seeds to decide that."
    seeds = "more seeds than anyone has" if plan.seeds is None else f"about {plan.seeds:,} seeds"
    return f" It takes {seeds} of each to resolve {100 * comparison.resolve:g} points."
