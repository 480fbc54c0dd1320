"""Significance tests and verdicts of one phase.

A phase has one family of tests: the method in focus against every other method or, without a focus, all pairs of
methods. Holm's correction keeps the probability of any false "better" or "worse" at 5% or less. Intervals of
differences have the level of the step at which Holm's procedure stops, so that an interval excludes 0 exactly if its
pair is significant. Intervals for "equal" have an error rate of 5% divided by the number of tests. A false "equal"
needs the interval to miss the difference on one particular side, which has half that probability, so the probability of
any false "equal" is at most 2.5%.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import special, stats

from agents.common.validation import count
from zoo.report.bootstrap import probabilities_of_improvement
from zoo.report.comparison import (
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
    mean,
    seeds_needed,
)
from zoo.runs.folder import PHASES


@dataclass(frozen=True)
class Evidence:
    """The evidence for the verdicts of a phase.

    :param scores: method -> common task -> scores, (runs,); only methods whose single runs are known.
    :param means: method -> its mean over the common tasks; empty if scores cannot be averaged.
    """

    scores: Mapping[str, Scores]
    means: Mapping[str, Mean]

    def p_value(self, pair: Pair) -> float | None:
        """Return the two-sided p value of the hypothesis of equal scores; None if the variance of runs is unknown."""
        x, y = pair
        if self.means:
            return (self.means[x] - self.means[y]).p_value()
        return rank_p_value(self.scores[x], self.scores[y])


def decide(comparison: Comparison, phase: Phase, evidence: Evidence, reps: int) -> Phase:
    """Return a phase with its decision."""
    ranked = [name for name in ranking(phase) if name in evidence.scores]
    if not ranked:
        return phase
    subject = _subject(comparison, evidence, ranked)
    p_values = _p_values(comparison, phase, evidence)
    # the level of the step at which Holm's procedure stops, so that intervals agree with verdicts
    level = SIGNIFICANT / max(1, sum(p > SIGNIFICANT for p in p_values.values()))
    ranked.remove(subject)
    fair = {
        name: evidence.scores[name]
        for name in ranked
        if are_comparable(phase, comparison.methods, subject, name)
    }
    chances = probabilities_of_improvement(evidence.scores[subject], fair, reps)
    verdicts = [
        _verdict(comparison, evidence, level, p_values, subject, name, chances.get(name))
        for name in ranked
    ]
    comparable = [v for v in verdicts if v.outcome != Outcome.NOT_COMPARABLE]
    rival = min(comparable, key=lambda v: v.lead, default=None)
    needed = None
    if (
        evidence.means
        and rival
        and rival.outcome == Outcome.UNDECIDED
        and rival.p_value is not None
    ):
        pair = subject, rival.method
        needed = seeds_needed(
            [evidence.means[name] for name in pair],
            # the smallest number of runs on any task
            [min(map(len, evidence.scores[name].values())) for name in pair],
            comparison.margin,
            level,
            SIGNIFICANT / len(p_values),
        )
    tested = ""
    if p_values:
        test = "t-test of the difference of means" if evidence.means else "rank test over tasks"
        scope = f"with {subject}" if comparison.focus == subject else "between all methods"
        tests = count(len(p_values), "comparison")
        tested = f"{test}, significant at 5% after Holm's correction for the {tests} {scope}"
    return replace(phase, decision=Decision(subject, tested, level, verdicts, rival, needed))


def _p_values(comparison: Comparison, phase: Phase, evidence: Evidence) -> dict[Pair, float]:
    """Return pair -> p value after Holm's correction, for the family of tests; names in a pair are sorted."""
    family = list(combinations(sorted(evidence.scores), 2))
    family = [pair for pair in family if are_comparable(phase, comparison.methods, *pair)]
    # a leader is chosen by the scores, so its family contains all pairs; a focus is chosen regardless of scores
    if comparison.focus in evidence.scores:
        family = [pair for pair in family if comparison.focus in pair]
    p_values = {pair: evidence.p_value(pair) for pair in family}
    # impossible tests do not count towards the family's size, on which the correction depends
    tested = {pair: p for pair, p in p_values.items() if p is not None}
    return dict(zip(tested, holm([*tested.values()]), strict=True))


def _subject(comparison: Comparison, evidence: Evidence, ranked: Sequence[str]) -> str:
    """Return the subject of the verdicts: the focus, otherwise the leader of the methods whose single runs are known.

    If scores cannot be averaged, the method with the highest sum of probabilities of improvement leads.

    :param ranked: the methods whose single runs are known, in the order of `ranking`.
    """
    if comparison.focus in ranked:
        return str(comparison.focus)
    if evidence.means:
        return ranked[0]

    def score(name: str) -> float:
        chances = probabilities_of_improvement(evidence.scores[name], evidence.scores, reps=0)
        return sum(chance.point for chance in chances.values())

    return max(ranked, key=score)


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

    :param level: two-sided level of the difference's interval.
    :param p_values: pair -> p value after Holm's correction, for the family of tests.
    :param chance: probability of improvement; None if the two are not comparable.
    """
    if chance is None:
        return Verdict(rival, Outcome.NOT_COMPARABLE)
    low, high = sorted((subject, rival))
    p_value = p_values.get((low, high))
    verdict = Verdict(rival, Outcome.UNDECIDED, None, None, chance, p_value)
    lead = None
    if evidence.means:
        lead = evidence.means[subject] - evidence.means[rival]
        lowest, highest = comparison.kind.limits
        limits = (lowest - highest, highest - lowest)
        # the limits clip intervals of differences, e.g. to 100 points for success rates
        difference = lead.curve(limits, level).estimate()
        # an interval over tasks: the differences on the tasks take the place of runs
        x, y = evidence.scores[subject], evidence.scores[rival]
        by_task = np.array([x[t].mean() - y[t].mean() for t in x])
        tasks = mean({"": by_task}).curve(limits).estimate()
        verdict = replace(verdict, difference=difference, over_tasks=tasks)
    if p_value is None:  # not tested
        return verdict
    if p_value <= SIGNIFICANT:
        outcome = Outcome.BETTER if verdict.lead > 0 else Outcome.WORSE
        return replace(verdict, outcome=outcome)
    if lead is not None:
        # do not test equality at `level`: it grows with each significant pair, so a false "equal" would be more likely
        half_width = lead.half_widths(SIGNIFICANT / len(p_values))[0]
        if abs(verdict.lead) + half_width < comparison.margin:
            return replace(verdict, outcome=Outcome.EQUAL)
    return verdict


def are_comparable(phase: Phase, methods: Methods, x: str, y: str) -> bool:
    """Return whether a comparison is fair: the user's runs must be at least as long as published ones."""
    users, published = sorted((methods[x], methods[y]), key=lambda method: not method.is_own)
    if users.is_own == published.is_own:
        return True
    for task in phase.tasks:
        expected = published.protocol_on(task)
        parts = [phase.name]
        steps = expected.get(f"{phase.name}_steps") or 0  # 0 if unknown
        if "last_step" in expected:
            parts = ["pretraining", *PHASES]
            steps = expected["last_step"]
        protocol = users.protocol_on(task)
        if sum(protocol.get(f"{part}_steps") or 0 for part in parts) < steps:
            return False
    return True


def rank_p_value(x: Scores, y: Scores) -> float | None:
    """Return the two-sided p value of the hypothesis of equal scores; None if a method has only one run on a task.

    This is the Wilcoxon-Mann-Whitney test with ties, summed over tasks with equal weights. The statistic is P(X > Y)
    minus one half, divided by its standard deviation under random permutations of each task's runs; its distribution is
    approximated as normal. Unlike the bootstrap, the test does not estimate a variance from few seeds.
    """
    away = 0.0
    variance = 0.0
    for task, runs in x.items():
        count_x = len(runs)
        count_y = len(y[task])
        if min(count_x, count_y) < 2:
            return None
        ranks = stats.rankdata(np.append(runs, y[task]))
        # the ranks of x's runs among all runs, minus their ranks among themselves, count the runs of y below them
        away += (ranks[:count_x].mean() - (count_x + 1) / 2) / count_y - 0.5
        variance += ranks.var(ddof=1) / ((count_x + count_y) * count_x * count_y)
    return 2 * float(special.ndtr(-abs(away) / np.sqrt(variance))) if variance else 1.0
