"""Scores of one agent, and when another one reproduces them."""

import math

import numpy as np
import pytest
from scipy import stats

from zoo.models.score import Score


@pytest.mark.parametrize(("won", "episodes"), [(0, 50), (25, 50), (1, 1)])
def test_success_has_wilsons_interval(won, episodes):
    score = Score.of(np.zeros(episodes), np.array([1] * won + [0] * (episodes - won)))
    p, z = won / episodes, stats.norm.ppf(0.975)
    middle = (p + z**2 / (2 * episodes)) / (1 + z**2 / episodes)
    reach = z / (1 + z**2 / episodes) * math.sqrt(p * (1 - p) / episodes + z**2 / (4 * episodes**2))
    assert score.kind == "success"
    assert score.mean == p
    assert score.episodes == episodes
    assert (score.low, score.high) == pytest.approx((middle - reach, middle + reach), abs=1e-9)


def test_returns_have_students_interval():
    score = Score.of(np.array([1.0, 2.0, 4.0]), None)
    reach = stats.t.ppf(0.975, 2) * np.std([1, 2, 4], ddof=1) / math.sqrt(3)
    assert score.kind == "return"
    assert (score.low, score.high) == pytest.approx((7 / 3 - reach, 7 / 3 + reach))


def test_one_return_says_nothing_about_the_next():
    score, same = Score.of(np.array([5.0]), None), Score.of(np.array([5.0, 5.0]), None)
    assert score.interval is None
    assert same.interval == (5.0, 5.0)


@pytest.mark.parametrize(
    ("returns", "text"),
    [
        ([0.021, 0.025], "return 0.023 [-0.002, 0.048]"),
        ([-344.0, -250.0], "return -297.0 [-894.2, 300.2]"),
    ],
)
def test_returns_have_the_decimals_that_their_interval_needs(returns, text):
    assert Score.of(np.array(returns), None).text == text
