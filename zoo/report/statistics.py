"""Scores of runs, and their means with t-intervals.

These cover the truth more often than the bootstrap at any number of seeds (``benchmarks/results/history/coverage.md``).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Pair = tuple[str, str]
"""The names of two methods, X and Y."""
Range = tuple[float, float]
"""The lower and the upper end."""

SIGNIFICANT = 0.05
"""The largest p value, after a correction for many tests, that says that two methods differ."""
MIN_SEEDS = 5
"""With fewer seeds the percentile bootstrap is too narrow (coverage 0.87 at three seeds instead of 0.95)."""


@dataclass(frozen=True)
class Estimate:
    """A number and its interval, or None where the data allow none."""

    point: float
    interval: Range | None = None


@dataclass(frozen=True)
class Curve:
    """Estimates along an axis, e.g. one for each evaluation.

    :param points: the estimates, shape (K,).
    :param bounds: lower and upper bounds, shape (2, K), NaN where the data allow none.
    """

    points: Array
    bounds: Array

    def estimate(self, index: int = 0) -> Estimate:
        """Return one point with its interval, or without one that has no width: it would look certain."""
        point = float(self.points[index])
        low, high = self.bounds[:, index].tolist()
        if math.isnan(low) or math.isclose(low, high):
            return Estimate(point)
        return Estimate(point, (low, high))

    def table(self) -> pd.DataFrame:
        """Return the points, ``value``, with their intervals from ``low`` to ``high``, NaN where there is none."""
        low, high = self.bounds
        has_width = ~np.isclose(low, high, rtol=1e-9, atol=0)  # as `math.isclose` in `estimate`
        low, high = np.where(has_width, self.bounds, np.nan)
        return pd.DataFrame({"value": self.points, "low": low, "high": high})


def holm(p_values: Sequence[float] | Array) -> Array:
    """Return p values of one family of tests after Holm's step-down correction; at most 0.05 is significant at 5%."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values)
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    # a larger p value is never adjusted to less than a smaller one
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted


# -- means with t-intervals --------------------------------------------------------------------------------------------

Scores = Mapping[str, Array]
"""Scores of one method: task -> (runs,), or (runs, evaluations) for a curve.

A run counts once per task: average the episodes of an evaluation first. Methods that are compared have the same tasks
in the same order.
"""

Episodes = Mapping[str, int]
"""Task -> the number of episodes behind each of its success rates, the fewest where runs differ."""

FRACTION = (0.0, 1.0)
"""The limits of a success rate."""
MAX_PLANNED_SEEDS = 1 << 20
"""The largest number of seeds that is planned."""


@dataclass(frozen=True)
class Mean:
    """Means over tasks, or differences of two, at every evaluation, and how well they are known.

    All arrays have the shape (evaluations,), and are NaN where a task has one run.

    :param points: the means.
    :param errors: their standard errors.
    :param freedom: the degrees of freedom of their t-intervals.
    """

    points: Array
    errors: Array
    freedom: Array

    def __sub__(self, subtrahend: Mean) -> Mean:
        """Return the difference of two independent means.

        Its degrees of freedom are the smaller ones of the two: Welch's are more, and with three seeds beside twelve
        on one task find a difference of equal methods in up to 22% of all cases.
        """
        errors = np.hypot(self.errors, subtrahend.errors)
        freedom = np.minimum(self.freedom, subtrahend.freedom)
        return Mean(self.points - subtrahend.points, errors, freedom)

    def half_widths(self, level: float = SIGNIFICANT) -> Array:
        """Return half the widths of the t-intervals that belong to two-sided tests at a level."""
        return special.stdtrit(self.freedom, 1 - level / 2) * self.errors

    def curve(self, limits: Range, level: float = SIGNIFICANT) -> Curve:
        """Return the means with their point-wise intervals.

        :param limits: the least and the greatest value that a mean can have.
        """
        half = self.half_widths(level)
        return Curve(self.points, np.clip([self.points - half, self.points + half], *limits))

    def p_value(self) -> float | None:
        """Return the two-sided p value of the first mean being zero.

        None where its error is not known, or is zero: runs that agree exactly say nothing about other seeds.
        """
        error = self.errors[0]
        if not error > 0:
            return None
        return float(2 * special.stdtr(self.freedom[0], -abs(self.points[0]) / error))


def mean(scores: Scores, episodes: Episodes | None = None) -> Mean:
    """Return the mean over tasks of the means over runs, at every evaluation.

    The degrees of freedom are Satterthwaite's for the sample variances: the least variance of `seed_variances` makes
    intervals wider, and never claims that their width is better known.

    :param episodes: the number of episodes behind each success rate, see `seed_variances`.
    """
    # a column, since each task has as many runs at all evaluations
    runs = np.array([*map(len, scores.values())])[:, None]
    points = np.mean([np.atleast_1d(values.mean(axis=0)) for values in scores.values()], axis=0)
    errors = np.sqrt((seed_variances(scores, episodes) / runs).sum(axis=0)) / len(scores)
    # without the least variance, which is no sample and has no degrees of freedom
    parts = seed_variances(scores) / runs
    divisor = (parts**2 / np.maximum(runs - 1, 1)).sum(axis=0)
    # where all runs agree, as many as the task with the fewest runs has
    fewest = np.full(points.shape, max(runs.min() - 1.0, 1.0))
    freedom = np.divide(parts.sum(axis=0) ** 2, divisor, out=fewest, where=divisor > 0)
    return Mean(points, errors, freedom)


def seed_variances(scores: Scores, episodes: Episodes | None = None) -> Array:
    """Return the variance of one run of each task, shape (tasks, evaluations); NaN where a task has one run.

    It is the sample variance over runs. The success rate of m episodes has a variance of at least p (1 - p) / m even
    if all seeds are equally good, so that is the least it can be: runs that agree by chance are not exact. For p, two
    successes and two failures are added to all episodes of the task (Agresti and Coull 1998), since a rate of 0 or 1
    would claim to be exact again.

    :param episodes: task -> the number of episodes behind each of its scores; without them there is no least variance.
    """
    variances = []
    for task, values in scores.items():
        runs = values.reshape(len(values), -1)
        variance = np.full(runs.shape[1], np.nan)
        if len(runs) > 1:
            variance = runs.var(axis=0, ddof=1)
        if episodes is not None:
            total = len(runs) * episodes[task]
            rate = (runs.mean(axis=0) * total + 2) / (total + 4)
            variance = np.maximum(variance, rate * (1 - rate) / episodes[task])  # NaN stays
        variances.append(variance)
    return np.array(variances)


def over_tasks(differences: Array, limits: Range) -> Curve:
    """Return the mean of the differences of tasks with its t-interval for other tasks like these, shape (1,)."""
    count = len(differences)
    error = np.full(1, np.nan)  # one task says nothing about others
    if count > 1:
        error[:] = differences.std(ddof=1) / np.sqrt(count)
    points = differences.mean(keepdims=True)
    return Mean(points, error, np.full(1, max(count - 1.0, 1.0))).curve(limits)


def seeds_needed(difference: Mean, seeds: int, margin: float | None, level: float) -> int:
    """Return how many seeds of each of two methods would decide between them; more than `MAX_PLANNED_SEEDS` if none do.

    It assumes that the difference stays as it is and that runs go on to vary as they do: then its interval excludes 0,
    or lies within the margin.

    :param difference: of the means of the two methods; its error is known.
    :param seeds: how many runs the tasks have today; the fewest, where they differ.
    :param margin: less than which counts as equal, or None where scores have no scale for one.
    :param level: of the two-sided test.
    """
    lead = abs(difference.points[0])
    # better or worse once the interval is narrower than the lead, equal once it fits between lead and margin
    room = lead if margin is None else max(lead, margin - lead)

    def is_enough(planned: int) -> bool:
        # errors fall with the root of the number of runs, degrees of freedom grow with it
        at_plan = replace(
            difference,
            errors=difference.errors * np.sqrt(seeds / planned),
            freedom=difference.freedom * (planned - 1) / (seeds - 1),
        )
        return bool(at_plan.half_widths(level)[0] < room)

    # the width falls with the number of seeds, so the first one that is enough can be bisected for
    return bisect_left(range(MAX_PLANNED_SEEDS + 1), True, lo=2, key=is_enough)
