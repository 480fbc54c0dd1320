"""What the numbers of a phase decide: which methods clearly differ, and the verdicts on one of them.

A phase has one family of tests: those of the method in focus against each other one, or without a focus all pairs of
methods. Holm's correction keeps the chance of any false "better" or "worse" at 5%. Intervals of differences have the
level of Holm's last step, so that an interval excludes 0 exactly where its pair is clear. "Equal" is tested at 5%
divided by the number of tests, one side of which can fail: the chance of any false one is 2.5%.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations

import numpy as np
from scipy import special, stats

from agents.common.validation import count
from zoo.report.bootstrap import probabilities_of_improvement
from zoo.report.comparison import (
    MARGIN,
    Comparison,
    Decision,
    Methods,
    Outcome,
    Phase,
    Verdict,
    ranking,
)
from zoo.report.statistics import (
    SIGNIFICANT,
    Estimate,
    Mean,
    Pair,
    Scores,
    holm,
    over_tasks,
    seeds_needed,
)


@dataclass(frozen=True)
class Evidence:
    """What decides a phase.

    :param scores: method with single runs -> task -> (runs,), on the tasks that all have.
    :param means: method -> its mean over these tasks; empty where scores cannot be averaged.
    """

    scores: Mapping[str, Scores]
    means: Mapping[str, Mean]

    def difference(self, pair: Pair) -> Mean | None:
        """Return the difference of means of X and Y, or None where scores cannot be averaged."""
        x, y = pair
        return self.means[x] - self.means[y] if self.means else None

    def p_value(self, pair: Pair) -> float | None:
        """Return the two-sided p value of X and Y scoring alike; None where nothing says how runs vary."""
        x, y = pair
        difference = self.difference(pair)
        if difference is None:
            return rank_p_value(self.scores[x], self.scores[y])
        return difference.p_value()


def decide(comparison: Comparison, phase: Phase, evidence: Evidence) -> Phase:
    """Return a phase with what its numbers decide."""
    subject = _subject(comparison, evidence)
    if subject is None or len(evidence.scores) < 2:
        return replace(phase, decision=Decision(subject))
    p_values = _p_values(comparison, phase, evidence)
    # Holm rejects up to this level, and nothing that it does not reject is below: intervals agree with the words
    level = SIGNIFICANT / max(1, sum(p > SIGNIFICANT for p in p_values.values()))
    ranked = [name for name in ranking(comparison, phase) if name in evidence.scores]
    # sorted: resamples are drawn in this order, whatever the scores
    fair = {
        name: evidence.scores[name]
        for name in sorted(ranked)
        if name != subject and are_comparable(phase, comparison.methods, subject, name)
    }
    chances = probabilities_of_improvement(evidence.scores[subject], fair, comparison.reps)
    verdict = partial(_verdict, comparison, evidence, level, p_values, subject)
    verdicts = [verdict(name, chances.get(name)) for name in ranked if name != subject]
    comparable = [v for v in verdicts if v.outcome != Outcome.NOT_COMPARABLE]
    rival = min(comparable, key=lambda v: v.lead, default=None)
    needed = None
    if rival and rival.outcome == Outcome.UNDECIDED and rival.p_value is not None:
        needed = _seeds_needed(comparison, evidence, (subject, rival.method), level)
    tested = ""
    if p_values:
        test = "t-test of the difference of means" if evidence.means else "rank test over tasks"
        scope = f"with {subject}" if comparison.focus == subject else "between all methods"
        tests = count(len(p_values), "comparison")
        tested = f"{test}, 5% after Holm's correction for the {tests} {scope}"
    return replace(phase, decision=Decision(subject, tested, level, verdicts, rival, needed))


def _p_values(comparison: Comparison, phase: Phase, evidence: Evidence) -> dict[Pair, float]:
    """Return the p values of the family of tests, after Holm's correction; pairs are sorted by name."""
    family = list(combinations(sorted(evidence.scores), 2))
    family = [pair for pair in family if are_comparable(phase, comparison.methods, *pair)]
    # a leader is chosen by its scores, so that all pairs belong to its family; a focus is chosen before
    if comparison.focus in evidence.scores:
        family = [pair for pair in family if comparison.focus in pair]
    p_values = {pair: evidence.p_value(pair) for pair in family}
    # a test that cannot be made is none of the family, whose size the correction depends on
    tested = {pair: p for pair, p in p_values.items() if p is not None}
    return dict(zip(tested, holm([*tested.values()]).tolist(), strict=True))


def _subject(comparison: Comparison, evidence: Evidence) -> str | None:
    """Return what the verdict of a phase is about: the focus, or else the leading one of the methods with single runs.

    Where scores cannot be averaged, the one leads whose runs are most often better.
    """
    if comparison.focus in evidence.scores:
        return comparison.focus

    def score(name: str) -> float:
        if evidence.means:
            return float(evidence.means[name].points[0])
        chances = probabilities_of_improvement(evidence.scores[name], evidence.scores, reps=0)
        return sum(chance.point for chance in chances.values())

    # of equal scores the first by name leads, in whatever order the methods were read
    return max(sorted(evidence.scores), key=score, default=None)


def _verdict(
    comparison: Comparison,
    evidence: Evidence,
    level: float,
    p_values: Mapping[Pair, float],
    subject: str,
    rival: str,
    chance: Estimate | None,
) -> Verdict:
    """Return the verdict on a pair.

    :param level: of the difference's interval.
    :param p_values: of the family of tests, after Holm's correction.
    :param chance: the probability of improvement; None where the two are not comparable.
    """
    if chance is None:
        return Verdict(rival, Outcome.NOT_COMPARABLE)
    x, y = evidence.scores[subject], evidence.scores[rival]
    low, high = sorted((subject, rival))
    verdict = Verdict(rival, Outcome.UNDECIDED, None, None, chance, p_values.get((low, high)))
    mean = evidence.difference((subject, rival))
    is_equal = False
    if mean is not None:
        lowest, highest = comparison.kind.limits
        limits = (lowest - highest, highest - lowest)
        # a difference of success rates is at most 100 points
        difference = mean.curve(limits, level).estimate()
        tasks = over_tasks(np.array([x[t].mean() - y[t].mean() for t in x]), limits).estimate()
        verdict = replace(verdict, difference=difference, over_tasks=tasks)
        # not at `level`, which grows with each difference that is clear: then a false "equal" would be more likely
        reach = abs(difference.point) + mean.half_widths(SIGNIFICANT / max(1, len(p_values)))[0]
        is_equal = comparison.kind.is_comparable and bool(reach < MARGIN)
    if verdict.p_value is not None and verdict.p_value <= SIGNIFICANT:
        outcome = Outcome.BETTER if verdict.lead > 0 else Outcome.WORSE
        return replace(verdict, outcome=outcome)
    return replace(verdict, outcome=Outcome.EQUAL) if is_equal else verdict


def _seeds_needed(
    comparison: Comparison, evidence: Evidence, pair: Pair, level: float
) -> int | None:
    """Return how many seeds of each method would decide a pair; None where ranks are tested."""
    difference = evidence.difference(pair)
    if difference is None:
        return None
    # the fewest runs of a task say how many there are today
    runs = [len(scores) for name in pair for scores in evidence.scores[name].values()]
    margin = MARGIN if comparison.kind.is_comparable else None
    return seeds_needed(difference, min(runs), margin, level)


def are_comparable(phase: Phase, methods: Methods, x: str, y: str) -> bool:
    """Return whether a comparison is fair: own runs of fewer steps than published ones would lose for that alone."""
    steps: dict[bool, int] = {}
    for name in (x, y):
        protocol = methods[name].protocol_on(phase.tasks[0])
        steps[methods[name].is_own] = protocol.get(f"{phase.name}_steps") or 0
    if len(steps) == 1 or not all(steps.values()):
        return True  # both are own, or both are published, or one does not say
    return steps[True] >= steps[False]


def rank_p_value(x: Scores, y: Scores) -> float | None:
    """Return the two-sided p value of runs of two methods scoring alike; None where a task has one run.

    It is the Wilcoxon-Mann-Whitney test with ties, summed over tasks that count equally: P(X > Y) minus one half, over
    its standard deviation where every division of a task's runs into two groups is equally likely. Unlike the bootstrap
    it takes no variance from the few seeds that there are. The normal distribution stands in for the exact one.
    """
    away = 0.0
    variance = 0.0
    for task, runs in x.items():
        count_x = len(runs)
        count_y = len(y[task])
        if min(count_x, count_y) < 2:
            return None
        ranks = stats.rankdata(np.append(runs, y[task]))
        # the mean rank of x among all runs, less that among its own, is the number of runs of y below one of x
        away += (ranks[:count_x].mean() - (count_x + 1) / 2) / count_y - 0.5
        variance += ranks.var(ddof=1) / ((count_x + count_y) * count_x * count_y)
    return 2 * float(special.ndtr(-abs(away) / np.sqrt(variance))) if variance else 1.0
