"""Means, their differences and tests, compared with SciPy."""

import numpy as np
import pytest
from scipy import stats

from tests.zoo.report.samples import by_task, scores_of
from zoo.report.statistics import holm, mean, seeds_needed
from zoo.runs.scores import SUCCESS


def estimate_of(scores, episodes=None):
    return mean(scores, episodes).curve(SUCCESS.limits).estimate()


@pytest.mark.parametrize("episodes", [None, {f"task{k:02d}": 20 for k in range(4)}])
def test_curve_has_the_interval_of_each_evaluation_alone(episodes):
    scores = np.stack([scores_of(6, 4, seed=k) for k in range(3)], axis=2)
    scores[..., 1] = 0.8  # all runs have equal scores by chance
    curve = mean(by_task(scores), episodes).curve(SUCCESS.limits)
    for k in range(3):
        alone = mean(by_task(scores[..., k]), episodes).curve(SUCCESS.limits)
        assert curve.points[k] == pytest.approx(alone.points[0])
        assert curve.bounds[:, k] == pytest.approx(alone.bounds[:, 0], abs=1e-12)


def test_a_mean_has_a_welch_t_interval_and_tasks_count_equally():
    a = np.array([0.4, 0.5, 0.7])
    b = np.array([0.2, 0.3, 0.35, 0.3, 0.25])
    estimate = estimate_of({"a": a, "b": b})
    # half of SciPy's Welch interval of the difference a - (-b) is the interval of the mean of both tasks' means
    reference = stats.ttest_ind(a, -b, equal_var=False).confidence_interval()
    assert estimate.point == pytest.approx((0.5333333 + 0.28) / 2)
    assert estimate.interval == pytest.approx((reference.low / 2, reference.high / 2))


@pytest.mark.parametrize("seeds", [3, 5, 12])
@pytest.mark.parametrize("score", [0.0, 0.8, 1.0])
def test_runs_that_agree_by_chance_are_not_certain(seeds, score):
    estimate = estimate_of({"a": np.full(seeds, score)}, episodes={"a": 10})
    rate = (10 * seeds * score + 2) / (10 * seeds + 4)
    half = stats.t.ppf(0.975, seeds - 1) * np.sqrt(rate * (1 - rate) / (10 * seeds))
    assert estimate.interval == pytest.approx((max(0, score - half), min(1, score + half)))


def test_the_least_variance_of_episodes_only_widens_an_interval():
    random = np.random.RandomState(3)
    for _ in range(50):
        scores = by_task(random.randint(0, 21, (random.randint(2, 5), 3)) / 20)
        plain = mean(scores).half_widths()
        assert mean(scores, dict.fromkeys(scores, 20)).half_widths() >= plain


def test_one_seed_gives_no_interval():
    alone = mean({"a": np.array([0.5]), "b": np.array([0.2, 0.3])})
    assert alone.curve(SUCCESS.limits).estimate().interval is None
    difference = mean({"a": np.array([0.2, 0.3])}) - mean({"a": np.array([0.5])})
    assert difference.curve((-1, 1)).estimate().interval is None
    assert difference.p_value() is None


def test_equal_runs_have_no_interval():
    curve = mean({"a": np.array([0.2, 0.3 - 0.1])}).curve(SUCCESS.limits)  # equal but for rounding
    assert curve.estimate().interval is None
    assert curve.table()["low"].isna().all()


def test_holms_p_values_are_multiplied_in_order_and_at_most_1():
    assert holm([0.6, 0.001, 0.7]) == pytest.approx([1, 0.003, 1])


@pytest.mark.parametrize("seeds", [(3, 3), (5, 5), (12, 12), (12, 3), (5, 12)])
@pytest.mark.parametrize("tasks", [1, 8])
def test_equal_methods_differ_in_at_most_five_of_a_hundred(seeds, tasks):
    random = np.random.RandomState(0)
    episodes = dict.fromkeys(range(tasks), 50)

    def alike(runs):
        return dict(enumerate(random.binomial(50, 0.9, (tasks, runs, 2000)) / 50))

    def all_or_nothing(runs):
        # nearly the largest possible variance between seeds
        return dict(enumerate(np.where(random.rand(tasks, runs, 2000) < 0.5, 0.05, 0.95)))

    for draw in (alike, all_or_nothing):
        x, y = (mean(draw(runs), episodes) for runs in seeds)
        differs = abs((x - y).points) > (x - y).half_widths()
        # 5%, plus twice the standard error of the simulation
        assert differs.mean() <= 0.06


@pytest.mark.parametrize(("lead", "margin"), [(0.02, 0.03), (0.05, 0.0), (0.01, 0.03)])
def test_seeds_that_are_needed_are_the_first_number_that_decides(lead, margin):
    x = np.array([0.5, 0.6, 0.45, 0.55, 0.4])
    pair = mean({"t": x + lead}), mean({"t": x})
    room = max(lead, margin - lead)
    planned = seeds_needed(pair, (5, 5), margin, 0.05, 0.05)

    def half_width(seeds):
        return stats.t.ppf(0.975, seeds - 1) * np.sqrt(2 * x.var(ddof=1) / seeds)

    assert half_width(planned) < room <= half_width(planned - 1)
    assert seeds_needed(pair[::-1], (5, 5), margin, 0.05, 0.05) == planned
    later = seeds_needed(pair, (5, 5), margin, 0.05, 0.01)
    assert (later > planned) == (lead < margin - lead)


def test_planned_seeds_follow_from_the_spread_not_from_the_fewer_seeds():
    x = np.array([-1.0, 0.0, 1.0])
    y = stats.zscore(np.arange(12), ddof=1)
    means = [mean({"t": 0.5 + scores / 20}) for scores in (x, y)]
    other = mean({"t": 0.55 + y / 20})
    planned = [
        seeds_needed((means[k], other), (count, 12), 0.0, 0.05, 0.05)
        for k, count in ((0, 3), (1, 12))
    ]
    assert planned[0] == planned[1]
    assert seeds_needed((other, other), (12, 12), 0.0, 0.05, 0.05) is None
