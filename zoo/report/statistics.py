"""Scores of runs, and their means with t-intervals.

At any number of seeds, t-intervals have better coverage than bootstrap intervals
(``benchmarks/results/history/coverage.md``).
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
"""The lower and the upper end of an interval."""

SIGNIFICANT = 0.05
"""Largest p value that is significant, after correction for multiple tests."""
MIN_SEEDS = 5
"""Fewest seeds for a bootstrap interval; with three seeds, it is too narrow: its coverage is 0.87, not 0.95."""


@dataclass(frozen=True)
class Estimate:
    """A number and its interval; the interval is None if the data do not allow one."""

    point: float
    interval: Range | None = None


@dataclass(frozen=True)
class Curve:
    """Estimates along an axis, e.g. one for each evaluation.

    :param points: the estimates, shape (K,).
    :param bounds: lower and upper bounds, shape (2, K); NaN if the data do not allow an interval.
    """

    points: Array
    bounds: Array

    @property
    def intervals(self) -> Array:
        """The bounds; NaN for an interval of zero width, which would look certain."""
        low, high = self.bounds
        has_width = ~np.isclose(low, high, rtol=1e-9, atol=0)
        return np.where(has_width, self.bounds, np.nan)

    def estimate(self) -> Estimate:
        """Return the first point with its interval."""
        low, high = self.intervals[:, 0].tolist()
        return Estimate(float(self.points[0]), None if math.isnan(low) else (low, high))

    def table(self) -> pd.DataFrame:
        """Return a table with columns ``value``, ``low`` and ``high``; bounds are NaN without an interval."""
        low, high = self.intervals
        return pd.DataFrame({"value": self.points, "low": low, "high": high})


def holm(p_values: Sequence[float] | Array) -> Array:
    """Return the p values of one family of tests after Holm's step-down correction."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values)
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    # the adjusted values keep the order of the p values
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted


# -- means with t-intervals --------------------------------------------------------------------------------------------

Scores = Mapping[str, Array]
"""Scores of one method: task -> (runs,), or (runs, evaluations) for a curve.

Each run has one value, the mean over its episodes. Methods that are compared have the same tasks in the same order.
"""

Episodes = Mapping[str, int]
"""Task -> the number of episodes behind its success rates; the smallest if runs differ."""

MAX_SEEDS = 1 << 20
"""Largest number of seeds that `seeds_needed` considers."""


@dataclass(frozen=True)
class Mean:
    """Means over tasks, or differences of two means, at every evaluation, with their standard errors.

    All arrays have shape (evaluations,). Errors are NaN if a task has only one run.

    :param points: the means.
    :param errors: their standard errors.
    :param freedom: the degrees of freedom of their t-intervals.
    """

    points: Array
    errors: Array
    freedom: Array

    def __sub__(self, subtrahend: Mean) -> Mean:
        """Return the difference of two independent means.

        The difference has the smaller of the two means' degrees of freedom. With Welch's degrees of freedom, which are
        larger, up to 22% of tests of equal methods would be significant (three seeds against twelve, on one task).
        """
        errors = np.hypot(self.errors, subtrahend.errors)
        freedom = np.minimum(self.freedom, subtrahend.freedom)
        return Mean(self.points - subtrahend.points, errors, freedom)

    def half_widths(self, level: float = SIGNIFICANT) -> Array:
        """Return half the widths of the t-intervals at a two-sided level."""
        return special.stdtrit(self.freedom, 1 - level / 2) * self.errors

    def curve(self, limits: Range, level: float = SIGNIFICANT) -> Curve:
        """Return the means with their point-wise intervals.

        :param limits: the lowest and the highest possible mean.
        """
        half = self.half_widths(level)
        return Curve(self.points, np.clip([self.points - half, self.points + half], *limits))

    def p_value(self) -> float | None:
        """Return the p value of a two-sided test that the first mean is zero; None if its error is unknown or zero.

        If the error is zero, all runs are equal, which says nothing about other seeds.
        """
        error = self.errors[0]
        if not error > 0:
            return None
        return float(2 * special.stdtr(self.freedom[0], -abs(self.points[0]) / error))


def mean(scores: Scores, episodes: Episodes | None = None) -> Mean:
    """Return the mean over tasks of the means over runs, at every evaluation.

    The degrees of freedom are Satterthwaite's, computed from the sample variances. The lower bound in `seed_variances`
    only widens intervals; it does not add degrees of freedom.

    :param episodes: task -> the number of episodes behind its success rates, see `seed_variances`.
    """
    # a column, because the number of runs of a task is the same at all evaluations
    runs = np.array([*map(len, scores.values())])[:, None]
    points = np.mean([np.atleast_1d(values.mean(axis=0)) for values in scores.values()], axis=0)
    errors = np.sqrt((seed_variances(scores, episodes) / runs).sum(axis=0)) / len(scores)
    # sample variances alone, because the lower bound has no degrees of freedom
    parts = seed_variances(scores) / runs
    divisor = (parts**2 / (runs - 1)).sum(axis=0)
    # if all variances are zero, the task with the fewest runs determines the degrees of freedom
    fewest = np.full(points.shape, runs.min() - 1.0)
    freedom = np.divide(parts.sum(axis=0) ** 2, divisor, out=fewest, where=divisor > 0)
    return Mean(points, errors, freedom)


def seed_variances(scores: Scores, episodes: Episodes | None = None) -> Array:
    """Return the variance of one run's score on each task, shape (tasks, evaluations); NaN for a task with one run.

    This is the sample variance over runs, but at least p (1 - p) / m for a success rate p over m episodes: even equally
    good seeds have this variance, so runs that agree by chance must not look exact. To estimate p, two successes and
    two failures are added to all episodes of the task (Agresti and Coull 1998), because otherwise a rate of 0 or 1
    would look exact.

    :param episodes: task -> the number of episodes behind its success rates; None for no lower bound.
    """
    variances = []
    for task, values in scores.items():
        runs = values.reshape(len(values), -1)
        variance = np.full(runs.shape[1], np.nan)
        if len(runs) > 1:
            # without the subtraction, rounding could give equal runs a tiny variance, which would look significant
            variance = (runs - runs[0]).var(axis=0, ddof=1)
        if episodes is not None:
            total = len(runs) * episodes[task]
            rate = (runs.mean(axis=0) * total + 2) / (total + 4)
            # `maximum` keeps NaN
            variance = np.maximum(variance, rate * (1 - rate) / episodes[task])
        variances.append(variance)
    return np.array(variances)


def seeds_needed(
    pair: Sequence[Mean],
    seeds: Sequence[int],
    margin: float,
    level: float,
    equality_level: float,
) -> int | None:
    """Return how many seeds per method would decide between two methods; None if more than `MAX_SEEDS`.

    The difference and the spread are assumed to stay the same. A verdict is reached when the difference's interval
    excludes 0 or is within the margin.

    :param pair: the two means, with known errors.
    :param seeds: each method's current number of runs per task; the smallest if tasks differ.
    :param margin: equality margin, or 0 for scores without a common scale.
    :param level: two-sided level of the interval that must exclude 0.
    :param equality_level: two-sided level of the interval that must be within the margin.
    """
    lead = abs((pair[0] - pair[1]).points[0])

    def is_enough(number: int) -> bool:
        # errors scale with 1 / sqrt(runs), degrees of freedom with runs - 1
        x, y = (
            replace(
                mean,
                errors=mean.errors * np.sqrt(count / number),
                freedom=mean.freedom * (number - 1) / (count - 1),
            )
            for mean, count in zip(pair, seeds, strict=True)
        )
        differs = (x - y).half_widths(level)[0] < lead
        is_equal = (x - y).half_widths(equality_level)[0] < margin - lead
        return bool(differs or is_equal)

    # the width decreases as the number of seeds grows, so bisection finds the smallest sufficient number
    needed = bisect_left(range(MAX_SEEDS + 1), True, lo=2, key=is_enough)
    return needed if needed <= MAX_SEEDS else None
