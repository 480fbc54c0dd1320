"""How every method compares with every other on the same tasks: differences of means, and ranks of single runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations, product

import numpy as np
from scipy import special, stats

from zoo.report.statistics.bootstrap import Draws, drawn_together, estimated
from zoo.report.statistics.estimates import (
    SIGNIFICANT,
    Array,
    Counts,
    Estimate,
    Improvement,
    Pair,
    Range,
    WinLoss,
    holm,
    p_value_or_none,
    welch_curve,
    welch_p_values,
)
from zoo.report.statistics.means import FRACTION, Samples, Scores, pair_spreads, tasks_by_runs


def improvements(
    scores: Mapping[str, Scores],
    samples: Samples,
    reps: int,
    limits: Range = FRACTION,
    with_difference: bool = True,
) -> dict[Pair, Improvement]:
    """Return how X compares with Y, for all ordered pairs of methods.

    :param scores: method -> task -> (runs,); all methods have the same tasks.
    :param samples: what these scores say of means and variances.
    :param with_difference: whether scores may be averaged over tasks; else a test of ranks says whether methods differ.
    """
    pairs = list(combinations(sorted(scores), 2))
    if not pairs:
        return {}
    means = samples["mean"]
    task_differences = np.array([means[x] - means[y] for x, y in pairs]).T  # (tasks, pairs)
    variances, seeds = pair_spreads(samples, pairs)
    largest = limits[1] - limits[0]
    differences = welch_curve(task_differences.mean(axis=0), variances, seeds, (-largest, largest))
    if with_difference:
        p_values = welch_p_values(differences.points, variances, seeds)
    else:  # tasks without a common scale are tested by ranks, which need none
        p_values = np.array([rank_p_value(scores[x], scores[y]) for x, y in pairs])
    decided = _decided_tasks(task_differences, variances, seeds)
    chance = probabilities(scores, reps)
    result = {}
    for k, pair in enumerate(pairs):
        won = int((decided[:, k] > 0).sum())
        lost = int((decided[:, k] < 0).sum())
        result[pair] = Improvement(
            probability=chance[pair],
            difference=differences.estimate(k) if with_difference else None,
            p_value=p_value_or_none(p_values[k]),
            tasks=WinLoss(won, lost, undecided=len(decided) - won - lost),
        )
        result[pair[::-1]] = result[pair].reversed
    return result


def _decided_tasks(differences: Array, variances: Array, seeds: Counts) -> Array:
    """Return the difference of means of each task and pair, 0 where it may be chance, shape (tasks, pairs).

    Holm's correction is for the tasks of a pair.

    :param differences: X minus Y, shape (tasks, pairs).
    :param variances: as `pair_spreads` returns them, like `seeds`: the tasks of X, then those of Y, (2 tasks, pairs).
    """
    # one test for each task and pair, of two means: (2, tasks * pairs). The weight of a task, 1 / tasks, is undone.
    variances = (variances * len(differences) ** 2).reshape(2, -1)
    p_values = welch_p_values(differences.ravel(), variances, seeds.reshape(2, -1))
    is_significant = holm(p_values.reshape(differences.shape)) <= SIGNIFICANT
    return np.where(is_significant, differences, 0)


def probabilities(scores: Mapping[str, Scores], reps: int) -> dict[Pair, Estimate]:
    """Return P(X > Y), ties counted half, averaged over tasks, for every ordered pair of methods with the same tasks.

    It is `rliable.metrics.probability_of_improvement`, which calls SciPy's test of ranks for each pair, task and
    resample; counts of all runs at each score give the same for all of them. Methods are resampled independently: run j
    of one has nothing to do with run j of another.
    """
    names = sorted(scores)
    tasks = list(scores[names[0]])
    strata = []
    shapes = []
    for methods in drawn_together(scores):
        for runs, tasks_of_block in tasks_by_runs(scores[methods[0]]).items():
            strata.append((methods, tasks_of_block))
            # as in `blocks_of`: aggregates of last scores have the same resamples
            shapes.append((runs, len(tasks_of_block), len(methods)))

    def chances(*draws: Draws) -> Array:
        drawn_runs = {}
        for (methods, tasks_of_block), drawn in zip(strata, draws, strict=True):
            for (m, name), (t, task) in product(enumerate(methods), enumerate(tasks_of_block)):
                drawn_runs[name, task] = drawn[m, :, :, t]
        reps = draws[0].shape[1]
        total = np.zeros((reps, len(names), len(names)))
        for task in tasks:
            values = [scores[name][task] for name in names]
            levels = np.unique(np.concatenate(values))
            at_level = np.empty((len(names), reps, len(levels)), np.float32)
            below = np.empty_like(at_level)
            for m, name in enumerate(names):
                runs = values[m][:, None]
                is_at = (runs == levels).astype(np.float32)
                # of one task at a time: as floats, the counts of all tasks would take most of a report's memory
                drawn = drawn_runs[name, task].astype(np.float32)
                # exact in any order of sums: halves of whole numbers far below the 24 bits of a float32
                np.matmul(drawn, is_at, out=at_level[m])
                np.matmul(drawn, (runs < levels) + is_at / 2, out=below[m])
            wins = at_level.transpose(1, 0, 2) @ below.transpose(1, 2, 0)
            counts = [*map(len, values)]
            total += wins / np.multiply.outer(counts, counts)
        return (total / len(tasks)).reshape(reps, -1)

    curve = estimated(shapes, chances, reps, min_runs=1)
    result = {}
    for k, (x, y) in enumerate(product(names, repeat=2)):
        result[x, y] = curve.estimate(k)
        if min(map(len, [*scores[x].values(), *scores[y].values()])) < 2:
            result[x, y] = Estimate(result[x, y].point)  # the runs of one method alone vary
    return result


def rank_p_value(x: Scores, y: Scores) -> float:
    """Return the two-sided p value of runs of two methods scoring alike; NaN where a task has one run.

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
            return math.nan
        ranks = stats.rankdata(np.append(runs, y[task]))
        # the mean rank of x among all runs, less that among its own, is the number of runs of y below one of x
        away += (ranks[:count_x].mean() - (count_x + 1) / 2) / count_y - 0.5
        variance += ranks.var(ddof=1) / ((count_x + count_y) * count_x * count_y)
    return 2 * special.ndtr(-abs(away) / math.sqrt(variance)) if variance else 1.0
