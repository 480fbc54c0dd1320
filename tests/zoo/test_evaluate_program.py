"""`zoo/evaluate.py` plays by the protocol, and calls a score reproduced only where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.zoo.models.conftest import STEPS, maze_model
from tests.zoo.outcomes import call
from tests.zoo.test_train_program import ENV, arguments
from zoo import train
from zoo.evaluate import main
from zoo.models.score import Score

pytestmark = pytest.mark.filterwarnings("ignore:no state in:UserWarning")


def evaluate(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any], str]:
    return call(capsys, main, *words)


def policy(folder: Path, **about: Any) -> Path:
    """Save a policy for acting that never reaches the goal."""
    protocol = {"episodes": 2, "seed": 0, "env_kwargs": STEPS}
    maze_model(seed=3).save_policy(folder / "policy.safetensors", {"env": ENV, "protocol": protocol, **about})
    return folder / "policy.safetensors"


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("more", [[], ["--load-checkpoint", "20"]])
def test_a_run_scores_what_it_recorded_to_the_last_bit(
    runs: Path, number: int, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, _ = evaluate(capsys, "--algo", "qam", "--env", ENV, "-f", runs, "--exp-id", number, *more)
    with np.load(runs / "qam" / f"{ENV}_{number}" / "evaluations.npz") as recorded:
        assert (found["success"], found["return"]) == (recorded["successes"][-1].mean(), recorded["results"][-1].mean())
        assert found["episodes"] == recorded["results"].shape[1]
    assert (code, found["seed"], found["algo"], found["env"]) == (0, 5, "qam", ENV)


@pytest.mark.parametrize(
    ("flags", "kind", "expected"),
    [
        (["--success-return", "-1e9"], "success by return", 1.0),
        (["--score", "return", "--reference-scores", "-100,0"], "return", None),
    ],
)
def test_a_run_is_scored_as_it_was_in_training(
    flags: list[str], kind: str, expected: float | None, data: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert train.main(arguments(data, tmp_path, *flags, seeds=("--seed", "3"))) == 0
    capsys.readouterr()
    code, found, said = evaluate(capsys, "--algo", "qam", "--env", ENV, "-f", tmp_path)
    assert code == 0
    assert f"in {ENV}: {kind} " in said
    assert found[kind] == (found["return"] if expected is None else expected)
    normalised = None if expected is not None else pytest.approx(found["return"] / 100 + 1)
    assert found["normalised return"] == normalised


@pytest.mark.parametrize(
    ("interval", "code", "reproduced", "words"),
    [
        (("0", "0.4"), 0, True, "reproduced"),
        (("0.1", "1"), 1, False, "not reproduced: the score is outside the stated interval"),
    ],
)
def test_a_score_is_reproduced_only_inside_its_interval(
    interval: tuple[str, str], code: int, reproduced: bool, words: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    got, found, said = evaluate(capsys, policy(tmp_path), "--interval", *interval)
    assert (got, found["reproduced"], found["stated"]) == (code, reproduced, [float(end) for end in interval])
    assert f"; {words}\n" in said


@pytest.mark.parametrize(("score", "code"), [((0.1, 0.0, 0.4), 0), ((0.9, 0.6, 1.0), 1)])
def test_the_score_that_a_file_states_is_compared(
    score: tuple[float, float, float], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    got, found, _ = evaluate(capsys, policy(tmp_path, score=vars(Score("success", *score, 2))))
    assert (got, found["reproduced"], found["stated"]) == (code, code == 0, list(score[1:]))


def test_another_protocol_is_compared_with_no_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = policy(tmp_path, score=vars(Score("success", 0.9, 0.6, 1.0, 2)))
    code, found, said = evaluate(capsys, path, "--episodes", 1)
    assert (code, found["episodes"]) == (0, 1)
    assert "reproduced" not in found
    assert "not compared, because this is not its protocol" in said
    code, _, said = evaluate(capsys, path, "--seed", 4, "--interval", 0, 1)
    assert code == 2
    assert "`--interval` belongs to a score under the protocol, 2 episodes with the starts of seed 0" in said


def test_an_interval_in_percent_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = evaluate(capsys, policy(tmp_path), "--interval", 90, 100)
    assert code == 2
    assert "`--interval` must be an interval of fractions from 0 to 1" in said


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--algo", "qam"], "expected a MODEL, or --algo and --env"),
        (["model.zip", "--trained"], "MODEL and `--trained` both name an agent"),
        (["model.zip", "--load-best"], "`--load-best` chooses among the models of a run"),
        (["none.zip"], "which does not exist"),
    ],
)
def test_a_command_line_that_names_no_agent_or_two_is_refused(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, said = evaluate(capsys, *words)
    assert code == 2
    assert text in said
