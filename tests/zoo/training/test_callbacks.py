"""Signals during training, and the speed that it shows."""

import os
import signal
from types import SimpleNamespace

import pytest

from zoo.errors import STOP_SIGNALS
from zoo.training.callbacks import ProgressCallback, StopSignal


@pytest.mark.parametrize("first", STOP_SIGNALS)
def test_the_first_signal_asks_for_the_end_and_only_ctrl_c_after_that_interrupts(first):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what started the tests may have had it ignored
    with StopSignal() as stop:
        assert not stop.requested
        os.kill(os.getpid(), first)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_nohup_keeps_a_closed_terminal_from_being_heard():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not stop.requested


def test_the_speed_of_a_phase_leaves_out_its_evaluations_and_what_was_before(monkeypatch):
    seconds = iter([100.0, 110.0])
    monkeypatch.setattr("zoo.training.callbacks.time.perf_counter", lambda: next(seconds))
    evaluation = SimpleNamespace(seconds=50.0, phase=0, last_score=None)
    progress = ProgressCallback(evaluation, bar=False)
    progress.model = SimpleNamespace(num_timesteps=20, pretraining_steps=0, _last_info={})
    progress.on_training_start({"total_timesteps": 40}, {})
    progress.num_timesteps, evaluation.seconds = 40, 56.0
    progress.on_training_end()
    assert progress.steps_per_second == 20 / 4
