"""How many seeds it takes to resolve a difference of means, planned from the variance that was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from zoo.report.statistics.estimates import PERCENTILES, Array, t_quantile, welch_half_width
from zoo.report.statistics.means import Spread, pair_spreads

MOST_SEEDS = 1 << 20
"""No more seeds are counted: a plan of a million is none."""


@dataclass(frozen=True)
class SeedPlan:
    """How many seeds of each of two methods resolve the difference of their means.

    :param half_width: of the 95% t-interval of the difference with the seeds that there are.
    :param seeds: the least number for each method and task, or None above `MOST_SEEDS`.
    :param interval: what it is at the ends of the 95% interval of the variance.
    """

    half_width: float
    seeds: int | None
    interval: tuple[int | None, int | None]


def plan_seeds(
    spreads: Mapping[str, Spread], pairs: Sequence[tuple[str, str]], resolve: float
) -> dict[tuple[str, str], SeedPlan | None]:
    """Return the plan of each pair of methods; None where nothing says how runs vary: a task has one, or all agree.

    It assumes that runs of every task vary as those that there are, that both methods get the same number of seeds on
    each of these tasks, and Welch-Satterthwaite's t-interval, whose quantile depends on that number.

    :param resolve: what half the width of the interval must stay below, in the units of the scores.
    """
    if not pairs or not spreads:
        return {}
    variances, seeds = pair_spreads(spreads, pairs)
    total = variances.sum(axis=0)
    widths = welch_half_width(variances, seeds)
    # Satterthwaite's degrees of freedom of the sum of variances itself: how well it is known.
    divisor = (variances**2 / np.maximum(seeds - 1, 1)).sum(axis=0)
    freedom = np.divide(total**2, divisor, out=np.ones_like(total), where=divisor > 0)
    ends = [freedom / (2 * special.gammaincinv(freedom / 2, end / 100)) for end in reversed(PERCENTILES)]
    low, needed, high = (_seeds_needed(variances * scale, resolve) for scale in (ends[0], 1.0, ends[1]))
    return {
        pair: None if not widths[k] > 0 else SeedPlan(float(widths[k]), needed[k], (low[k], high[k]))
        for k, pair in enumerate(pairs)
    }


def with_typical_spread(spreads: Mapping[str, Spread]) -> dict[str, Spread]:
    """Return spreads in which a task with one run varies as that of the other methods does, or else as other tasks do.

    It is for a plan only; where no method has several runs of a task, variances stay NaN.
    """
    known = np.array([spread.variances for spread in spreads.values()])
    counts = np.maximum((~np.isnan(known)).sum(axis=0), 1)
    of_tasks = np.where(np.isnan(known).all(axis=0), np.nan, np.nansum(known, axis=0) / counts)
    whole = of_tasks[~np.isnan(of_tasks)]
    typical = np.where(np.isnan(of_tasks), whole.mean() if len(whole) else np.nan, of_tasks)
    return {
        name: Spread(np.where(np.isnan(spread.variances), typical, spread.variances), spread.seeds)
        for name, spread in spreads.items()
    }


def _seeds_needed(variances: Array, resolve: float) -> list[int | None]:
    """Return the least number n >= 2 of seeds with a half width below `resolve`, by bisection.

    :param variances: of one run, weighted, shape (parts, K).
    """
    total, squares = variances.sum(axis=0), (variances**2).sum(axis=0)
    ratio = np.divide(total**2, squares, out=np.ones_like(total), where=squares > 0)
    total, ratio = np.nan_to_num(total), np.nan_to_num(ratio, nan=1.0)

    def is_enough(seeds: Array) -> np.ndarray:
        quantile = t_quantile((seeds - 1) * ratio)
        return np.asarray(quantile * np.sqrt(total / seeds) < resolve)

    low, high = np.ones_like(total), np.full_like(total, MOST_SEEDS)
    possible = is_enough(high)
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        enough = is_enough(np.maximum(middle, 2))
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return [int(max(seeds, 2)) if fits else None for seeds, fits in zip(high, possible, strict=True)]
