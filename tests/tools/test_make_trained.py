"""Trained agents are made of the runs that the rule names, and their page says what their files say."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from agents.common.sb3.acting import read_about
from tests.zoo.models.conftest import maze_model
from tools import make_trained
from tools.make_trained import PAGE, TASKS, find_runs, main, table, write_page
from zoo.models.trained import FOLDER
from zoo.runs.folder import RunFolder
from zoo.settings.record import RunRecord


def write_run(logs: Path, env: str = TASKS[0], state: str = "done", **config: Any) -> Path:
    settings = {"algo": "qam", "env": env, "profile": "mini", "seed": 0, "offline_steps": 20, **config}
    folder = RunFolder.create(logs, settings["algo"], env, settings["seed"])
    folder.write_config(RunRecord.read({"eval_episodes": 2, "env_kwargs": ["max_episode_steps=12"], **settings}))
    folder.write_origin({}, {"python": "3", "packages": {"torch": "2"}})
    folder.write_status(state, settings["seed"], 20, 0)
    folder.lock.release()
    return folder.path


def test_the_first_seeds_finished_run_of_the_benchmark_is_taken(tmp_path: Path) -> None:
    wanted = write_run(tmp_path)
    write_run(tmp_path, seed=1)
    write_run(tmp_path, profile="qam")
    write_run(tmp_path, label="mine")
    write_run(tmp_path, state="failed")
    write_run(tmp_path, env=TASKS[0].replace("task1", "task2"))
    large = write_run(tmp_path, env=TASKS[1])
    assert find_runs(tmp_path) == {("qam", TASKS[0]): wanted, ("qam", TASKS[1]): large}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return a folder with the agent of an untrained run, and its page."""
    folder, page = tmp_path / "trained", tmp_path / "trained.md"
    page.write_text("before\n<!-- table -->\nold\n<!-- end of the table -->\nafter\n")
    monkeypatch.setattr(make_trained, "FOLDER", folder)
    monkeypatch.setattr(make_trained, "PAGE", page)
    maze_model(seed=3).save(write_run(tmp_path / "logs") / f"{TASKS[0]}.zip")
    main([str(tmp_path / "logs")])
    return folder, page


def test_an_agent_states_its_score_and_its_page_shows_it(made: tuple[Path, Path]) -> None:
    folder, page = made
    about = read_about(folder / "qam" / f"{TASKS[0]}.safetensors")
    assert (about["score"]["mean"], about["score"]["episodes"]) == (0.0, 2)
    assert about["first_episode"] == {"return": -12.0, "length": 12}
    assert about["protocol"] == {"episodes": 2, "seed": 0, "env_kwargs": {"max_episode_steps": 12}}
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert lines[4].startswith("| QAM (`qam`) | 0 [0.0, 65.8] |  | ")
    assert "old" not in lines


def test_the_page_shows_what_the_files_state(tmp_path: Path) -> None:
    page = Path(shutil.copy(PAGE, tmp_path))
    write_page(FOLDER, page)
    assert page.read_text() == PAGE.read_text()
    assert table(FOLDER).count("\n| ") == len(list(FOLDER.glob("*")))
