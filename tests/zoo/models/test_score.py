"""Scores of one agent, and when another one reproduces them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from zoo.errors import UsageError
from zoo.models.score import Interval, Score, stated_interval
from zoo.playing.episodes import EpisodeResults


def results(returns: list[float], successes: list[int] | None = None) -> EpisodeResults:
    count = len(returns)
    return EpisodeResults(
        successes=None if successes is None else np.array([successes]),
        returns=np.array([returns]),
        lengths=np.ones((1, count), np.int64),
        seeds=np.arange(count),
        played=np.array([True]),
    )


@pytest.mark.parametrize(("won", "episodes"), [(0, 50), (1, 50), (25, 50), (50, 50), (1, 1)])
def test_success_has_wilsons_interval(won: int, episodes: int) -> None:
    score = Score.of(results([0.0] * episodes, [1] * won + [0] * (episodes - won)))
    p, z = won / episodes, stats.norm.ppf(0.975)
    middle = (p + z**2 / (2 * episodes)) / (1 + z**2 / episodes)
    reach = z / (1 + z**2 / episodes) * math.sqrt(p * (1 - p) / episodes + z**2 / (4 * episodes**2))
    assert (score.kind, score.mean, score.episodes) == ("success", p, episodes)
    assert (score.low, score.high) == pytest.approx((middle - reach, middle + reach), abs=1e-9)


def test_returns_have_students_interval() -> None:
    score = Score.of(results([1.0, 2.0, 4.0]))
    reach = stats.t.ppf(0.975, 2) * np.std([1, 2, 4], ddof=1) / math.sqrt(3)
    assert score.kind == "return"
    assert (score.low, score.high) == pytest.approx((7 / 3 - reach, 7 / 3 + reach))


def test_returns_that_are_all_the_same_have_no_width() -> None:
    assert Score.of(results([5.0, 5.0])).interval == Interval("return", 5.0, 5.0)


def test_one_return_says_nothing_about_the_next() -> None:
    assert Score.of(results([5.0])).interval == Interval("return", -math.inf, math.inf)


def test_a_score_is_read_as_it_was_written() -> None:
    score = Score("success", 0.5, 0.3, 0.7, 20)
    assert Score.read(score.plain()) == score
    assert score.text == "success 50.0% [30.0, 70.0]"
    assert Score("return", -12.25, -14, -10, 20).text == "return -12.2 [-14.0, -10.0]"


@pytest.mark.parametrize(
    ("kind", "mean", "inside"),
    [("success", 0.3, True), ("success", 0.7, True), ("success", 0.71, False), ("return", 0.5, False)],
)
def test_an_interval_contains_scores_of_its_kind_up_to_its_ends(kind: str, mean: float, inside: bool) -> None:
    assert Interval("success", 0.3, 0.7).contains(Score(kind, mean, 0, 1, 20)) == inside


@pytest.mark.parametrize(("low", "high"), [(0.9, 0.8), (90, 100), (-0.1, 0.5), (float("nan"), 1)])
def test_an_interval_of_success_is_one_of_fractions(low: float, high: float) -> None:
    with pytest.raises(UsageError, match="`--interval` must be an interval of fractions from 0 to 1"):
        stated_interval("success", low, high)


def test_an_interval_of_returns_has_no_bounds() -> None:
    assert stated_interval("return", -300, 20) == Interval("return", -300, 20)
