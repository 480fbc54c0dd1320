import numpy as np
import pytest
from scipy import stats

from zoo.report.statistics.estimates import holm, welch_mean, welch_p_values


def test_welch_mean_takes_a_known_part_as_exact():
    x = np.array([0.2, 0.4, 0.9, 0.5])
    found = welch_mean([x.mean(), -0.1], [x.var(ddof=1), 0.0], [len(x), 1])
    reference = stats.ttest_1samp(x - 0.1, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_interval_is_cut_at_the_limits_of_the_number():
    assert welch_mean([0.9], [0.04], [5]).interval[1] > 1
    low, high = welch_mean([0.9], [0.04], [5], limits=(0.0, 1.0)).interval
    assert (low, high) == (pytest.approx(0.9 - stats.t.ppf(0.975, 4) * 0.2 / 5**0.5), 1.0)


def test_welch_mean_without_a_known_variance_has_no_interval():
    assert welch_mean([0.3], [np.nan], [1]).interval is None


def test_holm_multiplies_by_the_number_of_tests_left_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_counts_tests_that_are_missing() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], 10) == pytest.approx([0.09, 0.28, 0.24, 0.05])


def test_p_value_is_welchs():
    x, y = np.array([0.2, 0.4, 0.9]), np.array([0.1, 0.3, 0.35, 0.5])
    variances = np.array([[x.var(ddof=1)], [y.var(ddof=1)]])
    found = welch_p_values(np.array([x.mean() - y.mean()]), variances, np.array([[3], [4]]))
    assert found == pytest.approx([stats.ttest_ind(x, y, equal_var=False).pvalue])


def test_runs_that_agree_exactly_have_no_p_value():
    assert np.isnan(welch_p_values(np.array([0.0, 0.1]), np.zeros((2, 2)), np.array([[3], [3]]))).all()


def test_holm_adjusts_each_column_alone():
    values = np.array([[0.01, 0.2], [0.04, 0.01]])
    assert holm(values, 2) == pytest.approx(np.array([[0.02, 0.2], [0.04, 0.02]]))
