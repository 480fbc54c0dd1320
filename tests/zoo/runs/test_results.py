"""What runs came to, in words and in numbers."""

from __future__ import annotations

import numpy as np

from zoo.playing.episodes import EpisodeResults
from zoo.runs.results import describe_evaluation


def results(successes: list[list[int]] | None, returns: list[list[float]]) -> EpisodeResults:
    array = np.array(returns)
    lengths = np.full(array.shape, 30)
    played = np.isfinite(array).all(axis=1)
    rates = None if successes is None else np.array(successes)
    return EpisodeResults(rates, np.nan_to_num(array), lengths, np.arange(array.shape[1]), played)


def test_an_evaluation_is_one_line() -> None:
    text = describe_evaluation(1000, "offline", results([[1, 0]], [[-10, -21]]), [3])
    assert text == (
        "evaluation at step 1000 (offline): success 50.0% over 2 episodes, mean return -15.50, mean length 30.0"
    )


def test_stacked_seeds_have_a_mean_and_a_value_each() -> None:
    text = describe_evaluation(7, "online", results([[1, 0], [1, 1]], [[-1, -1], [-2, -2]]), [3, 8])
    assert "success 75.0% over 2 episodes (seed 3: 50.0%, seed 8: 100.0%), mean return -1.50, " in text


def test_a_replica_that_did_not_play_does_not_count() -> None:
    text = describe_evaluation(7, "online", results(None, [[np.nan, 0], [-2, -4]]), [3, 8])
    assert "mean return -3.00 over 2 episodes (seed 8: -3.00), " in text
