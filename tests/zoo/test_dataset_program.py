"""The dataset program: its commands, its last line of JSON and its exit codes."""

import dataclasses

import numpy as np
import pytest

from agents.common.files import digest_of
from tests.zoo.datasets.conftest import NAME, small_arrays, write_shard
from zoo.dataset import main
from zoo.datasets import check
from zoo.datasets.names import DATASETS

STITCH = "pointmaze-medium-stitch-v0"


def test_list_tells_size_source_and_presence(call, tmp_path):
    (tmp_path / f"{NAME}.npz").touch()
    result, _ = call(main, "list", "--dataset-dir", tmp_path)
    rows = {row["name"]: row for row in result["datasets"]}
    assert rows[NAME]["here"]
    assert not rows[STITCH]["here"]
    assert rows["antmaze-giant-navigate-v0"] == {
        "name": "antmaze-giant-navigate-v0",
        "files": 1,
        "episodes": 500,
        "transitions": 1_000_000,
        "download": True,
        "generate": False,
        "here": False,
    }


def test_generate_then_info_then_check(call, tmp_path):
    words = f"{STITCH} --dataset-dir {tmp_path}".split()
    size = ["--dataset-size", "4000", "--num-workers", "1"]
    result, _ = call(main, "generate", *words, *size)
    train, val = tmp_path / f"{STITCH}.npz", tmp_path / f"{STITCH}-val.npz"
    expected = {"name": STITCH, "train": str(train), "val": str(val), "sha256": digest_of(train)}
    assert result == expected | {"rows": 20 * 201}
    described = call(main, "info", *words)[0]["files"][str(train)]
    assert described["arrays"]["qpos"] == {"shape": [4020, 2], "dtype": "float32"}
    assert described["sha256"] == result["sha256"]
    result, _ = call(main, "check", *words)
    assert result["sound"]
    assert result["standard"] is None  # too small for the standard set


@pytest.mark.parametrize("is_standard", [True, False])
def test_check_compares_with_the_standard_set(data, is_standard, call, monkeypatch):
    monkeypatch.setattr(check, "TRANSITIONS", 1000)
    digest = check.digest_of_first(data / f"{NAME}.npz", 1001 if is_standard else 1000)
    monkeypatch.setitem(check.SHA256, NAME, digest)
    result, output = call(main, "check", NAME, "--dataset-dir", data)
    assert result["standard"] == is_standard
    assert ("this is not the standard set" in output) != is_standard


def test_check_reports_what_is_broken(call, tmp_path):
    for name, changes in {
        NAME: {"actions": np.full((33, 2), 3.0)},
        f"{NAME}-val": {"qpos": np.full((33, 2), np.nan)},
    }.items():
        np.savez(tmp_path / f"{name}.npz", **small_arrays() | changes)
    result, output = call(main, "check", NAME, "--dataset-dir", tmp_path, code=2)
    assert not result["sound"]
    assert "Findings in" in output
    findings = [(row["file"], row["severity"], row["array"]) for row in result["findings"]]
    assert findings == [(f"{NAME}.npz", "error", "actions"), (f"{NAME}-val.npz", "error", "qpos")]


# -- datasets of several files ----------------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A folder of datasets with a point maze that comes in two files."""
    monkeypatch.setitem(DATASETS, NAME, dataclasses.replace(DATASETS[NAME], files=2))
    for number in range(2):
        write_shard(tmp_path / NAME, number, episodes=3 - number)
    return tmp_path


def test_convert_makes_the_arrays_that_training_maps(call, large):
    result, _ = call(main, "convert", NAME, "--dataset-dir", large)
    folder = str(large / NAME / "arrays")
    assert result == {"name": NAME, "folder": folder, "files": 2, "transitions": 50}


def test_list_info_and_check_know_every_file(call, large):
    first, second = (large / NAME / f"{NAME}-00{number}.npz" for number in range(2))
    files = call(main, "info", NAME, "--dataset-dir", large)[0]["files"]
    rows = {path: content["arrays"]["qpos"]["shape"][0] for path, content in files.items()}
    assert rows == {str(first): 33, str(second): 22}
    second.unlink()
    listed = call(main, "list", "--dataset-dir", large)[0]["datasets"]
    assert [row["here"] for row in listed if row["name"] == NAME] == [False]
    result, _ = call(main, "check", NAME, "--dataset-dir", large, code=2)
    (row,) = [row for row in result["findings"] if row["severity"] == "error"]
    assert (row["file"], row["array"]) == (second.name, "file")
    assert "No such file" in row["message"]
