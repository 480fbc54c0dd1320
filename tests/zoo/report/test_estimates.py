import numpy as np
import pytest
from scipy import stats

from zoo.report.estimates import PERCENTILES, welch_mean


def test_welch_mean_takes_a_known_part_as_exact():
    x = np.array([0.2, 0.4, 0.9, 0.5])
    found = welch_mean([x.mean(), -0.1], [x.var(ddof=1), 0.0], [len(x), 1])
    reference = stats.ttest_1samp(x - 0.1, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_welch_mean_without_a_known_variance_has_no_interval():
    assert welch_mean([0.3], [np.nan], [1]).interval is None


def test_bounds_are_the_percentiles_of_a_95_per_cent_interval():
    assert PERCENTILES == (2.5, 97.5)
