"""Estimates and intervals equal rliable's, with the same random numbers."""

import numpy as np
import pytest
from rliable import library, metrics

from tests.zoo.report.samples import by_task, scores_of
from zoo.report import bootstrap

REPS = 300


def rliable_intervals(scores, function, estimate=library.get_interval_estimates):
    """Return rliable's estimates and intervals, with the generator state that reports use."""
    np.random.seed(0)
    points, intervals = estimate({"x": scores}, function, reps=REPS)
    return points["x"], intervals["x"]


def probability(x, y):
    # another method changes no interval
    return bootstrap.probabilities_of_improvement(x, {"other": y, "y": y}, REPS)["y"]


@pytest.mark.parametrize(
    "scores", [scores_of(12, 10), scores_of(5, 1), np.random.RandomState(4).normal(size=(7, 3))]
)
def test_iqm_is_that_of_rliable(scores):
    def iqm(drawn):
        return np.array([metrics.aggregate_iqm(drawn)])

    points, intervals = rliable_intervals(scores, iqm)
    methods = {"other": by_task(-scores), "x": by_task(scores)}
    estimate = bootstrap.interquartile_means(methods, REPS)["x"]
    assert estimate.point == pytest.approx(points[0], abs=1e-12)
    assert estimate.interval == pytest.approx(intervals[:, 0], abs=1e-12)


def test_profiles_are_those_of_rliable():
    scores = scores_of(6, 4, levels=20)
    thresholds = np.arange(40) / 40  # half of these thresholds occur as scores
    points, intervals = rliable_intervals(scores, thresholds, library.create_performance_profile)
    curve = bootstrap.performance_profiles({"x": by_task(scores)}, thresholds, REPS)["x"]
    assert curve.points == pytest.approx(points, abs=1e-12)
    assert curve.bounds == pytest.approx(intervals, abs=1e-12)


def test_the_probability_of_improvement_is_that_of_rliable():
    x = scores_of(6, 3, seed=1, levels=20)
    y = scores_of(5, 3, seed=2, levels=20)

    def of_rliable(*drawn):
        return np.array([metrics.probability_of_improvement(*drawn)])

    points, intervals = rliable_intervals([x, y], of_rliable)
    chance = probability(by_task(x), by_task(y))
    assert chance.point == pytest.approx(points[0], abs=1e-12)
    assert chance.interval == pytest.approx(intervals[:, 0], abs=1e-12)


def test_tasks_may_have_unequal_numbers_of_runs():
    x = {"a": np.ones(5), "b": np.zeros(20)}
    y = {"a": np.full(6, 0.5), "b": np.full(6, 0.5)}
    assert probability(x, y).point == 0.5  # tasks have equal weights
    random = np.random.RandomState(0)
    a, b = random.rand(2, 8)
    iqms = bootstrap.interquartile_means(
        {"once": {"a": a, "b": b}, "twice": {"a": a, "b": np.repeat(b, 2)}}, REPS
    )
    assert iqms["twice"].point == pytest.approx(iqms["once"].point)
    scores = {"a": random.rand(6), "b": random.rand(30), "c": random.rand(6)}
    profiles = bootstrap.performance_profiles({"x": scores}, np.array([0.5]), 5_000)
    low, high = profiles["x"].bounds[:, 0]
    above = [values > 0.5 for values in scores.values()]
    assert profiles["x"].points == pytest.approx(np.mean([*map(np.mean, above)]))
    # standard error of the mean of three tasks' resampled fractions
    exact = np.sqrt(sum(values.var() / len(values) for values in above)) / 3
    assert (high - low) / 2 == pytest.approx(1.96 * exact, rel=0.1)


@pytest.mark.parametrize(("seeds", "has_interval"), [(4, False), (5, True)])
def test_few_seeds_have_no_bootstrap_interval(seeds, has_interval):
    scores = by_task(scores_of(seeds, 3))
    iqm = bootstrap.interquartile_means({"x": scores}, 10)["x"]
    chance = probability(scores, by_task(scores_of(8, 3, seed=1)))
    assert (iqm.interval is not None) == (chance.interval is not None) == has_interval
