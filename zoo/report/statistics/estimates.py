"""Numbers with 95% intervals: their types, and Welch's t-intervals and tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Pair = tuple[str, str]
"""The names of two methods, X and Y."""
Range = tuple[float, float]
"""The lower and the upper end."""

QUANTILES = (0.025, 0.975)
"""The ends of a 95% interval."""
SIGNIFICANT = 0.05
"""The largest p value, after a correction for many tests, that says that two methods differ."""
UNSURE = "unsure"
"""The kind of an estimate whose resamples are all equal: an interval of no width would look certain."""
MIN_SEEDS = 5
"""With fewer seeds the percentile bootstrap is too narrow (coverage 0.87 at three seeds instead of 0.95)."""


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval.

    :param interval: lower and upper bound, or None where the data allow none.
    :param kind: how the interval was made: ``"bootstrap"`` or ``"t"``; ``"none"`` where a task has one run, and
        `UNSURE`.
    """

    point: float
    interval: Range | None = None
    kind: str = "none"

    def taken_from(self, total: float) -> Estimate:
        """Return a whole minus this estimate."""
        interval = self.interval and (total - self.interval[1], total - self.interval[0])
        return Estimate(total - self.point, interval, self.kind)


@dataclass(frozen=True)
class Curve:
    """Estimates along an axis, e.g. one for each evaluation.

    :param points: the estimates, shape (K,).
    :param bounds: lower and upper bounds, shape (2, K), NaN where the data allow none.
    :param kind: how the bounds were made: ``"bootstrap"`` or ``"t"``.
    """

    points: Array
    bounds: Array
    kind: str

    def estimate(self, index: int) -> Estimate:
        """Return one point with its interval, or without one that has no width: it would look certain."""
        point = float(self.points[index])
        low, high = self.bounds[:, index].tolist()
        if math.isnan(low):
            return Estimate(point)
        if math.isclose(low, high):
            return Estimate(point, kind=UNSURE)
        return Estimate(point, (low, high), self.kind)

    def table(self) -> pd.DataFrame:
        """Return the points, ``value``, with their intervals from ``low`` to ``high``, NaN where there is none."""
        low, high = self.bounds
        has_width = ~np.isclose(low, high, rtol=1e-9, atol=0)  # as `math.isclose` in `estimate`
        low, high = np.where(has_width, self.bounds, np.nan)
        return pd.DataFrame({"value": self.points, "low": low, "high": high})


class WinLoss(NamedTuple):
    """On how many tasks one method is better than another, worse, or neither beyond chance."""

    won: int = 0
    lost: int = 0
    undecided: int = 0

    def __str__(self) -> str:
        return f"{self.won} / {self.lost} / {self.undecided}"


@dataclass(frozen=True)
class Improvement:
    """How one method compares with another on the same tasks.

    :param probability: P(X > Y), ties counted half, averaged over tasks.
    :param difference: the effect size, mean of X minus mean of Y; None where scores of tasks cannot be averaged.
    :param p_value: two-sided, before any correction: that the means are equal, or without a difference that runs of
        both score alike on every task; None where nothing says how runs vary.
    :param tasks: on how many tasks the means differ at 5%, after Holm's correction for these tasks.
    """

    probability: Estimate
    difference: Estimate | None
    p_value: float | None = None
    tasks: WinLoss = field(default_factory=WinLoss)

    @property
    def lead(self) -> float:
        """Lead of X: difference of means, or without one the probability above one half."""
        return self.probability.point - 0.5 if self.difference is None else self.difference.point

    @property
    def reversed(self) -> Improvement:
        """How Y compares with X."""
        return Improvement(
            self.probability.taken_from(1),
            self.difference and self.difference.taken_from(0),
            self.p_value,
            WinLoss(self.tasks.lost, self.tasks.won, self.tasks.undecided),
        )


def welch_curve(
    points: Array, variances: Array, seeds: Counts, limits: Range, level: float = SIGNIFICANT
) -> Curve:
    """Return sums of means, shape (K,), with their Welch-Satterthwaite t-intervals.

    :param variances: as in `welch_half_width`, like `seeds`.
    :param limits: the least and the greatest value that a sum can have.
    :param level: of the two-sided test that the interval stands for.
    """
    half = welch_half_width(variances, seeds, level)
    return Curve(points, np.clip(np.stack([points - half, points + half]), *limits), "t")


def welch_mean(
    means: Sequence[float],
    variances: Sequence[float],
    seeds: Sequence[int],
    limits: Range = (-math.inf, math.inf),
) -> Estimate:
    """Return the average of independent means with its Welch-Satterthwaite t-interval.

    Signs may be folded in: the difference of two means is the sum of one and the negative of the other.

    :param means: each one already multiplied by its weight, so that the estimate is their sum.
    :param variances: sample variances (ddof = 1) of one run, multiplied by the squared weight; 0 where exact.
    :param seeds: how many runs each mean is the average of.
    :param limits: the least and the greatest value that the sum can have.
    :return: the sum; without an interval if a mean with one run has no known variance (NaN).
    """
    total = np.sum(means, keepdims=True)
    column = np.asarray(variances, float)[:, None]
    return welch_curve(total, column, np.asarray(seeds), limits).estimate(0)


def welch_half_width(variances: Array, seeds: Counts, level: float = SIGNIFICANT) -> Array:
    """Return half the width of the t-interval of a sum of means: (parts, K) variances of one run -> (K,).

    :param seeds: how many runs each mean is the average of, shape (parts,) or (parts, K).
    """
    error, freedom = _welch(variances, seeds)
    return t_quantile(freedom, level) * error


def t_quantile(freedom: Array, level: float = SIGNIFICANT) -> Array:
    """Return half the width of a t-interval in standard errors.

    :param freedom: degrees of freedom.
    """
    return special.stdtrit(freedom, 1 - level / 2)


def welch_p_values(sums: Array, variances: Array, seeds: Counts) -> Array:
    """Return the two-sided p value of each sum of means being zero; NaN where a variance is, or all of them are zero.

    Runs that agree exactly, where nothing bounds their variance, say nothing about other seeds.

    :param sums: shape (K,).
    :param variances: of one run, shape (parts, K).
    :param seeds: how many runs each mean is the average of, shape (parts,) or (parts, K).
    :return: shape (K,).
    """
    error, freedom = _welch(variances, seeds)
    statistics = np.divide(np.abs(sums), error, out=np.full_like(error, np.nan), where=error != 0)
    return 2 * special.stdtr(freedom, -statistics)


def p_value_or_none(p_value: float) -> float | None:
    """Return a p value, None for NaN: a test that cannot be made is in no family of tests."""
    if math.isnan(p_value):
        return None
    return float(p_value)


def holm(p_values: Sequence[float] | Array) -> Array:
    """Return p values adjusted by Holm's step-down method, along the first axis; NaN, an unknown one, counts as 1.

    At most 0.05 means significant at 5% in the family of all of them.
    """
    values = np.nan_to_num(np.asarray(p_values, np.float64), nan=1.0).T  # a row is a family
    order = np.argsort(values)
    hypotheses_left = np.arange(values.shape[-1], 0, -1)
    scaled = np.take_along_axis(values, order, -1) * hypotheses_left
    # a larger p value is never adjusted to less than a smaller one
    stepped = np.maximum.accumulate(scaled, axis=-1)
    return np.take_along_axis(np.minimum(stepped, 1), np.argsort(order), -1).T


def _welch(variances: Array, seeds: Counts) -> tuple[Array, Array]:
    """Return the standard error and the degrees of freedom of a sum of means (Welch-Satterthwaite)."""
    seeds = seeds.reshape(len(seeds), -1)
    parts = variances / seeds
    total = parts.sum(axis=0)
    divisor = (parts**2 / np.maximum(seeds - 1, 1)).sum(axis=0)
    freedom = np.divide(total**2, divisor, out=np.ones_like(total), where=divisor > 0)
    return np.sqrt(total), freedom
