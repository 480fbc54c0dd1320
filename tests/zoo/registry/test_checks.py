"""Scores that are played or trained again: what counts as the same, and where a stranger's code runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.zoo.runs.test_read import write_run
from zoo import verify
from zoo.errors import UsageError
from zoo.registry import checks
from zoo.report import published_scores
from zoo.report.published_scores import load_set
from zoo.training.arguments import make_parser

MEDIUM = "pointmaze-medium-navigate-singletask-task1-v0"


def test_one_more_seed_is_expected_within_students_interval() -> None:
    runs = pd.DataFrame({"successes": [10, 20, 30], "episodes": 50})
    low, high = checks.expected_range(runs)  # mean 20, deviation 10, t = 4.3027 at two degrees of freedom
    assert high == 50
    assert low == 0
    low, high = checks.expected_range(pd.DataFrame({"successes": [20, 21, 22, 23, 24] * 4, "episodes": 50}))
    assert (low + high) / 2 == pytest.approx(22)
    # of 50 episodes at 44% alone: sd sqrt(50 * 0.44 * 0.56 + 1) = 3.65, more than that of the seeds; t = 2.093
    assert high - low == pytest.approx(2 * 2.093 * 3.651 * (1 + 1 / 20) ** 0.5, rel=1e-3)


@pytest.mark.parametrize(("outside", "number", "holds"), [(0, 1, True), (1, 1, False), (2, 10, True), (3, 10, False)])
def test_no_more_runs_lie_outside_than_chance_explains(outside: int, number: int, holds: bool) -> None:
    rows = [{"stated": 30, "found": 45 if k < outside else 31, "low": 25.0, "high": 35.0} for k in range(number)]
    assert checks.holds(rows) is holds
    assert checks.count_inside(rows) == number - outside


@pytest.mark.slow
def test_a_packaged_agent_is_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "list_trained", lambda: {"sqam": [MEDIUM]})
    found = load_set("mini")
    entry = checks.replay(found)
    (row,) = entry["runs"]
    assert (row["method"], row["environment"], row["seed"], row["episodes"]) == ("SQAM", MEDIUM, 0, 50)
    assert row["low"] <= row["stated"] <= row["high"]
    assert entry["holds"] is (row["low"] <= row["found"] <= row["high"])
    checks.record(entry, tmp_path / "checks.yml")
    again = replace(found, checks=yaml.safe_load((tmp_path / "checks.yml").read_text())["checks"])
    assert again.level == ("replayed" if entry["holds"] else "raw")
    checks.record({**entry, "level": "retrained", "holds": True}, tmp_path / "checks.yml")
    kept = yaml.safe_load((tmp_path / "checks.yml").read_text())["checks"]
    assert [each["level"] for each in kept] == ["replayed", "retrained"]
    assert replace(found, checks=kept).level == "retrained"


def test_runs_that_are_drawn_are_trained_with_their_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def train(command: list[str], folder: Path | None) -> None:
        words = dict(zip(command[3::2], command[4::2], strict=True))
        commands.append(command)
        write_run(
            Path(words["-f"]) / "run",
            algo=words["--algo"],
            env=words["--env"],
            seed=int(words["--seed"]),
            offline=(50,),
        )

    monkeypatch.setattr(checks, "_train", train)
    monkeypatch.setattr(published_scores, "FOLDER", shutil.copytree(published_scores.FOLDER, tmp_path / "published"))
    shutil.copytree(Path(__file__).parents[3] / "results" / "mini", tmp_path / "mini")
    code = verify.main(["mini", "--retrain", "3", "--work", str(tmp_path / "work")])
    assert len(commands) == 3
    assert all(command[command.index("--profile") + 1] == "mini" for command in commands)
    entry = load_set("mini").checks[-1]
    assert [row["found"] for row in entry["runs"]] == [50, 50, 50]
    assert code == int(not entry["holds"])


def test_scores_without_runs_cannot_be_checked() -> None:
    with pytest.raises(UsageError, match="means alone"):
        checks.replay(load_set("rql2026"))


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed; `apt install bubblewrap`")
def test_a_strangers_code_neither_writes_outside_nor_reaches_the_network(tmp_path: Path) -> None:
    work, code, outside = (tmp_path / name for name in ("work", "code", "outside"))
    for folder in (work, code, outside):
        folder.mkdir()
    (code / "stranger.py").write_text(
        "import pathlib, socket, sys\n"
        "pathlib.Path(sys.argv[1], 'made').touch()\n"
        "for place in sys.argv[2:]:\n"
        "    try:\n"
        "        pathlib.Path(place, 'made').touch()\n"
        "    except OSError:\n"
        "        continue\n"
        "    sys.exit(f'wrote below {place}')\n"
        "assert socket.if_nameindex() == [(1, 'lo')], socket.if_nameindex()\n"
    )
    words = [sys.executable, "stranger.py", *map(str, (work, code, outside, Path(__file__).parent))]
    done = subprocess.run(checks.sandboxed(words, code, work), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (work / "made").exists()
    assert not (code / "made").exists()


def test_without_a_sandbox_a_strangers_code_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="install bubblewrap"):
        checks.sandboxed(["true"], tmp_path, tmp_path)


def test_settings_of_a_strangers_method_come_from_its_submission(tmp_path: Path) -> None:
    config: dict[str, Any] = {"algo": "mine:Mine", "env": MEDIUM, "settings": {"gamma": 0.5}}
    config |= {"offline_steps": 500, "eval_episodes": 20, "pretraining_steps": 9, "env_kwargs": ["a=1"], "eval_seed": 7}
    (tmp_path / "config.yml").write_text(yaml.safe_dump({MEDIUM: config}))
    found = replace(load_set("mini"), name="mine/2026-11-30-lab", runs=tmp_path)
    run = {"method": "mine", "environment": MEDIUM, "seed": 3}
    command = checks.train_command(found, run, tmp_path, tmp_path / "logs")
    args = make_parser().parse_args(command[3:])
    assert (args.algo, args.seed, args.eval_seed, args.env_kwargs) == ("mine:Mine", 3, 7, ["a=1"])
    settings = {"gamma": 0.5, "offline_steps": 500, "eval_episodes": 20, "pretraining_steps": 9}
    assert yaml.safe_load(Path(args.conf_file).read_text()) == {MEDIUM: settings}
    (tmp_path / "config.yml").unlink()
    with pytest.raises(UsageError, match=r"config\.yml"):
        checks.train_command(found, run, tmp_path, tmp_path / "logs")
