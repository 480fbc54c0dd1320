"""Signals during training, and what evaluations restore."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zoo.runs.folder import RunFolder
from zoo.runs.history import EvaluationHistory
from zoo.training.callbacks import EvaluationCallback, StopSignal
from zoo.training.replicas import Replicas


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_for_the_end_and_sigterm_after_that_changes_nothing(first: signal.Signals) -> None:
    with StopSignal() as stop:
        assert not stop.requested
        os.kill(os.getpid(), first)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGTERM)


def test_ctrl_c_after_another_signal_interrupts_at_once() -> None:
    with StopSignal():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_best_score_of_an_older_checkpoint_is_that_of_a_trained_model(tmp_path: Path) -> None:
    evaluator: Any = SimpleNamespace()
    callback = EvaluationCallback(evaluator, Replicas([RunFolder(tmp_path)], [0]), frequency=10)
    state = {"last_step": 10, "best": [(0.5, -3.0)], "pending": None}
    callback.restore(state, [EvaluationHistory()], lambda: pytest.fail("nothing is pending"))
    assert callback.best == [(0.5, -3.0, True)]
