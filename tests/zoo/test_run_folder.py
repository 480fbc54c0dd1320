"""Run folders."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zoo.cli import UsageError
from zoo.run_folder import RunFolder, check_log_folder, find_model


def test_runs_that_start_together_never_share_a_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: RunFolder.create(tmp_path, "qam", "env-v0").path, range(24)))
    assert len(set(folders)) == 24


def test_folders_are_numbered_from_one(tmp_path: Path) -> None:
    names = [RunFolder.create(tmp_path, "qam", "env-v0").path.name for _ in range(3)]
    assert names == ["env-v0_1", "env-v0_2", "env-v0_3"]


def test_a_log_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(UsageError, match="the log folder must be writable"):
        check_log_folder(path / "below")


def test_a_run_folder_offers_its_final_model_then_its_newest_checkpoint_then_its_best(tmp_path: Path) -> None:
    folder = tmp_path / "maze-task1-v0_3"
    files = ["best_model.zip", "checkpoint/step_000000010.0/model.zip", "checkpoint/step_000000020.0/model.zip"]
    for name in [*files, "maze-task1-v0.zip"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        assert find_model(folder) == folder / name
    assert find_model(folder / files[0]) == folder / files[0]


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a saved model \(.zip\) or the folder of a run that has saved one"):
        find_model(tmp_path)
