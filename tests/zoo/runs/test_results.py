"""What runs came to, in words and in numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo.playing.episodes import EpisodeResults
from zoo.runs.folder import RunFolder
from zoo.runs.history import EvaluationHistory
from zoo.runs.results import describe_evaluation, joint_result, result_of


def results(successes: list[list[int]] | None, returns: list[list[float]]) -> EpisodeResults:
    array = np.array(returns)
    lengths = np.full(array.shape, 30)
    played = np.isfinite(array).all(axis=1)
    rates = None if successes is None else np.array(successes)
    return EpisodeResults(rates, np.nan_to_num(array), lengths, np.arange(array.shape[1]), played)


def test_an_evaluation_is_one_line() -> None:
    text = describe_evaluation(1000, "offline", results([[1, 0]], [[-10, -21]]), [3])
    assert text == (
        "evaluation at step 1000 (offline): success 0.50 over 2 episodes, mean return -15.50, mean length 30.0"
    )


def test_without_success_the_return_is_the_score() -> None:
    text = describe_evaluation(7, "online", results(None, [[-10, -21]]), [3])
    assert text == "evaluation at step 7 (online): mean return -15.50 over 2 episodes, mean length 30.0"


def test_stacked_seeds_have_a_mean_and_a_value_each() -> None:
    text = describe_evaluation(7, "online", results([[1, 0], [1, 1]], [[-1, -1], [-2, -2]]), [3, 8])
    assert "success 0.75 over 2 episodes (seed 3: 0.50, seed 8: 1.00), mean return -1.50, " in text


def test_a_replica_that_did_not_play_does_not_count() -> None:
    text = describe_evaluation(7, "online", results(None, [[np.nan, 0], [-2, -4]]), [3, 8])
    assert "mean return -3.00 over 2 episodes (seed 8: -3.00), " in text


def history_of(*evaluations: EpisodeResults) -> EvaluationHistory:
    history = EvaluationHistory()
    for number, evaluation in enumerate(evaluations, 1):
        history.append(10 * number, 0, evaluation)
    return history


def test_a_result_has_the_scores_of_the_last_evaluation(tmp_path: Path) -> None:
    history = history_of(results([[0, 0]], [[-3, -3]]), results([[1, 0]], [[-1, -2]]))
    assert result_of(RunFolder(tmp_path), 3, history) == {
        "run": str(tmp_path), "seed": 3, "success": 0.5, "return": -1.5, "episodes": 2, "steps": 20,
    }  # fmt: skip


def test_without_success_a_result_has_a_return(tmp_path: Path) -> None:
    found = result_of(RunFolder(tmp_path), 3, history_of(results(None, [[-1, -2]])))
    assert (found["success"], found["return"]) == (None, -1.5)


def test_a_learning_curve_is_named_where_there_is_one(tmp_path: Path) -> None:
    assert "learning_curve" not in result_of(RunFolder(tmp_path), 3, EvaluationHistory())
    (tmp_path / "learning_curve.png").touch()
    assert result_of(RunFolder(tmp_path), 3, EvaluationHistory())["learning_curve"] == str(
        tmp_path / "learning_curve.png"
    )


def test_several_seeds_are_several_runs() -> None:
    assert joint_result("qam", "some", 1.234, [{"seed": 3}]) == {
        "algo": "qam", "env": "some", "updates_per_s": 1.23, "seed": 3,
    }  # fmt: skip
    assert joint_result("qam", "some", None, [{"seed": 3}, {"seed": 4}])["runs"] == [{"seed": 3}, {"seed": 4}]
