"""Signals during training."""

import os
import signal

import pytest

from zoo.errors import STOP_SIGNALS
from zoo.training.callbacks import StopSignal


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
