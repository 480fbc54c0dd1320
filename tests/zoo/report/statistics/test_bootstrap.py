"""What goes beyond rliable equals it where it can do the same, on the same random stream."""

import numpy as np
import pytest
from rliable import library, metrics

from tests.zoo.report.samples import by_task, scores_of
from zoo.report import compute
from zoo.report.statistics import bootstrap

REPS = 300


def rliable_intervals(scores, function, estimate=library.get_interval_estimates):
    """Return rliable's estimates and intervals, from the state of its generator that reports begin with."""
    np.random.seed(0)
    points, intervals = estimate({"x": scores}, function, reps=REPS)
    return points["x"], intervals["x"]


def assert_equal(curve, points, intervals):
    assert curve.points == pytest.approx(points, abs=1e-12)
    assert curve.bounds == pytest.approx(intervals, abs=1e-12)


@pytest.mark.parametrize(
    "scores", [scores_of(12, 10), scores_of(5, 1), np.random.RandomState(4).normal(size=(7, 3))]
)
def test_aggregates_are_those_of_rliable(scores):
    def iqm_and_median(drawn):
        return np.array([metrics.aggregate_iqm(drawn), metrics.aggregate_median(drawn)])

    points, intervals = rliable_intervals(scores, iqm_and_median)
    curves = bootstrap.aggregates({"x": by_task(scores)}, ["iqm", "median"], REPS)["x"]
    for k, curve in enumerate(curves.values()):
        assert_equal(curve, points[[k]], intervals[:, [k]])


def test_curves_are_those_of_rliable():
    scores = np.stack([scores_of(6, 4, seed=k) for k in range(3)], axis=2)

    def iqms(drawn):
        return np.array([metrics.aggregate_iqm(drawn[..., k]) for k in range(3)])

    curve = bootstrap.aggregates({"x": by_task(scores)}, ["iqm"], REPS)["x"]["iqm"]
    assert_equal(curve, *rliable_intervals(scores, iqms))


def test_each_method_has_its_own_aggregate_and_bounds():
    scores = {"low": by_task(scores_of(5, 2) / 4), "high": by_task(scores_of(5, 2) / 4 + 0.75)}
    curves = bootstrap.aggregates(scores, ["iqm"], REPS)
    low, high = (curves[method]["iqm"].bounds[:, 0] for method in ("low", "high"))
    assert max(low) < 0.5 < min(high)


def test_profiles_are_those_of_rliable():
    scores = scores_of(6, 4, levels=20)
    thresholds = np.arange(40) / 40  # half of them are scores
    expected = rliable_intervals(scores, thresholds, library.create_performance_profile)
    assert_equal(bootstrap.performance_profile(by_task(scores), thresholds, REPS), *expected)


def test_the_probability_of_improvement_is_that_of_rliable():
    x = scores_of(6, 3, seed=1, levels=20)
    y = scores_of(4, 3, seed=2, levels=20)

    def probability(*drawn):
        return np.array([metrics.probability_of_improvement(*drawn)])

    points, intervals = rliable_intervals([x, y], probability)
    chance = compute.probabilities({"x": by_task(x), "y": by_task(y)}, REPS)["x", "y"]
    assert chance.point == pytest.approx(points[0], abs=1e-12)
    assert chance.interval == pytest.approx(intervals[:, 0], abs=1e-12)


def test_tasks_with_unequal_numbers_of_runs_count_equally():
    unequal = {"x": {"a": np.zeros(5), "b": np.ones(20)}}
    curves = bootstrap.aggregates(unequal, ["iqm", "median"], REPS)["x"]
    assert [curve.points[0] for curve in curves.values()] == pytest.approx([0.5, 0.5])
    scores = {"a": scores_of(3, 1)[:, 0], "b": scores_of(6, 1, seed=1)[:, 0]}
    # 48 runs have whole quarters
    repeated = np.stack([np.repeat(scores["a"], 8), np.repeat(scores["b"], 4)], axis=1)
    iqm = bootstrap.aggregates({"x": scores}, ["iqm"], REPS)["x"]["iqm"]
    assert iqm.points[0] == pytest.approx(metrics.aggregate_iqm(repeated))


def test_unequal_bootstrap_has_the_right_spread():
    random = np.random.RandomState(0)
    scores = {"a": random.rand(6), "b": random.rand(30)}
    low, high = bootstrap.performance_profile(scores, np.array([0.5]), 5_000).bounds[:, 0]
    above = [values > 0.5 for values in scores.values()]
    # of a resampled fraction
    exact = np.sqrt(sum(values.var() / len(values) for values in above) / 4)
    assert (high - low) / 2 == pytest.approx(1.96 * exact, rel=0.1)


@pytest.mark.parametrize(("seeds", "has_interval"), [(4, False), (5, True)])
def test_iqm_of_few_seeds_has_no_interval(seeds, has_interval):
    scores = {"x": by_task(scores_of(seeds, 3))}
    iqm = bootstrap.aggregates(scores, ["iqm"], 10)["x"]["iqm"]
    assert (iqm.estimate(0).interval is not None) == has_interval
