"""What Weights & Biases is told of a run, and what becomes of a run that it refuses."""

import sys
import types

import pytest

from tests.zoo.helpers import ENV, arguments
from tests.zoo.outcomes import status_of
from zoo.runs.folder import RunFolder
from zoo.train import main


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


def test_it_follows_the_events_of_a_resumed_run(data, tmp_path, wandb):
    words = arguments(data, tmp_path, seeds=("--seeds", "4", "9"))
    assert main([*words, "--track"]) == 0
    (options,) = wandb.begun
    config = options.pop("config")
    assert options == {
        "sync_tensorboard": True,
        "events": 0,
        "project": "flow-rl-zoo",
        "name": f"qam_{ENV}_1",
        "id": RunFolder(tmp_path / "qam" / f"{ENV}_1").tracking_id(),
        "resume": "allow",
    }
    assert config["seeds"] == [4, 9]
    assert config["settings"]["net_arch"] == [16, 16]
    assert wandb.ended == [0]


def test_a_run_that_is_refused_ends_before_it_trains(data, tmp_path, call, monkeypatch, wandb):
    def refuse(**_):
        raise ConnectionError("no such project")

    monkeypatch.setattr(wandb, "init", refuse)
    _, errors = call(main, *arguments(data, tmp_path), "--track", code=2)
    assert f"Weights & Biases refused {ENV}_1 (ConnectionError: no such project)" in errors
    status = status_of(tmp_path / "qam" / f"{ENV}_1")
    assert (status["state"], status["offline_step"]) == ("failed", 0)
