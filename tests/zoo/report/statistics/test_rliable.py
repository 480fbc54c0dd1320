"""Every statistic equals rliable's, from which the definitions are taken."""

import numpy as np
import pytest
from rliable import library, metrics

from tests.zoo.report.samples import by_task, scores_of
from zoo.report.statistics.aggregates import aggregate, performance_profile
from zoo.report.statistics.improvement import improvements
from zoo.report.statistics.resampling import stream_seed

RATES, UNLIMITED = (0.0, 1.0), (-np.inf, np.inf)
REPS = 1_200  # more than one block of resamples


def rliable_intervals(scores, function, seed, reps=REPS):
    """Return rliable's estimates and intervals, from a known state of the generator that it uses."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        points, intervals = library.get_interval_estimates({"x": scores}, function, reps=reps)
    finally:
        np.random.set_state(state)
    return points["x"], intervals["x"]


def rliable_aggregates(scores):
    """Return mean, IQM, median and optimality gap."""
    names = ("mean", "iqm", "median", "optimality_gap")
    return np.array([getattr(metrics, f"aggregate_{name}")(scores) for name in names])


BOTH_SIDES = np.random.RandomState(4).normal(0.8, 0.6, (7, 3))
"""Normalised returns on both sides of 0 and 1."""


@pytest.mark.parametrize(
    ("scores", "limits"),
    [(scores_of(12, 10), RATES), (scores_of(5, 1), RATES), (scores_of(7, 3), RATES), (BOTH_SIDES, UNLIMITED)],
)
def test_aggregates_equal_rliable_on_the_same_stream(scores, limits):
    points, intervals = rliable_intervals(scores, rliable_aggregates, stream_seed((len(scores),) * scores.shape[1]))
    ours = aggregate(by_task(scores), REPS, limits)
    for k, name in enumerate(("mean", "iqm", "median", "optimality_gap")):
        assert ours[name].point == pytest.approx(points[k], abs=1e-12)
        if name in ("iqm", "median"):
            assert ours[name].interval == pytest.approx(intervals[:, k], abs=1e-12)
        else:
            assert ours[name].kind == "t"


def test_probability_of_improvement_equals_rliable_on_the_same_stream():
    x, y = scores_of(6, 3, seed=1, levels=5), scores_of(6, 3, seed=2, levels=5)
    points, intervals = rliable_intervals(
        [x, y], lambda a, b: np.array([metrics.probability_of_improvement(a, b)]), stream_seed((6,) * 3, (6,) * 3), 600
    )
    ours = improvements({"x": by_task(x), "y": by_task(y)}, [("x", "y")], 600)["x", "y"].probability
    assert ours.point == pytest.approx(points[0], abs=1e-12)
    assert ours.interval == pytest.approx(intervals[:, 0], abs=1e-12)


def test_profile_equals_rliable_on_the_same_stream():
    scores = scores_of(6, 4, levels=20)
    thresholds = (np.arange(20) + 0.5) / 20
    np.random.seed(stream_seed((6,) * 4))
    points, intervals = library.create_performance_profile({"x": scores}, thresholds, reps=REPS)
    ours = performance_profile(by_task(scores), thresholds, REPS)
    assert ours.points == pytest.approx(points["x"], abs=1e-12)
    assert ours.bounds == pytest.approx(intervals["x"], abs=1e-12)
