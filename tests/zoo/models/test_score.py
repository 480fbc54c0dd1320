"""Scores of an agent, with their intervals."""

import numpy as np
import pytest
from scipy import stats

from zoo.models.score import Score


@pytest.mark.parametrize(("won", "episodes"), [(0, 50), (25, 50), (1, 1)])
def test_success_has_wilsons_interval(won, episodes):
    score = Score.of(np.zeros(episodes), np.arange(episodes) < won)
    interval = stats.binomtest(won, episodes).proportion_ci(method="wilson")
    assert (score.kind, score.mean, score.episodes) == ("success", won / episodes, episodes)
    assert score.interval == pytest.approx(interval, abs=1e-9)


def test_returns_have_students_interval():
    returns = np.array([1.0, 2.0, 4.0])
    score = Score.of(returns, None)
    assert score.kind == "return"
    assert score.interval == pytest.approx(stats.ttest_1samp(returns, 0).confidence_interval())


def test_one_return_has_no_interval_and_equal_ones_an_empty_one():
    score = Score.of(np.array([5.0]), None)
    assert score.interval is None
    assert Score.of(np.array([5.0, 5.0]), None).interval == (5.0, 5.0)
