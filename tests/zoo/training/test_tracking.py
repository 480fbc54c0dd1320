"""What Weights & Biases is told of a run, and what becomes of a run that it refuses."""

import os
import subprocess
import sys
import types

import pytest

from tests import ROOT
from tests.zoo.helpers import ENV, arguments
from tests.zoo.outcomes import status_of
from zoo.runs.folder import RunFolder
from zoo.train import main

pytestmark = pytest.mark.filterwarnings(
    "ignore:no state in:UserWarning"
)  # two episodes need not reach the goal


class StandIn(types.ModuleType):
    """Stands for the package: keeps what its runs were begun with, whether events were there, and how they ended."""

    def __init__(self, logs):
        super().__init__("wandb")
        self.logs, self.begun, self.ended = logs, [], []

    def init(self, **options):
        events = list(self.logs.rglob("events.out.tfevents*"))
        self.begun.append(options | {"events": len(events)})
        return self

    def finish(self, exit_code):
        self.ended.append(exit_code)


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    module = StandIn(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_it_follows_the_events_from_the_first_in_a_run_that_a_resumed_one_goes_on_with(
    data, tmp_path, wandb
):
    words = [
        *arguments(data, tmp_path, seeds=("--seeds", "4", "9")),
        "--track",
        "--wandb-group",
        "first",
    ]
    assert main(words) == 0
    (first,) = wandb.begun
    assert first["sync_tensorboard"]
    assert first["events"] == 0
    assert first["project"] == "flow-rl-zoo"
    assert first["group"] == "first"
    assert first["name"] == f"qam_{ENV}_1"
    assert first["config"]["seeds"] == [4, 9]
    assert first["config"]["settings"]["net_arch"] == [16, 16]
    assert first["id"] == RunFolder(tmp_path / "qam" / f"{ENV}_1").tracking_id()
    assert first["resume"] == "allow"
    assert wandb.ended == [0]


def test_a_run_that_is_refused_ends_before_it_trains(data, tmp_path, call, monkeypatch, wandb):
    def refuse(**_):
        raise ConnectionError("no such project")

    monkeypatch.setattr(wandb, "init", refuse)
    _, errors = call(main, *arguments(data, tmp_path), "--track", code=2)
    assert (
        f"Weights & Biases refused {ENV}_1 (ConnectionError: no such project); log in with `wandb login`"
        in errors
    )
    status = status_of(tmp_path / "qam" / f"{ENV}_1")
    assert status["state"] == "failed"
    assert status["offline_step"] == 0


@pytest.mark.slow
def test_the_package_itself_keeps_the_events_offline(data, tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed")
    places = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "WANDB_DIR": str(tmp_path),
    }
    words = [*arguments(data, tmp_path, seeds=("--seeds", "4", "9")), "--track"]
    subprocess.run(
        [sys.executable, "-m", "zoo.train", *words],
        env={**os.environ, **places, "WANDB_MODE": "offline"},
        check=True,
    )
    (kept,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    for name in (b"eval/mean_reward", f"{ENV}_2".encode()):
        assert name in kept.read_bytes()
