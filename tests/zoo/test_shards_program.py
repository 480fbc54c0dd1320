"""Training on a dataset of several files, end to end: killed across a swap it ends as if it had never been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.fault_suite.programs import Programs
from tests.zoo.datasets.test_shards import write_shard
from tests.zoo.test_resume_program import KILLED, Runner, assert_same_run, folder_of
from tests.zoo.test_train_program import arguments as plain_arguments
from tests.zoo.test_train_program import train

EVERY = 5  # updates a file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of a few trajectories, not all of one size."""
    made = tmp_path_factory.mktemp("set")
    for number, episodes in enumerate((4, 3, 4)):
        write_shard(made, number, episodes)
    return made


@pytest.fixture(scope="module")
def run(folder: Path, programs: Programs) -> Any:
    more = ("--dataset", str(folder), "--dataset-replace-interval", str(EVERY))
    runner = Runner(folder, programs)
    return lambda logs, *words, **settings: runner(logs, *words, *more, **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kill",
    [
        ("update", 17),  # offline, behind the third swap and the second checkpoint
        ("step", 25),  # online
        ("update", 10),  # right before a swap
        ("update", 11),  # right behind it
        ("write", 12),
        ("step", 44),
    ],
    ids=str,
)
def test_a_run_killed_among_several_files_ends_as_an_uninterrupted_one(
    run: Any, reference: Path, tmp_path: Path, kill: tuple[str, int]
) -> None:
    assert run(tmp_path, kill=kill) == KILLED
    assert run(tmp_path) == 0
    assert_same_run(tmp_path, reference)


@pytest.mark.slow
def test_the_record_covers_all_files(folder: Path, reference: Path) -> None:
    config = yaml.safe_load((folder_of(reference) / "config.yml").read_text())
    assert config["dataset"]["name"] == folder.name
    assert config["dataset"]["size"] == 110
    assert config["dataset_replace_interval"] == EVERY


@pytest.mark.parametrize(("storage", "place"), [("auto", "on cpu"), ("host", "in host memory")])
def test_where_the_data_live_is_said_and_recorded(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], storage: str, place: str
) -> None:
    words = [*plain_arguments(folder, tmp_path, steps=6), "--dataset", str(folder), "--storage", storage]
    code, result, said = train(capsys, [*words, "--verbose", "1", "--device", "cpu"])
    assert code == 0
    assert said.count("replay buffer: 0.00 GiB") == 1
    assert said.count("updates: eager") == 1
    recorded = json.loads((Path(result["run"]) / "versions.json").read_text())["storage"]
    assert place in recorded
    assert recorded in said


def test_trajectories_shorter_than_a_chunk_are_refused_before_there_is_a_run_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = plain_arguments(folder, tmp_path, "horizon_length=11", "--dataset", str(folder))
    code, _, errors = train(capsys, words)
    assert code == 2
    assert "`horizon_length` = 11 transitions must stay inside one trajectory" in errors
    assert "the longest of 10 transitions" in errors
    assert not list(tmp_path.rglob("status.json"))
