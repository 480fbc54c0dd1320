"""Rank tests of two small groups, against SciPy and against closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from benchmarks.rank_tests import detectable_shift, difference_of_means, rank_test, seeds_for_equivalence, smallest_p


@pytest.mark.parametrize("seed", range(5))
def test_unequal_scores_have_scipys_exact_p_value(seed: int) -> None:
    generator = np.random.default_rng(seed)
    ours, theirs = generator.normal(size=7), generator.normal(0.5, size=5)
    assert rank_test(ours, theirs) == pytest.approx(stats.mannwhitneyu(ours, theirs, method="exact").pvalue)


@pytest.mark.parametrize("seed", range(3))
def test_ties_have_the_p_value_of_all_permutations(seed: int) -> None:
    generator = np.random.default_rng(seed)
    ours, theirs = generator.integers(0, 4, 5), generator.integers(1, 5, 4)
    every = stats.PermutationMethod(n_resamples=1_000)  # there are 126
    assert rank_test(ours, theirs) == pytest.approx(stats.mannwhitneyu(ours, theirs, method=every).pvalue)


def test_difference_has_welchs_interval() -> None:
    ours, theirs = [20.0, 35, 50, 80], [10.0, 15, 90]
    difference, half_width = difference_of_means(ours, theirs)
    expected = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    assert (difference - half_width, difference + half_width) == pytest.approx((expected.low, expected.high))


def test_detectable_shift_is_found_at_the_given_rate() -> None:
    shift = detectable_shift(6, 0.05)
    generator = np.random.default_rng(1)
    found = [rank_test(generator.normal(shift, size=6), generator.normal(size=6)) <= 0.05 for _ in range(500)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


def test_smallest_p_is_that_of_the_best_division() -> None:
    pooled = [0.0, 0, 0, 0, 1, 2]
    divisions = [
        rank_test([pooled[i] for i in own], [pooled[i] for i in range(6) if i not in own])
        for own in itertools.combinations(range(6), 3)
    ]
    assert smallest_p(pooled[::2], pooled[1::2]) == min(divisions)


def test_seeds_for_equivalence_show_equal_means_at_the_given_rate() -> None:
    size, generator = seeds_for_equivalence(10, 10), np.random.default_rng(0)
    found = [difference_of_means(*generator.normal(0, 10, (2, size)), level=0.9) for _ in range(500)]
    assert np.mean([abs(difference) + half_width < 10 for difference, half_width in found]) == pytest.approx(
        0.8, abs=0.08
    )
