import numpy as np
import pytest
from scipy import stats

from tests.zoo.report.samples import by_task, scores_of
from zoo.report.statistics.estimates import UNSURE, Estimate
from zoo.report.statistics.improvement import improvements

UNLIMITED = (-np.inf, np.inf)


def test_ties_count_half_and_wins_one():
    scores = {"x": {"t": np.array([0.5, 1.0])}, "y": {"t": np.array([0.5, 0.0])}}
    found = improvements(scores, [("x", "y"), ("y", "x")], 10)
    assert found["x", "y"].probability.point == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert found["y", "x"].probability.point == pytest.approx(0.5 / 4)
    assert found["x", "y"].difference.point == pytest.approx(0.5)


def test_methods_with_unequal_numbers_of_seeds_are_compared():
    x, y = {"t": np.linspace(0.5, 1, 12)}, {"t": np.linspace(0, 0.6, 7)}
    found = improvements({"x": x, "y": y}, [("x", "y")], 2000)["x", "y"]
    expected = np.mean(x["t"][:, None] > y["t"]) + np.mean(x["t"][:, None] == y["t"]) / 2
    assert found.probability.point == pytest.approx(expected)
    low, high = found.probability.interval
    assert low < found.probability.point < high
    reference = stats.ttest_ind(x["t"], y["t"], equal_var=False).confidence_interval(0.95)
    assert found.difference.interval == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_difference_of_rates_is_at_most_100_points():
    scores = {"x": {"t": np.array([1.0, 1.0, 0.7])}, "y": {"t": np.array([0.0, 0.2, 0.0])}}
    reference = stats.ttest_ind(*(part["t"] for part in scores.values()), equal_var=False).confidence_interval(0.95)
    assert reference.high > 1
    found = improvements(scores, [("x", "y"), ("y", "x")], 10)
    assert found["x", "y"].difference.interval == pytest.approx((reference.low, 1), abs=1e-12)
    assert found["y", "x"].difference.interval == pytest.approx((-1, -reference.low), abs=1e-12)


def test_difference_of_methods_whose_seeds_agree_by_chance_is_not_certain():
    scores = {"x": {"t": np.full(5, 1.0)}, "y": {"t": np.full(5, 0.96)}}
    episodes = {name: {"t": 10} for name in scores}
    assert improvements(scores, [("x", "y")], 10)["x", "y"].difference == Estimate(pytest.approx(0.04), None, UNSURE)
    low, high = improvements(scores, [("x", "y")], 10, episodes=episodes)["x", "y"].difference.interval
    assert low < 0 < 0.04 < high


def test_probability_and_difference_do_not_depend_on_the_scale_of_returns():
    x, y = scores_of(6, 3, seed=1), scores_of(6, 3, seed=2)
    scaled = {"x": by_task(4000 * x - 3000), "y": by_task(4000 * y - 3000)}
    small = improvements({"x": by_task(x), "y": by_task(y)}, [("x", "y")], 600)["x", "y"]
    large = improvements(scaled, [("x", "y")], 600, UNLIMITED)["x", "y"]
    assert large.probability == small.probability
    assert large.difference.point == pytest.approx(4000 * small.difference.point)
    assert large.difference.interval == pytest.approx([4000 * bound for bound in small.difference.interval])


def test_methods_on_different_tasks_are_refused():
    with pytest.raises(ValueError, match="expected `x` and `y` to have the same tasks"):
        improvements({"x": {"a": np.ones(2)}, "y": {"b": np.ones(2)}}, [("x", "y")], 10)
