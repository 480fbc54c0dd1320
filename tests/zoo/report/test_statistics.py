import numpy as np
import pytest
from rliable import library, metrics
from scipy import stats

from zoo.report.resampling import stream_seed
from zoo.report.statistics import (
    PERCENTILES,
    aggregate,
    improvements,
    mean,
    mean_and_iqm,
    performance_profile,
    welch_mean,
)

UNLIMITED = (-np.inf, np.inf)
REPS = 1_200  # more than one block of resamples


def scores_of(runs, tasks, seed=0, levels=50):
    """Return scores on a grid of success rates: (runs, tasks)."""
    random = np.random.RandomState(seed)
    rates = random.rand(tasks) * 0.8 + 0.2 * random.rand(runs, tasks)
    return np.round(levels * rates) / levels


def by_task(matrix):
    """Return the columns of a (runs, tasks[, evaluations]) array as our functions take them."""
    return {f"task{k:02d}": matrix[:, k] for k in range(matrix.shape[1])}


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


@pytest.mark.parametrize(("runs", "tasks"), [(12, 10), (5, 1), (7, 3)])
def test_aggregates_equal_rliable_on_the_same_stream(runs, tasks):
    scores = scores_of(runs, tasks)
    points, intervals = rliable_intervals(
        scores,
        rliable_aggregates,
        stream_seed((runs,) * tasks),
    )
    ours = aggregate(by_task(scores), REPS)
    for k, name in enumerate(("mean", "iqm", "median", "optimality_gap")):
        assert ours[name].point == pytest.approx(points[k], abs=1e-12)
        assert ours[name].interval == pytest.approx(intervals[:, k], abs=1e-12)


def test_scores_off_any_grid_equal_rliable_too():
    scores = np.random.RandomState(3).rand(6, 4)
    points, intervals = rliable_intervals(
        scores, lambda x: np.array([metrics.aggregate_iqm(x)]), stream_seed((6,) * 4), reps=300
    )
    ours = aggregate(by_task(scores), 300)["iqm"]
    assert ours.point == pytest.approx(points[0], abs=1e-12)
    assert ours.interval == pytest.approx(intervals[:, 0], abs=1e-12)


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


def test_curve_has_the_interval_of_each_evaluation_alone():
    scores = np.stack([scores_of(6, 4, seed=k) for k in range(3)], axis=2)
    averages, iqms = mean_and_iqm(by_task(scores), REPS)
    only_mean = mean(by_task(scores), REPS)
    for k in range(3):
        alone = aggregate(by_task(scores[..., k]), REPS)
        assert averages.estimate(k).interval == pytest.approx(alone["mean"].interval, abs=1e-12)
        assert iqms.estimate(k).interval == pytest.approx(alone["iqm"].interval, abs=1e-12)
        assert only_mean.estimate(k).interval == pytest.approx(alone["mean"].interval, abs=1e-12)


def test_results_do_not_depend_on_the_order_of_tasks_or_methods():
    x, y, z = (by_task(scores_of(6, 4, seed=k)) for k in range(3))
    backwards = dict(reversed(x.items()))
    assert aggregate(x, 500) == aggregate(backwards, 500)
    pairs = [("x", "y"), ("x", "z")]
    alone = improvements({"x": x, "z": z}, [("x", "z")], 500)["x", "z"]
    among = improvements({"z": z, "y": y, "x": x}, pairs, 500)["x", "z"]
    assert alone.probability == among.probability
    assert alone.difference.interval == pytest.approx(among.difference.interval, abs=1e-12)


def test_global_generator_is_left_alone():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    aggregate(by_task(scores_of(5, 2)), 10)
    assert (np.random.get_state()[1] == before).all()


def test_definitions_on_a_small_matrix():
    # Task means 0.5, 0.2 and 0.8; sorted runs 0 .1 .2 .3 .5 .6 .6 .6 .9 .9, of which floor(12/4) = 3 go on each side.
    scores = {
        "a": np.array([0.0, 0.5, 0.6, 0.9]),
        "b": np.array([0.1, 0.2, 0.2, 0.3]),
        "c": np.array([0.6, 0.8, 0.9, 0.9]),
    }
    found = aggregate(scores, 10)
    assert found["mean"].point == pytest.approx(0.5)
    assert found["median"].point == pytest.approx(0.5)
    assert found["optimality_gap"].point == pytest.approx(0.5)
    assert found["iqm"].point == pytest.approx((0.2 + 0.3 + 0.5 + 0.6 + 0.6 + 0.8) / 6)


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
    assert found.difference.kind == "bootstrap"


def test_tasks_with_unequal_numbers_of_seeds_count_equally():
    scores = {"a": np.zeros(5), "b": np.ones(20)}
    found = aggregate(scores, 200)
    assert found["mean"].point == pytest.approx(0.5)
    assert found["iqm"].point == pytest.approx(0.5)
    assert found["mean"].interval == pytest.approx((0.5, 0.5))


def test_unequal_layout_agrees_with_the_equal_one_where_they_meet():
    # The same task values, once with each run written twice: weights make both the same distribution of scores.
    scores = scores_of(8, 4)
    doubled = by_task(scores)
    doubled["task00"] = np.repeat(doubled["task00"], 2)
    even, uneven = aggregate(by_task(scores), 20), aggregate(doubled, 20)
    for name in ("mean", "iqm", "median"):
        assert uneven[name].point == pytest.approx(even[name].point, abs=1e-12)


def test_unequal_bootstrap_has_the_right_spread():
    random = np.random.RandomState(0)
    scores = {"a": random.rand(6), "b": random.rand(30)}
    low, high = aggregate(scores, 20_000)["mean"].interval
    exact = np.sqrt(sum(values.var() / len(values) for values in scores.values()) / 4)  # of a resampled mean
    assert (high - low) / 2 == pytest.approx(1.96 * exact, rel=0.05)


def test_few_seeds_give_a_welch_t_interval_for_the_mean():
    a, b = np.array([0.4, 0.5, 0.7]), np.array([0.2, 0.3, 0.35])
    found = aggregate({"a": a, "b": b}, 100)
    assert found["mean"].kind == "t"
    assert found["iqm"].kind == "bootstrap"
    # scipy's Welch interval of the difference a - (-b), halved, is that of the mean of both task means.
    reference = stats.ttest_ind(a, -b, equal_var=False).confidence_interval(0.95)
    assert found["mean"].interval == pytest.approx((reference.low / 2, reference.high / 2), abs=1e-12)


def test_few_seeds_give_a_welch_t_interval_for_the_difference():
    x, y = np.array([0.2, 0.4, 0.9]), np.array([0.1, 0.3, 0.35, 0.5])
    found = improvements({"x": {"t": x}, "y": {"t": y}}, [("x", "y")], 100)["x", "y"]
    reference = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    assert found.difference.kind == "t"
    assert found.difference.interval == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_t_interval_stays_inside_the_range_of_scores():
    assert aggregate({"a": np.array([0.0, 1.0])}, 10)["mean"].interval == (0.0, 1.0)


def test_t_interval_of_scores_without_limits_is_not_cut():
    returns = np.array([-1500.0, -1400.0, -900.0])
    reference = stats.ttest_1samp(returns, 0).confidence_interval(0.95)
    for found in (aggregate({"a": returns}, 10, UNLIMITED)["mean"], mean({"a": returns}, 10, UNLIMITED).estimate(0)):
        assert found.kind == "t"
        assert found.interval == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_aggregates_of_scores_without_limits_equal_rliable_on_the_same_stream():
    scores = np.random.RandomState(4).normal(0.8, 0.6, (7, 3))  # normalised returns on both sides of 0 and 1
    assert scores.min() < 0
    assert scores.max() > 1
    points, intervals = rliable_intervals(
        scores,
        rliable_aggregates,
        stream_seed((7,) * 3),
    )
    ours = aggregate(by_task(scores), REPS, UNLIMITED)
    for k, name in enumerate(("mean", "iqm", "median", "optimality_gap")):
        assert ours[name].point == pytest.approx(points[k], abs=1e-12)
        assert ours[name].interval == pytest.approx(intervals[:, k], abs=1e-12)


def test_optimality_gap_of_few_seeds_is_never_negative():
    gap = aggregate({"a": np.array([0.9, 3.0])}, 10, UNLIMITED)["optimality_gap"]
    assert gap.point == pytest.approx(0.05)
    assert gap.interval[0] == 0.0


def test_probability_and_difference_do_not_depend_on_the_scale_of_returns():
    x, y = scores_of(6, 3, seed=1), scores_of(6, 3, seed=2)
    scaled = {"x": by_task(4000 * x - 3000), "y": by_task(4000 * y - 3000)}
    small = improvements({"x": by_task(x), "y": by_task(y)}, [("x", "y")], 600)["x", "y"]
    large = improvements(scaled, [("x", "y")], 600, UNLIMITED)["x", "y"]
    assert large.probability == small.probability
    assert large.difference.point == pytest.approx(4000 * small.difference.point)
    assert large.difference.interval == pytest.approx([4000 * bound for bound in small.difference.interval])


def test_long_curve_of_returns_has_the_interval_of_each_evaluation_alone():
    scores = np.random.RandomState(5).normal(-1000, 300, (6, 2, 400))  # more evaluations than fit one pass
    averages, iqms = mean_and_iqm(by_task(scores), 50, UNLIMITED)
    for k in (0, 199, 399):
        alone = aggregate(by_task(scores[..., k]), 50, UNLIMITED)
        assert averages.estimate(k).interval == pytest.approx(alone["mean"].interval, abs=1e-9)
        assert iqms.estimate(k).interval == pytest.approx(alone["iqm"].interval, abs=1e-9)
        assert iqms.estimate(k).point == pytest.approx(alone["iqm"].point, abs=1e-9)


def test_one_seed_gives_no_interval():
    found = aggregate({"a": np.array([0.5]), "b": np.array([0.2])}, 10)
    assert {estimate.interval for estimate in found.values()} == {None}
    pair = improvements({"x": {"t": np.array([0.5])}, "y": {"t": np.array([0.2])}}, [("x", "y")], 10)["x", "y"]
    assert pair.probability.point == 1.0
    assert pair.probability.interval is None
    assert pair.difference.interval is None


def test_runs_that_all_agree_have_an_interval_of_no_width():
    assert aggregate({"a": np.full(3, 0.5)}, 10)["mean"].interval == pytest.approx((0.5, 0.5))
    assert aggregate({"a": np.full(6, 0.5)}, 10)["iqm"].interval == pytest.approx((0.5, 0.5))


def test_welch_mean_takes_a_known_part_as_exact():
    x = np.array([0.2, 0.4, 0.9, 0.5])
    found = welch_mean([x.mean(), -0.1], [x.var(ddof=1), 0.0], [len(x), 1])
    reference = stats.ttest_1samp(x - 0.1, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_welch_mean_without_a_known_variance_has_no_interval():
    assert welch_mean([0.3], [np.nan], [1]).interval is None


def test_bounds_are_the_percentiles_of_a_95_per_cent_interval():
    assert PERCENTILES == (2.5, 97.5)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, "expected the scores of at least one task, got none"),
        ({"a": np.array([])}, "with at least one run for each task, got no run of `a`"),
        ({"a": np.array([50.0])}, "fractions in .* got values from 50.0 to 50.0; divide successes by episodes"),
        ({"a": np.array([np.nan])}, "expected scores to be fractions"),
    ],
)
def test_bad_scores_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        aggregate(scores, 10)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_scores_without_limits_must_be_finite(bad):
    with pytest.raises(ValueError, match=r"expected scores to be finite numbers in .* got values from"):
        aggregate({"a": np.array([1.0, bad])}, 10, UNLIMITED)


def test_methods_on_different_tasks_are_refused():
    with pytest.raises(ValueError, match="expected `x` and `y` to have the same tasks"):
        improvements({"x": {"a": np.ones(2)}, "y": {"b": np.ones(2)}}, [("x", "y")], 10)


def test_number_of_repetitions_is_checked():
    with pytest.raises(ValueError, match="`reps` must be an int >= 1, got 0"):
        aggregate({"a": np.ones(6)}, 0)
