"""What the training program says, where it keeps that, and what it refuses to begin."""

from __future__ import annotations

import json
import re
import sys
import warnings
from pathlib import Path

import pytest

from tests.zoo.test_train_program import ENV, arguments, train
from zoo.runs.folder import RunFolder
from zoo.runs.versions import command_line
from zoo.train import main

pytestmark = pytest.mark.filterwarnings("ignore:no state in:UserWarning")  # two episodes need not reach the goal


def log_of(folder: Path) -> str:
    return re.sub(r"^\S+Z ", "", (folder / "run.log").read_text(), flags=re.MULTILINE)


EVALUATION = (
    r"evaluation at step {} \({}\): success \d+\.\d% over 2 episodes, mean return -?\d+\.\d\d, mean length \d+\.\d"
)


def test_progress_is_a_line_now_and_then(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.training.callbacks.SECONDS_BETWEEN_LINES", 0.0)
    _, _, errors = train(capsys, arguments(data, tmp_path, steps=12, verbose=1))
    assert re.findall(r"^offline (\d+)/12, [\d.]+ steps/s", errors, re.MULTILINE) == [*map(str, range(1, 13))]
    assert re.search(r"^offline 11/12, [\d.]+ steps/s, loss \S+, success \d+\.\d%$", errors, re.MULTILINE)
    assert re.search(r"^offline 12/12, [\d.]+ steps/s, loss \S+$", errors, re.MULTILINE)  # an evaluation follows


def test_a_runs_log_has_everything_that_was_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, result, errors = train(capsys, arguments(data, tmp_path, verbose=1))
    assert code == 0
    command, said = log_of(Path(result["run"])).split("\n", 1)
    assert command == command_line()
    assert [line for line in said.splitlines() if line in errors.splitlines()] == errors.splitlines()
    assert "\nalgo: qam\n" in said
    assert len(errors.splitlines()) < 12  # the settings are in files
    assert errors.count("no state in") == 1
    for text in (
        "settings differ from",
        "warning: no state in",
        "replay buffer: ",
        "run folder, with all settings in config.yml: ",
        "evaluation at",
    ):
        assert f"\n{text}" in f"\n{said}"


def test_a_runs_log_has_the_traceback_of_its_failure(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise ArithmeticError("the curve broke")

    monkeypatch.setattr("zoo.training.start.plot_learning_curve", break_down)
    code, _, errors = train(capsys, arguments(data, tmp_path, verbose=1))
    assert code == 1
    assert errors.endswith("\nArithmeticError: the curve broke (run with --verbose 2 for the traceback)\n")
    assert "Traceback" not in errors
    text = log_of(tmp_path / "qam" / f"{ENV}_1")
    assert "Traceback (most recent call last):" in text
    assert "in _finish_replica" in text
    assert text.endswith("ArithmeticError: the curve broke\n")


# -- what it refuses, and how it fails --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "4", "5"], "`--seeds` and `--seed` both name seeds, got --seed 3 too; leave one of them out"),
        (["-tags", "a"], "`--wandb-tags` needs --track, which is not given"),
        (["--track"], "`--track` needs Weights & Biases; install it with `pip install wandb`"),
    ],
)
def test_what_contradicts_itself_is_refused_before_any_work(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    words: list[str], message: str,
) -> None:  # fmt: skip
    for tracker in ("wandb", "trackio"):
        monkeypatch.setitem(sys.modules, tracker, None)
    code, _, errors = train(capsys, [*arguments(data, tmp_path / "logs"), *words])
    assert (code, errors.count("\n")) == (2, 1)
    assert message in errors
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("place", ["zoo.training.start.set_logger"])
def test_what_fails_before_training_fails_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place, full)
    assert main(arguments(data, tmp_path, seeds=("--seeds", "4", "5"))) == 1
    for number in (1, 2):
        status = json.loads((tmp_path / "qam" / f"{ENV}_{number}" / "status.json").read_text())
        assert (status["state"], status["seed"]) == ("failed", 3 + number)
        assert "No space left on device" in status["reason"]


# -- --resume ---------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_named_and_not_built_again(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*arguments(data, tmp_path, verbose=1), "--resume"]
    _, first, errors = train(capsys, words)
    assert "no unfinished run matches: there is no run of this algorithm and environment; starting a new " in errors
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    def build(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be built")

    for name in ("make_evaluator", "make_model", "make_folders"):
        monkeypatch.setattr(f"zoo.training.start.{name}", build)
    code, second, errors = train(capsys, words)
    assert code == 0
    assert f"{tmp_path}/qam/{ENV}_1 (seed 3) has already finished with these settings" in errors
    known = {name: value for name, value in first.items() if name not in ("updates_per_s", "wall_s")}
    assert {name: second[name] for name in known} == known
    assert (second["already_done"], second["updates_per_s"]) == (True, None)
    assert "already_done" not in first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.slow
def test_the_log_of_a_resumed_run_goes_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*arguments(data, tmp_path, verbose=1), "--resume", "--save-freq", "4"]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt("stopped by the test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo.training.start.Training._finish", stop)
        patch.setattr(RunFolder, "claim", lambda self: True)  # a process would give up its claim with its end
        assert main(words) == 3
    capsys.readouterr()
    assert main([*words, "--seed", "8"]) == 0
    assert f"the nearest, {tmp_path}/qam/{ENV}_1, differs in seed: 3 there, 8 now; starting" in capsys.readouterr().err
    assert main(words) == 0
    errors = capsys.readouterr().err
    assert f"resuming {tmp_path}/qam/{ENV}_1 (seed 3) from offline step 20 of 20" in errors
    text = log_of(tmp_path / "qam" / f"{ENV}_1")
    assert text.index("evaluation at step 20") < text.index("stopped by the test") < text.index("resuming ")
    assert text.endswith(errors)
