"""How every method compares with every other on the same tasks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from zoo.report.statistics.bootstrap import probabilities
from zoo.report.statistics.estimates import (
    SIGNIFICANT,
    Array,
    Improvement,
    Record,
    holm,
    t_estimate,
    welch_half_width,
    welch_p_values,
)
from zoo.report.statistics.means import FRACTION, Scores, Spread, pair_spreads
from zoo.report.statistics.ranks import rank_p_values


def improvements(
    scores: Mapping[str, Scores],
    spreads: Mapping[str, Spread],
    reps: int,
    limits: tuple[float, float] = FRACTION,
    with_difference: bool = True,
) -> dict[tuple[str, str], Improvement]:
    """Return how X compares with Y, for all ordered pairs of methods.

    :param scores: method -> task -> (runs,); all methods have the same tasks.
    :param spreads: method -> how much its runs vary.
    :param with_difference: whether scores may be averaged over tasks; else a test of ranks says whether methods differ.
    """
    pairs = list(combinations(sorted(scores), 2))
    if not pairs:
        return {}
    means = {name: np.array([runs[task].mean() for task in sorted(runs)]) for name, runs in scores.items()}
    away = np.array([means[x] - means[y] for x, y in pairs]).T  # (tasks, pairs)
    variances, seeds = pair_spreads(spreads, pairs)
    half, tasks, largest = welch_half_width(variances, seeds), len(away), limits[1] - limits[0]
    p_values = welch_p_values(away.mean(axis=0), variances, seeds) if with_difference else rank_p_values(scores, pairs)
    parts = (variances * tasks**2).reshape(2, -1), seeds.reshape(2, -1)
    is_decided = holm(welch_p_values(away.ravel(), *parts).reshape(away.shape)) <= SIGNIFICANT
    chance, result = probabilities(scores, reps), {}
    for k, (x, y) in enumerate(pairs):
        difference = t_estimate(float(away[:, k].mean()), float(half[k]), (-largest, largest))
        p_value = None if np.isnan(p_values[k]) else float(p_values[k])
        result[x, y] = Improvement(
            chance[x, y], difference if with_difference else None, p_value, _record(away[:, k] * is_decided[:, k])
        )
        result[y, x] = result[x, y].reversed
    return result


def _record(away: Array) -> Record:
    """Return on how many tasks X is better and worse than Y, from the differences of those that are decided, else 0."""
    won, lost = int((away > 0).sum()), int((away < 0).sum())
    return Record(won, lost, len(away) - won - lost)
