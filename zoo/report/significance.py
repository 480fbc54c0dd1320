"""What the numbers of a phase decide: which methods clearly differ, and the verdicts on one of them.

A phase has one family of tests: those of the method in focus against each other one, or without a focus all pairs of
methods. Holm's correction keeps the chance of any false "better" or "worse" at 5%. Intervals of differences have the
level of Holm's last step, so that an interval excludes 0 exactly where its pair is clear. "Equal" is tested at 5%
divided by the number of tests, one side of which can fail: the chance of any false one is 2.5%.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    Improvement,
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
    """Return a phase with the differences of its methods, and what they decide."""
    pairs = list(combinations(sorted(evidence.scores), 2))
    pairs = [pair for pair in pairs if are_comparable(phase, comparison.methods, *pair)]
    family = pairs
    # a leader is chosen by its scores, so that all pairs belong to its family; a focus is chosen before
    if comparison.focus in evidence.scores:
        family = [pair for pair in pairs if comparison.focus in pair]
    p_values = {pair: evidence.p_value(pair) for pair in family}
    # a test that cannot be made is none of the family, whose size the correction depends on
    tested = {pair: p for pair, p in p_values.items() if p is not None}
    adjusted = dict(zip(tested, holm([*tested.values()]).tolist(), strict=True))
    chances = {
        name: probabilities_of_improvement(scores, evidence.scores, reps=0)
        for name, scores in evidence.scores.items()
    }
    improvements = {}
    for x, y in pairs:
        chance = chances[x][y].point
        difference = evidence.difference((x, y))
        lead = None if difference is None else float(difference.points[0])
        p_value = adjusted.get((x, y))
        improvements[x, y] = Improvement(chance, lead, p_value)
        improvements[y, x] = Improvement(1 - chance, None if lead is None else -lead, p_value)
    phase = replace(phase, improvements=improvements)
    return replace(phase, decision=_decision(comparison, phase, evidence, adjusted))


def _decision(
    comparison: Comparison, phase: Phase, evidence: Evidence, p_values: Mapping[Pair, float]
) -> Decision:
    """Return the decision of a phase from the p values of its family of tests, after Holm's correction."""
    subject = _subject(comparison, phase, evidence)
    if subject is None or len(evidence.scores) < 2:
        return Decision(subject)
    # Holm rejects up to this level, and nothing that it does not reject is below: intervals agree with the words
    level = SIGNIFICANT / max(1, sum(p > SIGNIFICANT for p in p_values.values()))
    ranked = [name for name in ranking(comparison, phase) if name in evidence.scores]
    fair = {y: evidence.scores[y] for x, y in phase.improvements if x == subject}
    chances = probabilities_of_improvement(evidence.scores[subject], fair, comparison.reps)
    verdict = partial(_verdict, comparison, phase, evidence, level, len(p_values), subject)
    verdicts = [verdict(name, chances.get(name)) for name in ranked if name != subject]
    rival = _rival(comparison, phase, subject, verdicts)
    needed = None
    if rival and rival.outcome == Outcome.UNDECIDED and rival.p_value is not None:
        needed = _seeds_needed(comparison, evidence, (subject, rival.method), level)
    tested = ""
    if p_values:
        test = "t-test of the difference of means" if evidence.means else "rank test over tasks"
        scope = f"with {subject}" if comparison.focus == subject else "between all methods"
        tests = count(len(p_values), "comparison")
        tested = f"{test}, 5% after Holm's correction for the {tests} {scope}"
    return Decision(subject, tested, level, verdicts, rival, needed)


def _subject(comparison: Comparison, phase: Phase, evidence: Evidence) -> str | None:
    """Return what the verdict of a phase is about: the focus, or else the leading one of the methods with single runs.

    Where scores cannot be averaged, the one leads whose runs are most often better.
    """
    if comparison.focus in evidence.scores:
        return comparison.focus

    def score(name: str) -> float:
        if evidence.means:
            return float(evidence.means[name].points[0])
        pairs = phase.improvements.items()
        return sum(pair.probability for (x, _), pair in pairs if x == name)

    # of equal scores the first by name leads, in whatever order the methods were read
    return max(sorted(evidence.scores), key=score, default=None)


def _verdict(
    comparison: Comparison,
    phase: Phase,
    evidence: Evidence,
    level: float,
    tests: int,
    subject: str,
    rival: str,
    chance: Estimate | None,
) -> Verdict:
    """Return the verdict on a pair, of which a probability of improvement is known.

    :param level: of the difference's interval.
    :param tests: the number of tests in the family.
    """
    improvement = phase.improvements.get((subject, rival))
    if improvement is None:
        return Verdict(rival, Outcome.NOT_COMPARABLE)
    x, y = evidence.scores[subject], evidence.scores[rival]
    p_value = improvement.p_value
    difference: Estimate | None = None
    tasks: Estimate | None = None
    mean = evidence.difference((subject, rival))
    outcome = Outcome.UNDECIDED
    if p_value is not None and p_value <= SIGNIFICANT:
        outcome = Outcome.BETTER if improvement.lead > 0 else Outcome.WORSE
    if mean is not None:
        low, high = comparison.kind.limits
        limits = (low - high, high - low)
        # a difference of success rates is at most 100 points
        difference = mean.curve(limits, level).estimate()
        tasks = over_tasks(np.array([x[t].mean() - y[t].mean() for t in x]), limits).estimate()
        # not at `level`, which grows with each difference that is clear: then a false "equal" would be more likely
        reach = abs(difference.point) + mean.half_widths(SIGNIFICANT / max(1, tests))[0]
        if outcome == Outcome.UNDECIDED and comparison.kind.is_comparable and reach < MARGIN:
            outcome = Outcome.EQUAL
    return Verdict(rival, outcome, difference, tasks, chance, p_value)


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


def _rival(
    comparison: Comparison, phase: Phase, subject: str, verdicts: Sequence[Verdict]
) -> Verdict | None:
    """Return the verdict on the baseline, or else on the best other method."""
    comparable = [v for v in verdicts if v.outcome != Outcome.NOT_COMPARABLE]
    for verdict in comparable:
        if verdict.method == comparison.baseline:
            return verdict
    return min(comparable, key=lambda v: phase.improvements[subject, v.method].lead, default=None)


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
