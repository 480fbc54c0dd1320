"""Signals during training, and what it shows."""

import errno
import io
import os
import signal
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from matplotlib.axes import Axes
from rich.console import Console

from zoo.terminal.errors import STOP_SIGNALS, CannotResume, StopSignal, handling_signals
from zoo.training.checkpoints import Checkpoints
from zoo.training.loop import ProgressCallback
from zoo.training.recorder import plot_learning_curve


@pytest.mark.parametrize("first", STOP_SIGNALS)
def test_the_first_signal_asks_for_the_end_and_only_ctrl_c_after_that_interrupts(first):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what started the tests may have had it ignored
    stop = StopSignal()
    with handling_signals(stop.handle):
        assert not stop.requested
        os.kill(os.getpid(), first)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_training_goes_on_when_its_terminal_has_gone():
    recorder = SimpleNamespace(seconds=0.0)
    display = ProgressCallback(recorder, bar=True).display
    gone = mock.Mock(spec=io.StringIO)
    gone.write.side_effect = OSError(errno.EIO, "gone")
    display.live.console = Console(file=gone, force_terminal=True, _environ={})
    display.start()
    display.add_task("training")
    display.stop()


def test_nohup_keeps_a_closed_terminal_from_being_heard():
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = StopSignal()
    with handling_signals(stop.handle):
        signal.raise_signal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, handler)
    assert not stop.requested


@pytest.mark.parametrize("error", [OSError(errno.ESTALE, "Stale file handle"), MemoryError()])
def test_a_checkpoint_that_cannot_be_read_just_now_is_not_set_aside(tmp_path, error):
    (tmp_path / "step_000000010.0").mkdir()
    (tmp_path / "step_000000020.0").mkdir()
    checkpoints = mock.Mock(folder=tmp_path, _load=mock.Mock(side_effect=error))
    with pytest.raises(CannotResume, match=r"step_000000020\.0 cannot be read just now"):
        Checkpoints.restore(checkpoints)
    assert len(list(tmp_path.glob("step_*"))) == 2


def test_the_speed_of_a_phase_leaves_out_its_evaluations_and_what_was_before(monkeypatch):
    seconds = iter([100.0, 110.0])
    monkeypatch.setattr("zoo.training.loop.time.perf_counter", lambda: next(seconds))
    evaluation = SimpleNamespace(seconds=50.0, phase=0, last_score=None)
    progress = ProgressCallback(evaluation, bar=False)
    progress.model = SimpleNamespace(
        num_timesteps=20, offline_steps=20, pretraining_steps=0, _last_info={}
    )
    progress.on_training_start({"total_timesteps": 40}, {})
    progress.num_timesteps, evaluation.seconds = 40, 56.0
    progress.on_training_end()
    # 20 steps in 10 seconds, of which evaluations took 6
    assert progress.steps_per_second == 20 / 4


def test_a_curve_has_wilsons_interval(tmp_path, monkeypatch):
    fill = mock.Mock()
    monkeypatch.setattr(Axes, "fill_between", fill)
    history = {name: np.ones((2, 2), int) for name in ("results", "successes")}
    history |= {"timesteps": np.array([100, 200]), "phase": np.array([0, 1])}
    plot_learning_curve(history, tmp_path / "curve.png", "QAM in a maze")
    _, low, high = fill.call_args.args
    assert low == pytest.approx(34.24, abs=0.01)  # 2 of 2
    assert high == pytest.approx(100)
