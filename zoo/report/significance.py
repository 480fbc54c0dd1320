"""What the numbers of a phase decide: which pairs of methods clearly differ, and the verdicts on one of them.

With a method in focus the tests are its comparisons with each of the others; without one they are all pairs of methods.
Each pair has one test, that of its `Improvement`. Holm's correction keeps the chance of any false word at 5%. The same
holds for the words that claim a size: a difference below, or above, the one that matters is tested like that. Intervals
of differences have the level of Holm's last step, so that an interval excludes 0 exactly where its pair is clear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agents.common.validation import count
from zoo.report.comparison import (
    FAILED_BELOW,
    ComparedMethod,
    Comparison,
    Decision,
    Outcome,
    Phase,
    Verdict,
    by_domain,
    ranking,
)
from zoo.report.statistics.estimates import (
    SIGNIFICANT,
    Estimate,
    Pair,
    holm,
    p_value_or_none,
    welch_curve,
    welch_mean,
    welch_p_values,
)
from zoo.report.statistics.means import FRACTION, SeedPlan, pair_spreads, plan_seeds

_SMALLER, _LARGER, _OPEN = "smaller", "larger", "open"
_CLEAR = {
    _LARGER: (Outcome.WORSE, Outcome.BETTER),
    _OPEN: (Outcome.BEHIND, Outcome.AHEAD),
    _SMALLER: (Outcome.SLIGHTLY_BEHIND, Outcome.SLIGHTLY_AHEAD),
}
"""How a difference compares with the one that matters -> the outcome of who is behind and of who is ahead."""


def decide(comparison: Comparison, **choices: Any) -> Comparison:
    """Return a comparison with other fields, e.g. another focus, and what follows from them in each phase."""
    chosen = replace(comparison, **choices)
    phases = {}
    for name, phase in chosen.phases.items():
        phases[name] = replace(phase, decision=_decision(chosen, phase))
    return replace(chosen, phases=phases)


def can_plan(comparison: Comparison, phase: Phase, pair: Pair) -> bool:
    """Return whether the difference of two methods is a mean over tasks, for which seeds can be planned."""
    return comparison.kind.is_comparable and bool(phase.aggregates) and pair in phase.improvements


def seed_plan(comparison: Comparison, phase: Phase, pair: Pair) -> SeedPlan | None:
    """Return how many seeds resolve the difference of two methods, None where nothing says how runs vary."""
    if not can_plan(comparison, phase, pair):
        return None
    return plan_seeds(phase.samples, pair, comparison.resolve)


def changes(comparison: Comparison, phase: Phase) -> list[str]:
    """Return what is said otherwise where one domain is left out: who leads, or an outcome that is or was clear."""
    sentences = []
    decision = phase.decision
    for domain, tasks in by_domain(phase.tasks).items():
        without = _decision(comparison, _without(phase, tasks))
        if without.subject != decision.subject:
            leader = comparison.methods[str(without.subject)].title
            sentences.append(f"leaving out {domain} lets {leader} lead")
            continue
        outcomes = {v.other: v.outcome for v in without.verdicts}
        for v in decision.verdicts:
            outcome = outcomes[v.other]
            # from "undecided" to "equal" changes no answer
            if outcome != v.outcome and (outcome.is_clear or v.outcome.is_clear):
                name = comparison.methods[v.other].title
                sentences.append(
                    f"leaving out {domain} turns '{v.outcome}' against {name} into '{outcome}'"
                )
    return sentences


def _without(phase: Phase, tasks: Sequence[str]) -> Phase:
    """Return what decides a verdict on the other tasks of a phase: means, differences and their p values."""
    samples = {name: table.drop(index=tasks) for name, table in phase.samples.items()}
    means = samples["mean"].mean()
    aggregates = {}
    for name, mean in means.items():
        aggregates[name] = replace(phase.aggregates[name], estimates={"mean": Estimate(mean)})
    pairs = list(phase.improvements)
    differences = np.array([means[x] - means[y] for x, y in pairs])
    p_values = welch_p_values(differences, *pair_spreads(samples, pairs))
    improvements = {}
    for pair, point, p in zip(pairs, differences.tolist(), p_values.tolist(), strict=True):
        improvements[pair] = replace(
            phase.improvements[pair], difference=Estimate(point), p_value=p_value_or_none(p)
        )
    return replace(
        phase,
        tasks=tuple(samples["mean"].index),
        samples=samples,
        aggregates=aggregates,
        improvements=improvements,
    )


def _decision(comparison: Comparison, phase: Phase) -> Decision:
    improvements = phase.improvements
    subject = _subject(comparison, phase)
    pairs = _tested_pairs(comparison, phase)
    adjusted = holm(np.array([improvements[pair].p_value for pair in pairs])).tolist()
    tests = {}
    # a test is two-sided: it stands for both directions
    for (x, y), *test in zip(pairs, adjusted, _sizes(comparison, phase, pairs), strict=True):
        tests[x, y] = tests[y, x] = test
    # Holm rejects up to this level, and nothing that it does not reject is below
    level = SIGNIFICANT / max(1, sum(p > SIGNIFICANT for p in adjusted))
    verdicts = []
    for name in ranking(comparison, phase):
        pair = (str(subject), name)
        if pair in improvements:
            p_value, size = tests.get(pair, (None, _OPEN))
            verdicts.append(_verdict(comparison, phase, pair, level, p_value, size))
    rival = _rival(comparison, subject, verdicts)
    p_values = {pair: p for pair, (p, _) in tests.items()}
    tested = _describe(comparison, phase, pairs)
    return Decision(subject, p_values, tested, level, verdicts, rival)


def _verdict(
    comparison: Comparison, phase: Phase, pair: Pair, level: float, p_value: float | None, size: str
) -> Verdict:
    """Return the verdict on a pair, with intervals of its difference of means where scores can be averaged.

    One is over seeds, at a level; the other is the 95% t-interval over tasks, as if these were drawn from many.
    """
    x, y = pair
    improvement = phase.improvements[pair]
    difference = improvement.difference
    over_tasks = None
    if difference is not None:
        low, high = comparison.kind.limits
        limits = (low - high, high - low)
        variances, seeds = pair_spreads(phase.samples, [pair])
        points = np.array([difference.point])
        curve = welch_curve(points, variances, seeds, limits, level)
        tasks = phase.samples["mean"][x] - phase.samples["mean"][y]
        # one task has no variance, and so no interval
        interval = welch_mean([tasks.mean()], [tasks.var()], [len(tasks)], limits).interval
        over_tasks = interval and Estimate(difference.point, interval)
        improvement = replace(improvement, difference=curve.estimate(0))
    outcome = _outcome(comparison, phase, pair, p_value, size)
    return Verdict(y, improvement, p_value, outcome, over_tasks)


def _tested_pairs(comparison: Comparison, phase: Phase) -> list[Pair]:
    """Return the pairs that the tests of a phase are about: those with the focus, or else all, each once."""
    focus = comparison.focus
    has_focus = focus in phase.compared
    pairs = []
    for (x, y), improvement in phase.improvements.items():
        # the improvements have each pair in both directions, and to test both would double Holm's correction
        is_shown = x < y
        if has_focus:
            is_shown = x == focus
        # runs of fewer steps than the published ones would lose for that alone
        is_fair = not steps_short(phase, comparison.methods[x], comparison.methods[y])
        if is_shown and is_fair and improvement.p_value is not None:
            pairs.append((x, y))
    return pairs


def _describe(comparison: Comparison, phase: Phase, pairs: Sequence[Pair]) -> str:
    """Return the tests and their correction in words; empty where nothing is tested."""
    if not pairs:
        return ""
    test = "Wilcoxon-Mann-Whitney test over tasks"
    if all(phase.improvements[pair].difference for pair in pairs):
        test = "Welch's t-test of the difference of means"
    scope = "between all methods"
    if comparison.focus in phase.compared:
        scope = f"with {comparison.methods[pairs[0][0]].title}"
    return f"{test}, 5% after Holm's correction for the {count(len(pairs), 'comparison')} {scope}"


def _sizes(comparison: Comparison, phase: Phase, pairs: Sequence[Pair]) -> list[str]:
    """Return how the difference of each pair compares with the one that matters: open where scores have no scale.

    Smaller: two one-sided Welch tests. Larger: the two-sided test of what the difference exceeds the margin by.
    """
    if not (comparison.kind.is_comparable and phase.aggregates and pairs):
        return [_OPEN] * len(pairs)
    room = np.array([comparison.resolve - abs(phase.improvements[pair].lead) for pair in pairs])
    p_values = welch_p_values(room, *pair_spreads(phase.samples, pairs))
    # only the side towards the margin can fail, so half of the two-sided p value is that of both one-sided tests
    is_smaller = holm(np.where(room > 0, p_values / 2, 1)) <= SIGNIFICANT
    is_larger = holm(np.where(room < 0, p_values, 1)) <= SIGNIFICANT
    return np.select([is_smaller, is_larger], [_SMALLER, _LARGER], _OPEN).tolist()


def steps_short(
    phase: Phase, first: ComparedMethod, second: ComparedMethod
) -> tuple[int, int] | None:
    """Return the steps of own runs and the more that published ones had; None where a comparison is fair."""
    if first.is_own == second.is_own:
        return None
    ours, published = first, second
    if second.is_own:
        ours, published = second, first
    environment = phase.tasks[0]
    field = f"{phase.name}_steps"
    steps = ours.protocol_on(environment).get(field)
    planned = published.protocol_on(environment).get(field)
    if steps and planned and steps < planned:
        return steps, planned
    return None


def _subject(comparison: Comparison, phase: Phase) -> str | None:
    """Return what the verdict of a phase is about: the focus, or else the leading one of the methods with single runs.

    Where scores cannot be averaged, the one leads whose runs are most often better. None where nothing is compared.
    """
    if comparison.focus in phase.compared:
        return comparison.focus

    def score(name: str) -> float:
        if name in phase.means:
            return phase.means[name]
        pairs = phase.improvements.items()
        return sum(pair.probability.point for (x, _), pair in pairs if x == name)

    # of equal scores the first by name leads, in whatever order the methods were read
    return max(sorted(phase.compared), key=score, default=None)


def _outcome(
    comparison: Comparison, phase: Phase, pair: Pair, p_value: float | None, size: str
) -> Outcome:
    """Return how the first method of a pair compares with the second."""
    x, y = pair
    if steps_short(phase, comparison.methods[x], comparison.methods[y]):
        return Outcome.NOT_COMPARABLE
    if p_value is None:
        return Outcome.UNTESTED
    means = [phase.means[name] for name in pair if name in phase.means]
    # a clear difference between two failures, or two solutions, decides nothing
    if comparison.kind.limits == FRACTION and means:
        if max(means) < FAILED_BELOW:
            return Outcome.BOTH_FAIL
        if min(means) > 1 - FAILED_BELOW:
            return Outcome.BOTH_SOLVE
    if p_value <= SIGNIFICANT:
        # where scores share no scale, no margin can be tested, and who is clearly ahead is better
        if not comparison.kind.is_comparable:
            size = _LARGER
        return _CLEAR[size][phase.improvements[pair].lead > 0]
    if size == _SMALLER:
        return Outcome.EQUAL
    return Outcome.UNDECIDED


def _rival(
    comparison: Comparison, subject: str | None, verdicts: Sequence[Verdict]
) -> Verdict | None:
    """Return the verdict on the best other method, or on the other own one of two."""
    methods = comparison.methods
    own_verdicts = [v for v in verdicts if methods[v.other].is_own and methods[str(subject)].is_own]
    if len(own_verdicts) == 1:
        return own_verdicts[0]
    return min(verdicts, key=lambda v: v.improvement.lead, default=None)
