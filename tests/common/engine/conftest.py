"""Updates that are captured without a GPU."""

import pytest

from agents.common.engine import strategies, trainer
from agents.common.engine.strategies import Mode
from tests.common.engine.helpers import TapeRecorder, made


@pytest.fixture
def captured(monkeypatch):
    """Return a function that makes a model whose updates are captured by the recorder of operations."""
    recorder = TapeRecorder()
    monkeypatch.setattr(strategies, "record", recorder)
    monkeypatch.setattr(strategies, "run_aside", lambda step, device: step())
    strategies.failures.clear()
    monkeypatch.setattr(trainer, "choose_mode", lambda *arguments: Mode(False, True, "test"))

    def make(id="qam", **settings):
        recorder.model = made(id, **settings)
        return recorder.model

    return make
