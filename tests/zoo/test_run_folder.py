"""Run folders."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zoo.cli import UsageError
from zoo.run_folder import RunFolder, check_log_folder


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
