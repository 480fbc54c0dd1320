"""Run folders."""

from __future__ import annotations

import contextlib
import csv
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import CannotResume, Interrupted
from zoo.runs.folder import RunFolder, ending_recorded


def test_runs_that_start_together_never_share_a_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: RunFolder.create(tmp_path, "qam", "env-v0", 0).path, range(24)))
    assert len(set(folders)) == 24


# -- the index --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_processes_that_write_the_index_together_lose_no_row(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from zoo.runs.folder import RunFolder\n"
        "for seed in range(20): RunFolder.create(Path(sys.argv[1]), 'qam', 'env-v0', seed).enter_in_index(seed, 'qam')"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(subprocess.Popen(command, cwd=Path(__file__).parents[3]))
    with open(tmp_path / "qam" / "runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["run", "env", "seed", "label", "started", "command"]
    assert {row["run"] for row in rows} == {f"env-v0_{number}" for number in range(1, 81)}


# -- how a run ends ---------------------------------------------------------------------------------------------------


def status_of(folder: RunFolder) -> dict[str, Any]:
    return dict(json.loads((folder.path / "status.json").read_text()))


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ArithmeticError("broke"), "failed"),
        (KeyboardInterrupt("stop"), "interrupted"),
        (Interrupted("stop"), "interrupted"),
    ],
)
def test_an_exception_ends_the_runs_with_its_reason(tmp_path: Path, error: BaseException, state: str) -> None:
    folders = [RunFolder.create(tmp_path, "qam", "env-v0", 0)]
    folders[0].write_status("running", 3, 7, 0, pretraining_step=2)

    def start() -> None:
        with ending_recorded(folders, [3, 4, 5]):
            folders.append(RunFolder.create(tmp_path, "qam", "env-v0", 0))  # without a status yet
            raise error

    with pytest.raises(type(error)):
        start()
    first, second = map(status_of, folders)
    assert first.pop("updated")
    reason = f"{type(error).__name__}: {error}"
    assert first == {
        "state": state, "seed": 3, "offline_step": 7, "online_step": 0, "pretraining_step": 2, "reason": reason,
    }  # fmt: skip
    assert (second["state"], second["seed"], second["reason"]) == (state, 4, reason)


@pytest.mark.parametrize("state", ["done", "failed"])
def test_a_run_that_has_ended_keeps_its_ending(tmp_path: Path, state: str) -> None:
    folder = RunFolder.create(tmp_path, "qam", "env-v0", 0)
    folder.write_status(state, 3, 7, 0, reason="the first one")
    with pytest.raises(ArithmeticError), ending_recorded([folder], [3]):
        raise ArithmeticError("the second one")
    assert (status_of(folder)["state"], status_of(folder)["reason"]) == (state, "the first one")


def test_a_run_that_cannot_be_resumed_keeps_its_state(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "qam", "env-v0", 0)
    before = folder.status.read_bytes()
    with pytest.raises(CannotResume), ending_recorded([folder], [3]):
        raise CannotResume("every checkpoint is damaged")
    assert folder.status.read_bytes() == before
