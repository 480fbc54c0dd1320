"""Means, their differences and tests, against SciPy."""

import numpy as np
import pytest
from scipy import stats

from tests.zoo.report.samples import by_task, scores_of
from zoo.report.compute import improvements
from zoo.report.statistics.estimates import UNSURE, Estimate, holm, welch_mean
from zoo.report.statistics.means import mean, samples_of, seed_variances

UNLIMITED = (-np.inf, np.inf)


def compared(scores, limits=(0.0, 1.0), episodes=None):
    samples = samples_of(scores, dict.fromkeys(scores, episodes))
    return improvements(scores, samples, 50, limits)["x", "y"]


def compared_on_a_task(x, y, **options):
    """Return the comparison of two methods by their scores on one task."""
    return compared({"x": {"t": np.array(x)}, "y": {"t": np.array(y)}}, **options)


def close_to(interval):
    """Return what equals an interval of SciPy but for rounding."""
    return pytest.approx(tuple(interval), abs=1e-12)


@pytest.mark.parametrize("episodes", [None, {f"task{k:02d}": 20 for k in range(4)}])
def test_curve_has_the_interval_of_each_evaluation_alone(episodes):
    scores = np.stack([scores_of(6, 4, seed=k) for k in range(3)], axis=2)
    scores[..., 1] = 0.8  # all runs agree by chance
    curve = mean(by_task(scores), episodes=episodes)
    for k in range(3):
        estimate = curve.estimate(k)
        expected = mean(by_task(scores[..., k]), episodes=episodes).estimate(0)
        assert estimate.point == pytest.approx(expected.point)
        assert estimate.interval == pytest.approx(expected.interval, abs=1e-12)


def test_mean_has_a_welch_t_interval_and_tasks_with_unequal_numbers_of_runs_count_equally():
    a = np.array([0.4, 0.5, 0.7])
    b = np.array([0.2, 0.3, 0.35, 0.3, 0.25])
    estimate = mean({"a": a, "b": b}).estimate(0)
    # scipy's Welch interval of the difference a - (-b), halved, is that of the mean of both task means.
    reference = stats.ttest_ind(a, -b, equal_var=False).confidence_interval()
    assert estimate.point == pytest.approx((0.5333333 + 0.28) / 2)
    assert estimate.interval == close_to([reference.low / 2, reference.high / 2])


def test_t_interval_of_scores_without_limits_is_not_cut():
    returns = np.array([-1500.0, -1400.0, -900.0])
    estimate = mean({"a": returns}, UNLIMITED).estimate(0)
    reference = stats.ttest_1samp(returns, 0).confidence_interval()
    assert estimate.interval == pytest.approx(tuple(reference))


@pytest.mark.parametrize("seeds", [3, 5, 12])
@pytest.mark.parametrize("score", [0.0, 0.8, 1.0])
def test_runs_that_agree_by_chance_are_not_certain(seeds, score):
    estimate = mean({"a": np.full(seeds, score)}, episodes={"a": 10}).estimate(0)
    rate = (10 * seeds * score + 2) / (10 * seeds + 4)
    half = stats.t.ppf(0.975, seeds - 1) * np.sqrt(rate * (1 - rate) / (10 * seeds))
    assert estimate.interval == pytest.approx((max(0, score - half), min(1, score + half)))
    assert estimate.interval[1] - estimate.interval[0] > 0.02


def test_spread_of_seeds_above_that_of_episodes_is_the_one_that_counts():
    scores = {"a": np.array([0.1, 0.9, 0.3, 0.7])}
    assert seed_variances(scores, {"a": 50})[0] == pytest.approx(scores["a"].var(ddof=1))


def test_runs_that_all_agree_have_no_interval_where_nothing_bounds_their_variance():
    estimate = mean({"a": np.full(6, 0.1 + 0.2)}).estimate(0)
    assert estimate.interval is None
    assert estimate.kind == UNSURE


def test_one_seed_gives_no_interval():
    assert mean({"a": np.array([0.5]), "b": np.array([0.2, 0.3])}).estimate(0).interval is None
    pair = compared_on_a_task([0.5], [0.2, 0.3])
    assert pair.probability == Estimate(1.0)
    assert pair.difference.interval is None
    assert pair.p_value is None


def test_methods_with_unequal_numbers_of_seeds_are_compared():
    x = np.linspace(50, 100, 12)
    y = np.linspace(0, 60, 7)
    pair = compared_on_a_task(x, y, limits=UNLIMITED)
    assert pair.probability.point == pytest.approx(stats.mannwhitneyu(x, y).statistic / (12 * 7))
    reference = stats.ttest_ind(x, y, equal_var=False)
    assert pair.p_value == pytest.approx(reference.pvalue)
    assert pair.difference.interval == close_to(reference.confidence_interval())


def test_difference_of_rates_is_at_most_100_points():
    scores = [1.0, 1.0, 0.7], [0.0, 0.2, 0.0]
    reference = stats.ttest_ind(*scores, equal_var=False).confidence_interval()
    assert reference.high > 1
    pair = compared_on_a_task(*scores)
    assert pair.difference.interval == close_to([reference.low, 1])
    assert pair.reversed.difference.interval == close_to([-1, -reference.low])


def test_difference_of_methods_whose_seeds_agree_by_chance_is_not_certain():
    scores = [1.0] * 5, [0.96] * 5
    pair = compared_on_a_task(*scores)
    assert pair.difference == Estimate(pytest.approx(0.04), None, UNSURE)
    assert pair.p_value is None
    low, high = compared_on_a_task(*scores, episodes={"t": 10}).difference.interval
    assert low < 0 < 0.04 < high


def test_welch_mean_takes_a_known_part_as_exact():
    x = np.array([0.2, 0.4, 0.9, 0.5])
    estimate = welch_mean([x.mean(), -0.1], [x.var(ddof=1), 0.0], [len(x), 1])
    reference = stats.ttest_1samp(x - 0.1, 0).confidence_interval()
    assert estimate.interval == close_to(reference)


def test_holm_steps_down_along_the_first_axis_and_unknown_values_count_as_one():
    p_values = np.array([[0.04, 0.5], [0.01, np.nan], [0.03, 0.02]])
    assert holm(p_values) == pytest.approx(np.array([[0.06, 1], [0.03, 1], [0.06, 0.06]]))
    assert not holm([]).size
