import numpy as np
import pytest
from scipy import stats

from tests.zoo.report.samples import by_task, scores_of
from zoo.report.statistics.aggregates import aggregate, mean, mean_and_iqm, performance_profile, seed_variances
from zoo.report.statistics.estimates import UNSURE
from zoo.report.statistics.improvement import improvements

UNLIMITED = (-np.inf, np.inf)
REPS = 1_200  # more than one block of resamples


def test_curve_has_the_interval_of_each_evaluation_alone():
    scores = np.stack([scores_of(6, 4, seed=k) for k in range(3)], axis=2)
    averages, iqms = mean_and_iqm(by_task(scores), REPS)
    only_mean = mean(by_task(scores))
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


def test_tasks_with_unequal_numbers_of_seeds_count_equally():
    scores = {"a": np.zeros(5), "b": np.ones(20)}
    found = aggregate(scores, 200)
    assert found["mean"].point == pytest.approx(0.5)
    assert found["iqm"].point == pytest.approx(0.5)


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
    assert found["mean"].kind == "t"
    assert found["iqm"].kind == "bootstrap"
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


def test_curve_has_the_least_variance_at_each_evaluation():
    agree = np.stack([np.full(3, 0.8), np.array([0.2, 0.8, 0.5])], axis=1)  # (runs, evaluations)
    bounds = mean({"a": agree}, episodes={"a": 20}).bounds
    for k in range(2):
        alone = aggregate({"a": agree[:, k]}, 10, episodes={"a": 20})["mean"]
        assert tuple(bounds[:, k]) == pytest.approx(alone.interval)
    assert bounds[1, 0] > 0.9


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
