"""Numbers with intervals, and Holm's correction for several tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
