"""Signals during training."""

from __future__ import annotations

import os
import signal

import pytest

from zoo.training.callbacks import StopSignal


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_for_the_end_and_only_ctrl_c_after_that_interrupts(first: signal.Signals) -> None:
    with StopSignal() as stop:
        assert not stop.requested
        os.kill(os.getpid(), first)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
