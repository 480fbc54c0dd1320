"""Fixture for updates captured without a GPU."""

import pytest
import torch

from agents.common.engine import execution, trainer
from agents.common.engine.execution import Mode
from tests.common.engine.helpers import TapeRecorder, loaded_model


@pytest.fixture
def captured(monkeypatch):
    """Return a function that creates a model whose updates are captured by the recorder of operations."""
    recorder = TapeRecorder()
    monkeypatch.setattr(execution, "capture", recorder)
    monkeypatch.setattr(execution, "run_on_side_stream", lambda step, device: step())
    monkeypatch.setattr(
        trainer, "choose_mode", lambda *arguments, **named: Mode(False, True, "test")
    )

    def make(id="qam", **settings):
        recorder.model = model = loaded_model(id, **settings)
        for group in model.policy.optimizer.param_groups:
            # as on CUDA
            group |= {"capturable": True, "lr": torch.tensor(group["lr"])}
        model.trainer.prepare()
        return model

    return make
