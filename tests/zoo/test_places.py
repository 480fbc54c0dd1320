"""Unusual places and limits: what works there, and what is said where it cannot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tests.zoo.envs.namespaced  # registers the environment
from tests.zoo.test_train_program import TINY
from zoo.compare import main as compare
from zoo.runs.folder import RunFolder
from zoo.runs.read import read_runs
from zoo.train import main

ROOT = Path(__file__).parents[2]


def words(logs: Path, env: str = "Toy-v0") -> list[str]:
    found = [
        "--algo",
        "qam",
        "--env",
        env,
        "-f",
        str(logs),
        "--offline-steps",
        "0",
        "--online-steps",
        "9",
        "--seed",
        "1",
    ]
    return [*found, "--eval-episodes", "1", "--n-eval-envs", "1", "-params", *TINY, "learning_starts=3"]


def test_an_id_with_a_namespace_is_trained_resumed_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = tests.zoo.envs.namespaced.NAMESPACED
    assert main(words(tmp_path, env)) == 0
    folder = RunFolder(tmp_path / "qam" / "my-ns__Toy-v0_1")
    assert folder.model.is_file()
    assert main([*words(tmp_path, env), "--resume"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["already_done"]
    assert main(words(tmp_path, env)) == 0
    assert (tmp_path / "qam" / "my-ns__Toy-v0_2").is_dir()
    assert set(read_runs([tmp_path]).runs["environment"]) == {env}
    report = tmp_path / "report"
    assert compare([str(tmp_path / "qam"), "-o", str(report), "--reps", "50", "--format", "svg"]) == 0
    assert env in (report / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_unicode_folder_works_in_a_locale_that_does_not_know_it(tmp_path: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "OMP_NUM_THREADS": "1"}
    logs = tmp_path / "läufe-日本"
    command = [sys.executable, "-m", "zoo.train", *words(logs)]
    command[3:3] = ["--gym-packages", "tests.zoo.envs.toys", "--label", "für 日本"]
    for more in ([], ["--resume"]):
        subprocess.run([*command, *more], cwd=ROOT, env=environment, check=True)
    monitored = [sys.executable, "zoo/monitor.py", str(logs), "--curve"]
    subprocess.run(monitored, cwd=ROOT, env=environment, check=True)
    found = read_runs([tmp_path])
    assert list(found.runs["label"]) == ["für 日本"]
    assert not found.skipped()


def test_a_folder_that_is_deleted_under_a_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = RunFolder.write_evaluations

    def deleting(self: RunFolder, *args: object) -> None:
        shutil.rmtree(tmp_path / "logs")
        original(self, *args)

    monkeypatch.setattr(RunFolder, "write_evaluations", deleting)
    assert main([*words(tmp_path / "logs"), "--verbose", "0"]) == 1
    error = capsys.readouterr().err
    assert f"its folder {tmp_path / 'logs' / 'qam' / 'Toy-v0_1'} is gone" in error
    assert not (tmp_path / "logs").exists()
