"""Signals during training, and checkpoints that cannot be read."""

import errno
import os
import signal
from unittest import mock

import pytest

from agents.common.engine.checkpoint import OtherVersionError
from agents.common.processor import STOP_SIGNALS
from zoo.terminal.errors import CannotResume, StopSignal, handling_signals
from zoo.training.loop import Checkpoints


@pytest.mark.parametrize("first", STOP_SIGNALS)
def test_the_first_signal_asks_for_the_end(first):
    # the program that started the tests may ignore the signal
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    stop = StopSignal()
    with handling_signals(stop.handle):
        assert not stop.requested
        os.kill(os.getpid(), first)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_is_logged_once_and_outside_of_its_handler(caplog):
    caplog.set_level("INFO", "zoo")
    stop = StopSignal()
    stop.handle(signal.SIGTERM, None)
    assert not caplog.records
    assert [stop.requested, stop.requested] == [True, True]
    assert caplog.messages == [StopSignal().message]


def test_nohup_keeps_a_closed_terminal_from_being_heard():
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = StopSignal()
    with handling_signals(stop.handle):
        signal.raise_signal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, handler)
    assert not stop.requested


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ESTALE, "Stale file handle"), r"step_000000020\.0 cannot be read right now"),
        (MemoryError(), r"step_000000020\.0 cannot be read right now"),
        (OtherVersionError("of another version"), "--resume: of another version"),
    ],
)
def test_a_checkpoint_that_may_be_intact_is_not_set_aside(tmp_path, error, message):
    (tmp_path / "step_000000010.0").mkdir()
    (tmp_path / "step_000000020.0").mkdir()
    checkpoints = mock.Mock(folder=tmp_path, _load=mock.Mock(side_effect=error))
    with pytest.raises(CannotResume, match=message):
        Checkpoints.restore(checkpoints)
    assert len(list(tmp_path.glob("step_*"))) == 2
