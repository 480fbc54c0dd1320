import numpy as np
import pytest
from scipy import stats

from tests.zoo.report.samples import by_task, scores_of
from zoo.report.statistics.aggregates import (
    aggregate,
    interquartile_mean,
    mean,
    performance_profile,
    seed_variances,
)
from zoo.report.statistics.estimates import UNSURE, Estimate, welch_mean, welch_p_values
from zoo.report.statistics.improvement import improvements

UNLIMITED = (-np.inf, np.inf)
REPS = 1_200  # more than one block of resamples


@pytest.mark.parametrize("episodes", [None, {f"task{k:02d}": 20 for k in range(4)}])
def test_curve_has_the_interval_of_each_evaluation_alone(episodes):
    scores = np.stack([scores_of(6, 4, seed=k) for k in range(3)], axis=2)
    scores[..., 1] = 0.8  # all runs agree by chance
    averages, iqms = mean(by_task(scores), episodes=episodes), interquartile_mean(by_task(scores), REPS)
    for k in range(3):
        alone = aggregate(by_task(scores[..., k]), REPS, episodes=episodes)
        for curve, name in ((averages, "mean"), (iqms, "iqm")):
            found, expected = curve.estimate(k), alone[name]
            assert (found.kind, found.interval) == (expected.kind, pytest.approx(expected.interval, abs=1e-12))
            assert found.point == pytest.approx(expected.point)


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


def test_definitions_on_a_small_matrix_and_on_tasks_with_unequal_numbers_of_seeds():
    # Task means 0.5, 0.2 and 0.8; sorted runs 0 .1 .2 .3 .5 .6 .6 .6 .9 .9, of which floor(12/4) = 3 go on each side.
    a, b, c = (np.array(runs) / 10 for runs in ([0, 5, 6, 9], [1, 2, 2, 3], [6, 8, 9, 9]))
    found = {name: estimate.point for name, estimate in aggregate({"a": a, "b": b, "c": c}, 10).items()}
    iqm = (0.2 + 0.3 + 0.5 + 0.6 + 0.6 + 0.8) / 6
    assert found == pytest.approx({"mean": 0.5, "median": 0.5, "optimality_gap": 0.5, "iqm": iqm})
    found = aggregate({"a": np.zeros(5), "b": np.ones(20)}, 200)  # they count equally
    assert (found["mean"].point, found["iqm"].point) == (pytest.approx(0.5), pytest.approx(0.5))


def test_unequal_bootstrap_has_the_right_spread():
    random = np.random.RandomState(0)
    scores = {"a": random.rand(6), "b": random.rand(30)}
    low, high = performance_profile(scores, np.array([0.5]), 20_000).bounds[:, 0]
    above = [values > 0.5 for values in scores.values()]
    exact = np.sqrt(sum(values.var() / len(values) for values in above) / 4)  # of a resampled fraction
    assert (high - low) / 2 == pytest.approx(1.96 * exact, rel=0.1)


def test_mean_has_a_welch_t_interval():
    a, b = np.array([0.4, 0.5, 0.7]), np.array([0.2, 0.3, 0.35])
    found = aggregate({"a": a, "b": b}, 100)
    assert (found["mean"].kind, found["iqm"].kind) == ("t", "bootstrap")
    # scipy's Welch interval of the difference a - (-b), halved, is that of the mean of both task means.
    reference = stats.ttest_ind(a, -b, equal_var=False).confidence_interval(0.95)
    assert found["mean"].interval == pytest.approx((reference.low / 2, reference.high / 2), abs=1e-12)


def test_t_interval_of_scores_without_limits_is_not_cut():
    returns = np.array([-1500.0, -1400.0, -900.0])
    reference = stats.ttest_1samp(returns, 0).confidence_interval(0.95)
    for found in (aggregate({"a": returns}, 10, UNLIMITED)["mean"], mean({"a": returns}, UNLIMITED).estimate(0)):
        assert found.kind == "t"
        assert found.interval == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_optimality_gap_of_few_seeds_is_never_negative():
    gap = aggregate({"a": np.array([0.9, 3.0])}, 10, UNLIMITED)["optimality_gap"]
    assert gap.point == pytest.approx(0.05)
    assert gap.interval[0] == 0.0


def test_one_seed_gives_no_interval():
    found = aggregate({"a": np.array([0.5]), "b": np.array([0.2])}, 10)
    assert {estimate.interval for estimate in found.values()} == {None}
    pair = improvements({"x": {"t": np.array([0.5])}, "y": {"t": np.array([0.2])}}, [("x", "y")], 10)["x", "y"]
    assert pair.probability.point == 1.0
    assert pair.probability.interval is None
    assert pair.difference.interval is None


@pytest.mark.parametrize("seeds", [3, 5, 12])
@pytest.mark.parametrize("score", [0.0, 0.8, 1.0])
def test_runs_that_agree_by_chance_are_not_certain(seeds, score):
    found = aggregate({"a": np.full(seeds, score)}, 10, episodes={"a": 10})["mean"]
    rate = (10 * seeds * score + 2) / (10 * seeds + 4)
    half = stats.t.ppf(0.975, seeds - 1) * np.sqrt(rate * (1 - rate) / (10 * seeds))
    assert found.interval == pytest.approx((max(0, score - half), min(1, score + half)))
    assert found.interval[1] - found.interval[0] > 0.02


def test_spread_of_seeds_above_that_of_episodes_is_the_one_that_counts():
    scores = {"a": np.array([0.1, 0.9, 0.3, 0.7])}
    assert seed_variances(scores, episodes={"a": 50})[0] == pytest.approx(scores["a"].var(ddof=1))
    assert aggregate(scores, 10, episodes={"a": 50})["mean"] == aggregate(scores, 10)["mean"]


def test_runs_that_all_agree_have_no_interval_where_nothing_bounds_their_variance():
    found = aggregate({"a": np.full(6, 0.1 + 0.2)}, 10)
    assert {name: (estimate.interval, estimate.kind) for name, estimate in found.items()} == dict.fromkeys(
        ("mean", "iqm", "median", "optimality_gap"), (None, UNSURE)
    )


@pytest.mark.parametrize(
    "scores", [{}, {"a": np.array([])}, {"a": np.array([50.0])}, {"a": np.array([np.nan])}, {"a": np.array([np.inf])}]
)
def test_bad_scores_are_refused(scores):
    with pytest.raises(ValueError, match="expected"):
        aggregate(scores, 10)


def test_ties_count_half_and_wins_one():
    scores = {"x": {"t": np.array([0.5, 1.0])}, "y": {"t": np.array([0.5, 0.0])}}
    found = improvements(scores, [("x", "y"), ("y", "x")], 10)
    assert found["x", "y"].probability.point == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert found["y", "x"].probability.point == pytest.approx(0.5 / 4)
    assert found["x", "y"].difference.point == pytest.approx(0.5)


def test_methods_with_unequal_numbers_of_seeds_are_compared():
    x, y = np.linspace(0.5, 1, 12), np.linspace(0, 0.6, 7)
    found = improvements({"x": {"t": x}, "y": {"t": y}}, [("x", "y")], 2000)["x", "y"]
    assert found.probability.point == pytest.approx(stats.mannwhitneyu(x, y).statistic / (12 * 7))
    low, high = found.probability.interval
    assert low < found.probability.point < high
    reference = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
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


def test_welch_mean_takes_a_known_part_as_exact():
    x = np.array([0.2, 0.4, 0.9, 0.5])
    found = welch_mean([x.mean(), -0.1], [x.var(ddof=1), 0.0], [len(x), 1])
    reference = stats.ttest_1samp(x - 0.1, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_runs_that_agree_exactly_have_no_p_value():
    assert np.isnan(welch_p_values(np.array([0.0, 0.1]), np.zeros((2, 2)), np.array([[3], [3]]))).all()
