"""Training with the settings of a trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.zoo.tuning.fakes import ENV, words
from zoo.errors import UsageError
from zoo.train import main as train
from zoo.tune import main
from zoo.tuning.trial import read_trial


@pytest.fixture
def logs(objective: object, tmp_path: Path) -> Path:
    """Return a log folder with a study of four trials."""
    assert main(words(tmp_path, "--n-trials", "4")) == 0
    return tmp_path


def test_a_trial_is_found_by_number_and_the_best_by_its_score(logs: Path) -> None:
    first = read_trial("s", "0", logs, "qam")
    assert first["settings"] == {"inverse_temperature": 0.3}
    assert first["source"].startswith("study s, trial 0 (score 0.")
    scores = [read_trial("s", str(number), logs, "qam")["source"] for number in range(4)]
    best = max(scores, key=lambda text: float(text.split("score ")[1].rstrip(")")))
    assert read_trial("s", "best", logs, "qam")["source"] == best


def test_a_study_is_named_by_its_file_too(logs: Path) -> None:
    file = str(logs / "studies" / "s" / "journal.log")
    for study in (file, f"{file}:s"):
        assert read_trial(study, "0", Path("elsewhere"), "qam")["settings"] == {"inverse_temperature": 0.3}


@pytest.mark.parametrize(
    ("study", "trial", "algo", "message"),
    [
        ("t", "0", "qam", "which has: s"),
        ("s", "9", "qam", "0, 1, 2, 3; or best"),
        ("s", "0", "fql", "tuned qam"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(logs: Path, study: str, trial: str, algo: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_trial(study, trial, logs, algo)


def test_a_journal_of_several_studies_asks_for_one(logs: Path) -> None:
    file = logs / "studies" / "s" / "journal.log"
    assert main([*words(logs, "--n-trials", "1", "--storage", str(file)), "--study-name", "t"]) == 0
    with pytest.raises(UsageError, match="s, t"):
        read_trial(str(file), "0", logs, "qam")
    assert read_trial(f"{file}:t", "0", logs, "qam")["source"].startswith("study t, trial 0")


def test_study_and_trial_belong_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["--algo", "qam", "--env", ENV, "--study", "s"]) == 2
    assert "--trial-id" in capsys.readouterr().err
