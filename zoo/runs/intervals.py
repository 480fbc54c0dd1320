"""Intervals over the episodes of one agent, apart from what reports of runs read: SciPy takes a second to import."""

import math

import numpy as np
from scipy import stats

LEVEL = 0.95


def interval_of_successes(won: int, episodes: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a success rate."""
    interval = stats.binomtest(won, episodes).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def interval_of_mean(values: np.ndarray) -> tuple[float, float]:
    """Return Student's 95% interval of a mean; of one value it is infinite."""
    if len(values) < 2:
        return -math.inf, math.inf
    mean = values.mean()
    error = stats.sem(values)
    low, high = mean, mean
    if error:  # SciPy's interval of a scale of 0 is NaN
        low, high = stats.t.interval(LEVEL, len(values) - 1, mean, error)
    return float(low), float(high)
