"""How long a process may be quiet."""

from __future__ import annotations

from ctypes import c_uint64

import pytest

from zoo.processes import heartbeat
from zoo.processes.heartbeat import Watch, beat, beat_on


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(heartbeat.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def wait(watch: Watch, clock: Clock, seconds: float) -> None:
    """Let time pass, with a look every second."""
    for _ in range(round(seconds)):
        clock.now += 1.0
        watch.look()


def test_a_process_may_take_long_to_build(clock: Clock) -> None:
    watch = Watch(c_uint64())
    wait(watch, clock, heartbeat.FIRST_PATIENCE)
    assert not watch.is_hanging
    wait(watch, clock, 1)
    assert watch.is_hanging


def test_patience_follows_from_the_longest_time_between_two_beats(clock: Clock) -> None:
    count = c_uint64()
    watch = Watch(count)
    wait(watch, clock, 300)  # building says nothing about steps
    watch.answered()
    assert watch.patience == heartbeat.LEAST_PATIENCE
    for seconds in (3, 40, 5):
        wait(watch, clock, seconds)
        count.value += 1
        watch.look()
    assert watch.patience == pytest.approx(40 * heartbeat.PATIENCE_FACTOR, abs=30)
    wait(watch, clock, 200)
    assert not watch.is_hanging


def test_the_time_in_which_everything_was_suspended_does_not_count(clock: Clock) -> None:
    watch = Watch(c_uint64())
    watch.answered()
    for _ in range(5):
        clock.now += 3600.0
        watch.look()
    assert not watch.is_hanging
    assert watch.quiet == 5 * heartbeat.LONGEST_GAP


def test_a_beat_is_seen_by_who_watches() -> None:
    count = c_uint64()
    try:
        beat_on(count)
        beat()
        assert count.value == 1
    finally:
        beat_on(None)
    beat()  # nobody watches
    assert count.value == 1
