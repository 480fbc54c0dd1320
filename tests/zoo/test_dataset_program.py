"""The dataset program: its commands, its last line of JSON and its exit codes."""

import dataclasses

import numpy as np
import pytest

from agents.common.files import digest_of
from tests.zoo.datasets.conftest import NAME, small_arrays, write_shard
from zoo.dataset import main
from zoo.datasets import check, shards
from zoo.datasets.names import DATASETS

STITCH = "pointmaze-medium-stitch-v0"


def test_list_tells_size_source_and_presence(call, tmp_path):
    (tmp_path / f"{NAME}.npz").touch()
    result, _ = call(main, "list", "--dataset-dir", tmp_path)
    rows = {row["name"]: row for row in result["datasets"]}
    assert rows[NAME]["here"]
    assert not rows[STITCH]["here"]
    assert rows["antmaze-giant-navigate-v0"] == {
        "name": "antmaze-giant-navigate-v0", "files": 1, "episodes": 500, "transitions": 1_000_000, "download": True,
        "generate": False, "here": False,
    }  # fmt: skip


def test_generate_then_info_then_check(call, tmp_path):
    words = [
        "generate",
        STITCH,
        "--dataset-dir",
        tmp_path,
        "--dataset-size",
        4000,
        "--num-workers",
        1,
    ]
    result, _ = call(main, *words)
    train, val = tmp_path / f"{STITCH}.npz", tmp_path / f"{STITCH}-val.npz"
    sha256 = digest_of(train)
    assert result == {
        "name": STITCH,
        "train": str(train),
        "val": str(val),
        "rows": 20 * 201,
        "sha256": sha256,
    }
    result, _ = call(main, "info", STITCH, "--dataset-dir", tmp_path)
    assert result["files"][str(train)]["arrays"]["qpos"] == {"shape": [4020, 2], "dtype": "float32"}
    assert result["files"][str(train)]["sha256"] == sha256
    result, _ = call(main, "check", STITCH, "--dataset-dir", tmp_path)
    assert result["sound"]
    assert result["standard"] is None  # too small for the standard set


@pytest.mark.parametrize(("sha256", "is_standard"), [("the file's", True), ("another", False)])
def test_check_compares_with_the_standard_set(data, sha256, is_standard, call, monkeypatch):
    monkeypatch.setattr(check, "TRANSITIONS", 1000)
    standard = check.digest_of_first(data / f"{NAME}.npz", 1001) if is_standard else sha256
    monkeypatch.setitem(check.SHA256, NAME, standard)
    result, output = call(main, "check", NAME, "--dataset-dir", data)
    assert result["standard"] == is_standard
    assert ("this is not the standard set" in output) != is_standard


def test_check_reports_what_is_broken(call, tmp_path):
    arrays = small_arrays()
    np.savez(tmp_path / f"{NAME}.npz", **{**arrays, "actions": 3.0 * np.sign(arrays["actions"])})
    np.savez(tmp_path / f"{NAME}-val.npz", **{**arrays, "qpos": np.full((33, 2), np.nan)})
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


def test_convert_makes_the_arrays_that_training_maps(call, large, monkeypatch):
    result, _ = call(main, "convert", NAME, "--dataset-dir", large)
    assert result == {
        "name": NAME,
        "folder": str(large / NAME / "arrays"),
        "files": 2,
        "transitions": 50,
    }
    monkeypatch.setattr(shards, "read_arrays", None)
    assert call(main, "convert", NAME, "--dataset-dir", large)[0] == result


def test_list_info_and_check_know_every_file(call, large):
    first, second = (large / NAME / f"{NAME}-00{number}.npz" for number in range(2))
    files = call(main, "info", NAME, "--dataset-dir", large)[0]["files"]
    assert {path: content["arrays"]["qpos"]["shape"] for path, content in files.items()} == {
        str(first): [33, 2],
        str(second): [22, 2],
    }
    second.unlink()
    rows = {row["name"]: row for row in call(main, "list", "--dataset-dir", large)[0]["datasets"]}
    assert not rows[NAME]["here"]
    result, _ = call(main, "check", NAME, "--dataset-dir", large, code=2)
    (row,) = [row for row in result["findings"] if row["severity"] == "error"]
    assert (row["file"], row["array"]) == (second.name, "file")
    assert "No such file" in row["message"]
