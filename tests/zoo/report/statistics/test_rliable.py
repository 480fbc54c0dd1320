"""Every statistic equals rliable's, from which the definitions are taken."""

import numpy as np
import pytest
from rliable import library, metrics
from scipy import stats

from tests.zoo.report.samples import by_task, scores_of
from zoo.report.statistics.aggregates import aggregate, performance_profile
from zoo.report.statistics.improvement import improvements
from zoo.report.statistics.resampling import stream_seed

UNLIMITED = (-np.inf, np.inf)
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
    return np.array(
        [
            metrics.aggregate_mean(scores),
            metrics.aggregate_iqm(scores),
            metrics.aggregate_median(scores),
            metrics.aggregate_optimality_gap(scores),
        ]
    )


def check_aggregates(ours, points, intervals):
    """Check that all points, and the intervals of IQM and median, are rliable's; means have t-intervals."""
    for k, name in enumerate(("mean", "iqm", "median", "optimality_gap")):
        assert ours[name].point == pytest.approx(points[k], abs=1e-12)
        if name in ("iqm", "median"):
            assert ours[name].interval == pytest.approx(intervals[:, k], abs=1e-12)
        else:
            assert ours[name].kind == "t"


def test_mean_of_one_task_has_scipys_t_interval():
    scores = scores_of(7, 1)
    reference = stats.ttest_1samp(scores[:, 0], 0).confidence_interval(0.95)
    assert aggregate(by_task(scores), 10)["mean"].interval == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_least_variance_of_episodes_widens_an_interval_that_rliable_makes_too_narrow():
    agree = np.full((6, 2), 0.8)
    _, intervals = rliable_intervals(agree, rliable_aggregates, 0, reps=50)
    assert intervals[:, 0] == pytest.approx([0.8, 0.8])
    low, high = aggregate(by_task(agree), 10, episodes={"task00": 50, "task01": 50})["mean"].interval
    assert low < 0.78
    assert high > 0.82


@pytest.mark.parametrize(("runs", "tasks"), [(12, 10), (5, 1), (7, 3)])
def test_aggregates_equal_rliable_on_the_same_stream(runs, tasks):
    scores = scores_of(runs, tasks)
    points, intervals = rliable_intervals(
        scores,
        rliable_aggregates,
        stream_seed((runs,) * tasks),
    )
    check_aggregates(aggregate(by_task(scores), REPS), points, intervals)


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


def test_aggregates_of_scores_without_limits_equal_rliable_on_the_same_stream():
    scores = np.random.RandomState(4).normal(0.8, 0.6, (7, 3))  # normalised returns on both sides of 0 and 1
    assert scores.min() < 0
    assert scores.max() > 1
    points, intervals = rliable_intervals(
        scores,
        rliable_aggregates,
        stream_seed((7,) * 3),
    )
    check_aggregates(aggregate(by_task(scores), REPS, UNLIMITED), points, intervals)
