"""What runs came to, in words and in numbers."""

import time

import numpy as np
import pytest

from zoo.runs.episodes import EpisodeResults
from zoo.runs.folder import RunFolder, with_evaluation
from zoo.runs.resume import describe_evaluation
from zoo.runs.scores import RETURN


def played(offset=0, episodes=4, with_success=True):
    """Return made-up results of two replicas."""
    numbers = offset + np.arange(2 * episodes).reshape(2, episodes)
    return EpisodeResults(
        successes=numbers % 2 if with_success else None,
        returns=-numbers.astype(np.float64) / 3,
        lengths=numbers + 100,
        seeds=np.arange(episodes, dtype=np.uint32) + 7,
        played=np.ones(2, bool),
    )


def test_evaluations_before_the_first_reported_success_are_failures():
    history = with_evaluation({}, 50, 0, played(with_success=False))
    assert "successes" not in history
    history = with_evaluation(history, 100, 0, played())
    assert history["successes"].tolist() == [[0, 0, 0, 0], [0, 1, 0, 1]]


def test_equal_histories_give_equal_bytes_on_another_day(tmp_path, monkeypatch):
    history = with_evaluation({}, 50, 0, played(), replica=1)
    RunFolder(tmp_path).write_evaluations(history)
    content = (tmp_path / "evaluations.npz").read_bytes()
    tomorrow = time.time() + 86400
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(tomorrow))
    RunFolder(tmp_path).write_evaluations(history)
    assert (tmp_path / "evaluations.npz").read_bytes() == content


def results(successes, returns):
    array = np.array(returns)
    lengths = np.full(array.shape, 30)
    played = np.isfinite(array).all(axis=1)
    rates = None if successes is None else np.array(successes)
    return EpisodeResults(rates, np.nan_to_num(array), lengths, np.arange(array.shape[1]), played)


def test_an_evaluation_is_one_line_with_a_mean_and_a_value_for_each_seed_that_played():
    alone = describe_evaluation(1000, "offline", results([[1, 0]], [[-10, -21]]), [3])
    assert alone == (
        "evaluation at step 1000 (offline): success 50.0% over 2 episodes, mean return -15.50, mean length 30.0"
    )
    both = describe_evaluation(7, "online", results([[1, 0], [1, 1]], [[-1, -1], [-2, -2]]), [3, 8])
    assert "success 75.0% over 2 episodes (seed 3: 50.0%, seed 8: 100.0%)" in both
    one_left = describe_evaluation(7, "online", results(None, [[np.nan, 0], [-2, -4]]), [3, 8])
    assert "mean return -3.00 over 2 episodes (seed 8: -3.00), " in one_left


@pytest.mark.parametrize(
    ("returns", "digits"),
    [([-1483.2, 12.0], 0), ([12.34, -0.1], 2), ([0.0123], 5), ([0.0], 1), ([], 1), ([2.5e7], 0)],
)
def test_returns_are_shown_with_four_significant_digits_of_the_largest(returns, digits):
    assert RETURN.digits(returns) == digits
