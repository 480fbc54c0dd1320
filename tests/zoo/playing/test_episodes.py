"""What episodes are scored by."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.playing.episodes import REPORTED, EpisodeResults, Scoring
from zoo.runs.results import describe_evaluation

RETURNS = np.array([[1.0, 2.0, 3.0]])


def results(successes: np.ndarray | None) -> EpisodeResults:
    return EpisodeResults(successes, RETURNS, np.ones((1, 3), int), np.arange(3), np.ones(1, bool))


def test_success_is_what_the_environment_reports_unless_asked_otherwise() -> None:
    reported = results(np.array([[1, 0, 0]]))
    assert REPORTED.apply(reported) is reported
    assert REPORTED.apply(results(None)).successes is None


@pytest.mark.parametrize("reported", [None, np.array([[1, 0, 0]])])
def test_a_threshold_counts_returns_of_at_least_it(reported: np.ndarray | None) -> None:
    found = Scoring(success_return=2.0).apply(results(reported))
    assert found.successes is not None
    assert found.successes.tolist() == [[0, 1, 1]]
    text = describe_evaluation(5, "offline", found, [0], Scoring(success_return=2.0))
    assert "success (return >= 2) 66.7% over 3 episodes" in text


def test_the_return_is_the_score_where_asked_for_and_normalised_by_references() -> None:
    scoring = Scoring("return", reference_scores=(0.0, 4.0))
    found = scoring.apply(results(np.array([[1, 0, 0]])))
    assert found.successes is None
    assert scoring.normalised(3.0) == 0.75
    assert REPORTED.normalised(3.0) is None
    assert "mean return 2.00 over 3 episodes, normalised return 50.0%" in describe_evaluation(
        5, "offline", found, [0], scoring
    )
