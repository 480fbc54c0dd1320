"""The dataset program: its commands, its JSON output and its exit codes."""

import dataclasses

import numpy as np

from agents.common.files import digest_of
from tests.zoo.datasets.conftest import NAME, TASK_1, small_arrays, write_shard
from zoo.dataset import main
from zoo.datasets.names import DATASETS

STITCH = "pointmaze-medium-stitch-v0"


def test_generate_then_check(call, tmp_path):
    words = f"{STITCH} --dataset-dir {tmp_path}".split()
    result, _ = call(main, "generate", *words, "--dataset-size", "400")
    train, val = tmp_path / f"{STITCH}.npz", tmp_path / f"{STITCH}-val.npz"
    expected = {"name": STITCH, "train": str(train), "val": str(val), "sha256": digest_of(train)}
    assert result == expected | {"rows": 2 * 201}
    result, _ = call(main, "check", *words)
    assert result["sound"]
    assert result["files"][train.name]["success_states"].keys() == set("12345")


def test_check_reports_what_is_broken(call, tmp_path):
    broken = {NAME: ("actions", 3.0), f"{NAME}-val": ("qpos", np.nan)}
    for name, (array, value) in broken.items():
        arrays = small_arrays() | {array: np.full((33, 2), value)}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    result, output = call(main, "check", NAME, "--dataset-dir", tmp_path, code=2)
    assert not result["sound"]
    assert "Findings in" in output
    for row, (name, (array, _)) in zip(result["findings"], broken.items(), strict=True):
        assert (row["file"], row["severity"]) == (f"{name}.npz", "error")
        assert array in row["message"]


# -- datasets of several files ----------------------------------------------------------------------------------------


def test_list_and_check_know_every_file(call, tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, NAME, dataclasses.replace(DATASETS[NAME], files=2))
    for number in range(2):
        write_shard(tmp_path / NAME, number, episodes=3 - number)
    first, second = (tmp_path / NAME / f"{NAME}-00{number}.npz" for number in range(2))
    result, output = call(main, "list", "--dataset-dir", tmp_path)
    assert result == {"here": [NAME]}
    assert "antmaze-giant-navigate-v0" in output
    assert max(map(len, output.splitlines())) <= 80
    assert call(main, "check", NAME, "--dataset-dir", tmp_path)[0]["sound"]
    # the user's own folder and file of OGBench's states
    for source, names in {second.parent: {first.name, second.name}, second: {second.name}}.items():
        assert call(main, "check", source, "--env", TASK_1)[0]["files"].keys() == names
    second.unlink()
    assert not call(main, "list", "--dataset-dir", tmp_path)[0]["here"]
    result, _ = call(main, "check", NAME, "--dataset-dir", tmp_path, code=2)
    (row,) = [row for row in result["findings"] if row["severity"] == "error"]
    assert row["file"] == second.name
    assert f"{second} cannot be used: No such file or directory; download" in row["message"]
