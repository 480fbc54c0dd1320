"""Which pairs of methods are clearly different: the one family of tests of a phase, behind every such word and mark.

With a method in focus the family is its comparisons with each of the others; without one it is all pairs of methods.
Each pair has one test, that of its `Improvement`. Holm's correction keeps the chance of any false word at 5%. So it is
with the words "equivalent", whose test is that a difference is as large as one that matters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from zoo.report.comparison import Comparison, Phase, ranking
from zoo.report.statistics.aggregates import Scores
from zoo.report.statistics.estimates import SIGNIFICANT, Estimate, holm, welch_half_width, welch_p_values
from zoo.report.statistics.improvement import Spread, pair_spreads
from zoo.runs.protocol import count
from zoo.runs.scores import RETURN


@dataclass(frozen=True)
class Family:
    """The tests of one phase that belong together.

    :param focus: the method that each of them is about; None for all pairs.
    :param p_values: (X, Y) -> two-sided p value after Holm's correction, both directions of each pair. A pair whose
        test cannot be made, because a task has one run, is missing.
    :param test: how it is tested, in words.
    :param equivalent: the pairs (X, Y) whose means clearly differ by less than `Comparison.resolve`, both directions.
    """

    focus: str | None
    p_values: Mapping[tuple[str, str], float]
    test: str
    equivalent: Collection[tuple[str, str]] = ()

    def is_clear(self, x: str, y: str) -> bool:
        """Return whether two methods are clearly different; never where that is not tested."""
        return self.p_values.get((x, y), 1.0) <= SIGNIFICANT

    def describe(self) -> str:
        """Return the test and its correction in words, to stand where something is called better or clear."""
        size = count(len(self.p_values) // 2, "comparison")
        of = "between all methods" if self.focus is None else f"with {self.focus}"
        return f"{self.test}, 5% after Holm's correction for the {size} {of}"


def family_of(comparison: Comparison, phase: Phase) -> Family:
    """Return the tests that a comparison makes in one phase."""
    found = phase.improvements
    focus = comparison.focus if any(comparison.focus in pair for pair in found) else None
    pairs = [(x, y) for x, y in found if (x < y if focus is None else x == focus)]
    tested = {pair: p for pair in pairs if (p := found[pair].p_value) is not None}
    adjusted = dict(zip(tested, holm(list(tested.values()), len(tested)).tolist(), strict=True))
    test = "Welch's t-test of the difference of means"
    if any(pair.difference is None for pair in found.values()):
        test = "Wilcoxon-Mann-Whitney test over tasks"
    title = None if focus is None else comparison.methods[focus].title
    equivalent = _equivalent(comparison, phase, list(tested))
    equivalent |= {(y, x) for x, y in equivalent}
    return Family(title, adjusted | {(y, x): p for (x, y), p in adjusted.items()}, test, equivalent)


def _equivalent(comparison: Comparison, phase: Phase, pairs: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the pairs that pass two one-sided Welch tests of the margin, after Holm's correction for all of them."""
    if comparison.kind is RETURN or not pairs or not phase.spreads:
        return set()
    found = [phase.improvements[pair].difference for pair in pairs]
    room = np.array([-np.inf if d is None else comparison.resolve - abs(d.point) for d in found])
    p_values = np.where(room > 0, welch_p_values(room, *pair_spreads(phase.spreads, pairs)) / 2, 1)
    is_equivalent = holm(p_values, len(pairs)) <= SIGNIFICANT
    return {pair for pair, inside in zip(pairs, is_equivalent, strict=True) if inside}


def subject_of(comparison: Comparison, phase: Phase) -> str | None:
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


def without_tasks(phase: Phase, tasks: Collection[str]) -> Phase:
    """Return what a phase says about means and their differences on its other tasks."""
    kept = [task for task in sorted(phase.tasks) if task not in tasks]
    places = [k for k, task in enumerate(sorted(phase.tasks)) if task not in tasks]
    means = {name: float(np.mean([scores[task].mean() for task in kept])) for name, scores in phase.scores.items()}
    spreads = {name: Spread(s.variances[places], s.seeds[places]) for name, s in phase.spreads.items()}
    pairs = list(phase.improvements)
    variances, seeds = pair_spreads(spreads, pairs)
    differences = np.array([means[x] - means[y] for x, y in pairs])
    halves, p_values = welch_half_width(variances, seeds), welch_p_values(differences, variances, seeds)
    return replace(
        phase,
        tasks=tuple(kept),
        spreads=spreads,
        aggregates={n: replace(phase.aggregates[n], estimates={"mean": Estimate(mean)}) for n, mean in means.items()},
        improvements={
            pair: replace(
                phase.improvements[pair],
                difference=Estimate(d, (d - half, d + half), "t"),
                p_value=None if np.isnan(p) else p,
            )
            for pair, d, half, p in zip(pairs, differences.tolist(), halves.tolist(), p_values.tolist(), strict=True)
        },
    )


def rank_p_values(scores: Mapping[str, Scores], pairs: Sequence[tuple[str, str]]) -> list[float | None]:
    """Return the two-sided p value of each pair of methods that their runs score alike on every task.

    It is None where a task has one run.

    It is the Wilcoxon-Mann-Whitney test with ties, summed over tasks that count equally: P(X > Y) minus one half, over
    its standard deviation where every division of a task's runs into two groups is equally likely. Unlike the bootstrap
    it takes no variance from the few seeds that there are. The normal distribution stands in for the exact one.
    """
    names = sorted(scores)
    tasks = sorted(scores[names[0]])
    chances, variances = np.zeros((2, len(names), len(names)))
    for task in tasks:
        runs = [scores[name][task] for name in names]
        sizes = np.array([len(found) for found in runs])
        levels, level = np.unique(np.concatenate(runs), return_inverse=True)
        tally = np.zeros((len(names), len(levels)))  # how many runs of each method have each score
        np.add.at(tally, (np.repeat(np.arange(len(names)), sizes), level.ravel()), 1)
        meetings, total = np.outer(sizes, sizes), np.add.outer(sizes, sizes)
        chances += tally @ (tally.cumsum(axis=1) - tally / 2).T / meetings
        cubes = (tally**3).sum(axis=1)
        mixed = tally**2 @ tally.T
        ties = np.add.outer(cubes, cubes) + 3 * (mixed + mixed.T) - total
        variances += (total + 1 - ties / (total * (total - 1))) / (12 * meetings)
    x, y = ([names.index(name) for name in side] for side in zip(*pairs, strict=True))
    away, spread = np.abs(chances - len(tasks) / 2)[x, y], np.sqrt(variances)[x, y]
    found = 2 * special.ndtr(-np.divide(away, spread, out=np.zeros_like(away), where=spread > 0))
    alone = {name for name in names if min(map(len, scores[name].values())) < 2}
    return [None if alone & {*pair} else float(p) for pair, p in zip(pairs, found, strict=True)]


def compared_methods(comparison: Comparison, phase: Phase) -> list[str]:
    """Return the methods of a matrix of all pairs in the order of `ranking`; none where there are too few."""
    names = [name for name in ranking(comparison, phase) if any(name in pair for pair in phase.improvements)]
    return names if len(names) > 2 else []  # two are one pair, which the table of improvements has already
