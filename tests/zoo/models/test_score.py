"""Scores of an agent, with their intervals."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from zoo.models.score import Score


def score_of(returns, successes=None):
    return Score.of(SimpleNamespace(returns=[returns], successes=successes))


@pytest.mark.parametrize(("won", "episodes"), [(0, 50), (25, 50), (1, 1)])
def test_success_has_wilsons_interval(won, episodes):
    score = score_of(np.zeros(episodes), [np.arange(episodes) < won])
    interval = stats.binomtest(won, episodes).proportion_ci(method="wilson")
    assert (score.kind, score.mean, score.episodes) == ("success", won / episodes, episodes)
    assert score.interval == pytest.approx(interval, abs=1e-9)


def test_returns_have_students_interval():
    returns = np.array([1.0, 2.0, 4.0])
    score = score_of(returns)
    assert (score.text, score.episodes) == ("return 2.333 [-1.461, 6.128]", 3)
    assert score.interval == pytest.approx(stats.ttest_1samp(returns, 0).confidence_interval())


def test_one_return_has_no_interval_and_equal_ones_an_empty_one():
    score = score_of(np.array([5.0]))
    assert score.interval is None
    assert score_of(np.array([5.0, 5.0])).interval == (5.0, 5.0)
