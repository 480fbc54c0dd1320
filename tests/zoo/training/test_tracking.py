"""What a tracker gets of a run, and what becomes of a run when its tracker fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.zoo.test_train_program import ENV, ROOT, arguments, train
from zoo.runs.folder import RunFolder
from zoo.train import main

pytestmark = pytest.mark.filterwarnings("ignore:no state in:UserWarning")  # two episodes need not reach the goal

STEP = "time/total_timesteps"
CLOCK = ("time/fps", "time/time_elapsed", "time/updates_per_s")


class Killed(BaseException):
    """Ends a run where it stands, as losing the machine would."""


class TrackerRun:
    """A run of the stand-ins: what it was begun with, its rows, and how it ended."""

    def __init__(self, options: dict[str, Any], hook: Callable[[int], None]) -> None:
        self.options, self.rows, self.exit_codes = options, [], []
        self.metrics: list[tuple[str, str]] = []
        self._hook = hook

    def define_metric(self, name: str, *, step_metric: str) -> None:
        self.metrics.append((name, step_metric))

    def log(self, data: dict[str, Any], step: int | None = None) -> None:
        row = dict(data) | ({} if step is None else {STEP: step})
        self._hook(int(row[STEP]))
        self.rows.append(row)

    def finish(self, exit_code: int = 0) -> None:
        self.exit_codes.append(exit_code)


class StandIn(types.ModuleType):
    """Stands for a tracker's package: takes the arguments of its `init` that are used here, and keeps the runs.

    :ivar hook: called with the step of every row, before it is kept.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.runs: list[TrackerRun] = []
        self.hook: Callable[[int], None] = lambda step: None
        self.init = {"wandb": self._wandb, "trackio": self._trackio}[name]

    def _wandb(
        self, *, project: str, entity: str | None, group: str | None, tags: list[str], name: str, id: str, resume: str,
        config: dict[str, Any], reinit: str,
    ) -> TrackerRun:  # fmt: skip
        assert (resume, reinit) == ("allow", "create_new")
        known = [run for run in self.runs if run.options["id"] == id]
        return known[0] if known else self._new(locals())

    def _trackio(
        self, project: str, name: str, *, group: str | None, config: dict[str, Any], resume: str, embed: bool
    ) -> TrackerRun:
        print("* trackio writes to standard output")
        assert (embed, resume) == (False, "allow")
        known = [run for run in self.runs if run.options["name"] == name]
        return known[0] if known else self._new(locals())

    def _new(self, options: dict[str, Any]) -> TrackerRun:
        self.runs.append(TrackerRun(options, lambda step: self.hook(step)))
        return self.runs[-1]


@pytest.fixture(params=["wandb", "trackio"])
def tracker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    module = StandIn(request.param)
    monkeypatch.setitem(sys.modules, request.param, module)
    return module


def rows_of(run: TrackerRun) -> list[dict[str, float]]:
    return sorted_rows([{name: value for name, value in row.items() if name not in CLOCK} for row in run.rows])


def rows_of_table(folder: Path) -> list[dict[str, float]]:
    table = pd.read_csv(folder / "progress.csv", float_precision="round_trip")
    table = table.drop(columns=[name for name in CLOCK if name in table])
    return sorted_rows([row.dropna().to_dict() for _, row in table.iterrows()])


def sorted_rows(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return sorted(rows, key=lambda row: (row[STEP], sorted(row)))


def folder_of(logs: Path, number: int = 1) -> Path:
    return logs / "qam" / f"{ENV}_{number}"


def test_a_tracker_gets_every_row_of_each_seed_in_a_run_of_its_own(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tracker: StandIn
) -> None:
    words = [*arguments(data, tmp_path, seeds=("--seeds", "4", "9")), "--track", tracker.__name__]
    assert main([*words, "--wandb-project-name", "mazes", "--wandb-group", "first"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert [run.options["config"]["seed"] for run in tracker.runs] == [4, 9]
    assert {(run.options["project"], run.options["group"]) for run in tracker.runs} == {("mazes", "first")}
    for number, run in enumerate(tracker.runs, start=1):
        assert run.options["name"].startswith(f"qam_{ENV}_{number}")
        assert run.options["config"]["settings"]["net_arch"] == [16, 16]
        assert rows_of(run) == rows_of_table(folder_of(tmp_path, number))
        assert run.exit_codes == [0]
        assert run.metrics == ([("*", STEP)] if tracker.__name__ == "wandb" else [])
    assert rows_of(tracker.runs[0]) != rows_of(tracker.runs[1])


@pytest.mark.few(1)
def test_a_resumed_run_goes_on_in_its_tracker_run_and_sends_nothing_twice(
    data: Path, tmp_path: Path, tracker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunFolder, "claim", lambda self: True)  # a process would give up its claim with its end
    words = [*arguments(data, tmp_path), "--save-freq", "7", "--resume", "--track", tracker.__name__]

    def kill(step: int) -> None:
        if step == 20:
            raise Killed

    tracker.hook = kill
    with pytest.raises(Killed):
        main(words)
    (run,) = tracker.runs
    before = list(run.rows)
    assert max(row[STEP] for row in before) == 15  # after the checkpoint of step 14
    tracker.hook = lambda step: None
    assert main(words) == 0
    assert tracker.runs == [run]
    assert run.rows[: len(before)] == before
    assert rows_of(run) == rows_of_table(folder_of(tmp_path))
    assert run.exit_codes == ([1, 0] if tracker.__name__ == "wandb" else [0, 0])  # trackio knows none


@pytest.mark.few(1)
def test_a_tracker_that_fails_is_reported_once_and_the_run_is_the_same(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tracker: StandIn
) -> None:
    def fail(step: int) -> None:
        if step > 5:
            raise ConnectionError("the network is gone")

    tracker.hook = fail
    assert main(arguments(data, tmp_path, seeds=("--seeds", "4", "9"))) == 0
    words = arguments(data, tmp_path, seeds=("--seeds", "4", "9"), verbose=1)
    code, _, errors = train(capsys, [*words, "--track", tracker.__name__])
    assert code == 0
    (first, second) = [line for line in errors.splitlines() if "the network is gone" in line]
    assert f"failed at step 10 for {ENV}_3 (ConnectionError: the network is gone); training goes on without it" in first
    assert f"for {ENV}_4 (" in second
    for number in (1, 2):
        same = [(folder_of(tmp_path, number + add) / "evaluations.npz").read_bytes() for add in (0, 2)]
        assert same[0] == same[1]
    assert [{row[STEP] for row in run.rows} for run in tracker.runs] == [{5}, {5}]


def test_a_new_run_that_its_tracker_refuses_ends_before_it_trains(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("no such project")

    monkeypatch.setitem(sys.modules, "wandb", StandIn("wandb"))
    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    code, _, errors = train(capsys, [*arguments(data, tmp_path), "--track"])
    message = f"Weights & Biases refused {ENV}_1 (ConnectionError: no such project); log in with `wandb login`"
    assert (code, message in errors) == (2, True)
    status = json.loads((folder_of(tmp_path) / "status.json").read_text())
    assert (status["state"], status["offline_step"]) == ("failed", 0)
    assert message in status["reason"]


# -- the packages themselves ------------------------------------------------------------------------------------------

PYTHON = [sys.executable, "-W", "ignore"]
STOPPED = """
import signal, sys
from zoo.training.logs import TRACKERS
from zoo.train import main
tracker, send = TRACKERS[sys.argv[1]], TRACKERS[sys.argv[1]].send
def stop(run, step, numbers):
    send(run, step, numbers)
    if step == 10:
        signal.raise_signal(signal.SIGTERM)
tracker.send = stop
sys.exit(main(sys.argv[2:]))
"""


def stop_and_resume(data: Path, logs: Path, tracker: str, **environment: str) -> dict[str, str]:
    """Train two seeds, stop, and go on in another process; return the environment of the two."""
    known = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **environment}
    words = [*arguments(data, logs, seeds=("--seeds", "4", "9")), "--save-freq", "7", "--resume"]
    words = [*words, "--track", tracker, "--wandb-project-name", "mazes"]
    assert subprocess.run([*PYTHON, "-c", STOPPED, tracker, *words], env=known, check=False).returncode == 3
    subprocess.run([*PYTHON, "-m", "zoo.train", *words], env=known, check=True)
    return known


@pytest.mark.slow
def test_trackio_has_a_stopped_and_resumed_run_once(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    environment = stop_and_resume(data, tmp_path, "trackio", TRACKIO_DIR=str(tmp_path / "trackio"))
    read = "import json, sys; from trackio.sqlite_storage import SQLiteStorage as S; project = 'mazes'\n"
    read += "print(json.dumps({run: S.get_logs(project, run) for run in S.get_runs(project)}))"
    found = subprocess.run([*PYTHON, "-c", read], env=environment, check=True, capture_output=True, text=True).stdout
    runs = json.loads(found.splitlines()[-1])
    assert len(runs) == 2
    for name, rows in runs.items():
        number = int(name.partition(f"{ENV}_")[2].partition("-")[0])
        rows = [{key: value for key, value in row.items() if key != "timestamp"} for row in rows]
        rows = [{STEP: row.pop("step"), **row} for row in rows]
        plain = [{key: value for key, value in row.items() if key not in CLOCK} for row in rows]
        assert sorted_rows(plain) == rows_of_table(folder_of(tmp_path, number))


@pytest.mark.slow
def test_weights_and_biases_keeps_a_run_of_each_seed_offline(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    stop_and_resume(data, tmp_path, "wandb", WANDB_MODE="offline", WANDB_DIR=str(tmp_path))
    for number in (1, 2):
        record = json.loads((folder_of(tmp_path, number) / "tracking.json").read_text())["wandb"]
        assert len(list((tmp_path / "wandb").glob(f"offline-run-*-{record['id']}"))) == 2  # W&B joins them by their id
