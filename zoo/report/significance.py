"""What the numbers of a phase decide: which pairs of methods clearly differ, and the verdicts on one of them.

With a method in focus the tests are its comparisons with each of the others; without one they are all pairs of methods.
Each pair has one test, that of its `Improvement`. Holm's correction keeps the chance of any false word at 5%. The same
holds for the words that claim a size: a difference below, or above, the one that matters is tested like that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from zoo.report.comparison import (
    LEADS,
    LEAST_BEST,
    Change,
    ComparedMethod,
    Comparison,
    Decision,
    Family,
    Phase,
    Standing,
    Verdict,
    by_domain,
    ranking,
)
from zoo.report.statistics.estimates import SIGNIFICANT, Array, Estimate, holm, welch_p_values
from zoo.report.statistics.means import FRACTION, SeedPlan, Spread, pair_spreads, plan_seeds, with_typical_spread

Pair = tuple[str, str]
Plans = dict[Pair, SeedPlan | None]
_OUTCOMES = {
    1: (Standing.BETTER, Standing.SLIGHTLY_AHEAD, Standing.AHEAD),
    -1: (Standing.WORSE, Standing.SLIGHTLY_BEHIND, Standing.BEHIND),
}
"""Which one is ahead -> the outcome by more than the margin, by less, and where that is open."""


def decide(comparison: Comparison, **choices: Any) -> Comparison:
    """Return a comparison with other fields, e.g. another focus, and what follows from them in each phase."""
    chosen = replace(comparison, **choices)
    phases = {name: replace(phase, decision=_decision(chosen, phase)) for name, phase in chosen.phases.items()}
    return replace(chosen, phases=phases)


def _decision(comparison: Comparison, phase: Phase) -> Decision:
    family, subject, found = _verdicts(comparison, phase)
    rival = _rival(comparison, subject, found)
    plans: Plans = {}
    advice = None
    if comparison.kind.is_comparable and phase.spreads:
        plans = plan_seeds(phase.spreads, sorted(phase.improvements), comparison.resolve)
        if rival is not None:
            pair = (str(subject), rival.other)
            advice = plan_seeds(with_typical_spread(phase.spreads), [pair], comparison.resolve)[pair]
    domains = by_domain(phase.tasks)
    changes = None
    if len(domains) > 1 and found and all(v.improvement.difference and v.p_value is not None for v in found):
        changes = [change for domain in domains for change in _changes(comparison, phase, domain, str(subject), found)]
    return Decision(subject, family, found, rival, plans, advice, changes)


def _verdicts(comparison: Comparison, phase: Phase) -> tuple[Family, str | None, list[Verdict]]:
    """Return the tests of a phase, what its verdicts are about, and these."""
    family, subject, found = _family(comparison, phase), _subject(comparison, phase), []
    for other in ranking(comparison, phase):
        pair = (str(subject), other)
        if pair in phase.improvements:
            outcome = _outcome(comparison, phase, family, pair)
            found.append(Verdict(other, phase.improvements[pair], family.p_values.get(pair), outcome))
    return family, subject, found


def _family(comparison: Comparison, phase: Phase) -> Family:
    """Return the tests that a comparison makes in one phase."""
    found = phase.improvements
    focus = comparison.focus if any(comparison.focus in pair for pair in found) else None
    pairs = [
        (x, y)
        for x, y in found
        if (x < y if focus is None else x == focus)
        and not steps_short(phase, comparison.methods[x], comparison.methods[y])
    ]
    tested = {pair: p for pair in pairs if (p := found[pair].p_value) is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())).tolist(), strict=True))
    test = "Welch's t-test of the difference of means"
    if any(pair.difference is None for pair in found.values()):
        test = "Wilcoxon-Mann-Whitney test over tasks"
    title = None if focus is None else comparison.methods[focus].title
    inside, outside = _by_margin(comparison, phase, list(tested))
    return Family(title, adjusted | {(y, x): p for (x, y), p in adjusted.items()}, test, inside, outside)


def _by_margin(comparison: Comparison, phase: Phase, pairs: Sequence[Pair]) -> tuple[set[Pair], set[Pair]]:
    """Return the pairs that clearly differ by less than the margin, and those that clearly differ by more.

    Less: two one-sided Welch tests. More: the two-sided test of what the difference exceeds the margin by.
    """
    if not comparison.kind.is_comparable or not pairs or not phase.spreads:
        return set(), set()
    found = [phase.improvements[pair].difference for pair in pairs]
    room = np.array([np.nan if d is None else comparison.resolve - abs(d.point) for d in found])
    p_values = welch_p_values(room, *pair_spreads(phase.spreads, pairs))

    def passed(is_tested: np.ndarray, values: Array) -> set[Pair]:
        clear = holm(np.where(is_tested, values, 1)) <= SIGNIFICANT
        return {each for pair, is_one in zip(pairs, clear, strict=True) if is_one for each in (pair, pair[::-1])}

    return passed(room > 0, p_values / 2), passed(room < 0, p_values)


def steps_short(phase: Phase, first: ComparedMethod, second: ComparedMethod) -> tuple[int, int] | None:
    """Return the steps of own runs and the more that published ones had; None where a comparison is fair."""
    own, published = (first, second) if first.is_own else (second, first)
    if not own.is_own or published.is_own:
        return None
    steps, planned = (method.protocol_on(phase.tasks[0]).get(f"{phase.name}_steps") for method in (own, published))
    return (steps, planned) if steps and planned and steps < planned else None


def _subject(comparison: Comparison, phase: Phase) -> str | None:
    """Return what the verdict of a phase is about: the focus, or else the leading one of the methods with single runs.

    Where scores cannot be averaged, the one leads whose runs are most often better. None where nothing is compared.
    """
    compared = sorted({x for x, _ in phase.improvements})
    if comparison.focus in compared:
        return comparison.focus

    def score(name: str) -> float:
        if name in phase.aggregates:
            return phase.aggregates[name].estimates["mean"].point
        return sum(pair.probability.point for (x, _), pair in phase.improvements.items() if x == name)

    return max(compared, key=score, default=None)


def _outcome(comparison: Comparison, phase: Phase, family: Family, pair: Pair) -> Standing:
    """Return how the first method of a pair compares with the second."""
    if steps_short(phase, *(comparison.methods[name] for name in pair)):
        return Standing.NOT_COMPARABLE
    if pair not in family.p_values:
        return Standing.UNTESTED
    means = [phase.aggregates[name].estimates["mean"].point for name in pair if name in phase.aggregates]
    if comparison.kind.limits == FRACTION and means:
        if max(means) < LEAST_BEST:
            return Standing.BOTH_FAIL
        if min(means) > 1 - LEAST_BEST:
            return Standing.BOTH_SOLVE
    if family.is_clear(*pair):
        more, less, either = _OUTCOMES[1 if phase.improvements[pair].lead > 0 else -1]
        if not comparison.kind.is_comparable or pair in family.beyond:
            return more
        return less if pair in family.equivalent else either
    return Standing.EQUAL if pair in family.equivalent else Standing.UNCLEAR


def _rival(comparison: Comparison, subject: str | None, found: Sequence[Verdict]) -> Verdict | None:
    """Return the verdict on the best other method, or on the other own one of two."""
    methods = comparison.methods
    own = [v for v in found if methods[v.other].is_own and methods[str(subject)].is_own]
    return own[0] if len(own) == 1 else min(found, key=lambda v: v.improvement.lead, default=None)


def _changes(
    comparison: Comparison, phase: Phase, domain: str, subject: str, found: Sequence[Verdict]
) -> Iterator[Change]:
    """Yield what is said otherwise without the tasks of a domain: who leads, or an outcome that is or was clear."""
    _, leader, verdicts = _verdicts(comparison, without_tasks(phase, by_domain(phase.tasks)[domain]))
    if leader != subject:
        yield Change(domain, str(leader), "", LEADS)
        return
    after = {v.other: v for v in verdicts}
    for v in found:
        if v.outcome != after[v.other].outcome and (v.outcome.is_clear or after[v.other].outcome.is_clear):
            yield Change(domain, v.other, v.outcome, after[v.other].outcome)


def without_tasks(phase: Phase, tasks: Collection[str]) -> Phase:
    """Return what decides a verdict on the other tasks of a phase: means, differences and their p values."""
    before, pairs = sorted(phase.tasks), list(phase.improvements)
    kept = [task for task in before if task not in tasks]
    is_kept = np.isin(before, kept)
    means = {name: float(np.mean([scores[task].mean() for task in kept])) for name, scores in phase.scores.items()}
    spreads = {name: Spread(s.variances[is_kept], s.seeds[is_kept]) for name, s in phase.spreads.items()}
    points = [means[x] - means[y] for x, y in pairs]
    p_values = welch_p_values(np.array(points), *pair_spreads(spreads, pairs)).tolist()
    return replace(
        phase,
        tasks=tuple(kept),
        spreads=spreads,
        aggregates={n: replace(phase.aggregates[n], estimates={"mean": Estimate(mean)}) for n, mean in means.items()},
        improvements={
            pair: replace(phase.improvements[pair], difference=Estimate(point), p_value=None if np.isnan(p) else p)
            for pair, point, p in zip(pairs, points, p_values, strict=True)
        },
    )
