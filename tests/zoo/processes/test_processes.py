"""Processes: environments that fail in them, and how long one may be quiet."""

from __future__ import annotations

import errno
import multiprocessing.process
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from ctypes import c_uint64
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.zoo.envs.toys import TOY
from zoo.envs.make import make_env
from zoo.errors import EnvironmentFault
from zoo.processes import heartbeat
from zoo.processes.environments import WatchedVecEnv
from zoo.processes.heartbeat import Watch, beat, beat_on
from zoo.processes.serving import ServingProcess, WorkerError, WorkerLost


@pytest.mark.parametrize(
    ("error", "limit"), [(OSError(errno.EMFILE, "Too many open files"), "ulimit -n"), (EOFError(), "ulimit -u")]
)
def test_a_process_that_cannot_be_started_says_which_limit_to_raise(
    monkeypatch: pytest.MonkeyPatch, error: Exception, limit: str
) -> None:
    def refuse(self: object) -> None:
        raise error

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse)
    with pytest.raises(WorkerError, match=limit):
        ServingProcess(dict, "get", what="mapping", name="a")


def test_what_lies_in_the_current_folder_is_not_imported(tmp_path: Path) -> None:
    program, folder = tmp_path / "program.py", tmp_path / "folder"
    folder.mkdir()
    for name in ("random", "gymnasium", "socket", "zoo", "agents", "collections"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('somebody else has a {name}')\n")
    program.write_text(
        "from zoo.processes.serving import ServingProcess\n"
        "process = ServingProcess(\n"
        "    dict, '__contains__', what='mapping', name='a', preload=['zoo.errors', 'random'], imports_main=False)\n"
        "process.receive(); process.send('x'); assert process.receive() is False; process.close()\n"
    )
    subprocess.run([sys.executable, program], cwd=folder, check=True)


ACTIONS = np.zeros((2, 2), np.float32)


@pytest.fixture
def switch(tmp_path: Path) -> Path:
    return tmp_path / "fail"


@pytest.fixture
def pair(switch: Path, request: pytest.FixtureRequest) -> Iterator[WatchedVecEnv]:
    """Two environments that fail, as the test's parameter says, from when the file exists."""
    failing = getattr(request, "param", "raise")
    env = WatchedVecEnv([partial(make_env, TOY, failure=failing, failure_file=str(switch)) for _ in range(2)])
    for index in range(2):
        env.env_method("be_called", f"training environment {index}", indices=[index])
    env.seed(3)
    env.reset()
    env.step(ACTIONS)
    yield env
    env.close()


@pytest.mark.parametrize(
    ("pair", "kind", "message"),
    [
        ("raise", WorkerError, "training environment 0(?s:.*)ArithmeticError: the toy broke"),
        ("os._exit", WorkerLost, "training environment 0` ended with exit code 0 .* --resume"),
        (
            "observation",
            EnvironmentFault,
            r"got observation\[1\] = nan from `Toy-v0`, training environment 0, at step 2 of its episode",
        ),
        ("SIGKILL", WorkerLost, "training environment 0` was killed by signal 9 .* --resume"),
    ],
    indirect=["pair"],
)
def test_what_goes_wrong_is_raised_here(pair: WatchedVecEnv, switch: Path, kind: type[Exception], message: str) -> None:
    switch.touch()
    with pytest.raises(kind, match=message):
        pair.step(ACTIONS)


def test_a_process_that_is_stopped_is_not_waited_for_for_ever(
    pair: WatchedVecEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "PATIENCE", 0.3)
    monkeypatch.setattr(heartbeat, "LOOK_SECONDS", 0.02)
    (hanging,) = pair.env_method("process_id", indices=[1])
    os.kill(hanging, signal.SIGSTOP)
    with pytest.raises(WorkerLost, match=r"training environment 1` hung: .* --resume"):
        pair.step(ACTIONS)
    begin = time.monotonic()
    pair.close()
    assert time.monotonic() - begin < 10
    with pytest.raises(ProcessLookupError):
        os.kill(hanging, 0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return a clock that is set by hand."""
    found = SimpleNamespace(now=0.0)
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: found.now)
    return found


def test_a_process_hangs_once_it_has_been_quiet_for_long(clock: SimpleNamespace) -> None:
    count = c_uint64()
    watch = Watch(count)
    for _ in range(3):
        for _ in range(round(heartbeat.PATIENCE)):
            clock.now += 1.0
            assert not watch.is_hanging()
        count.value += 1
        assert not watch.is_hanging()
    for _ in range(round(heartbeat.PATIENCE) + 1):
        clock.now += 1.0
        hangs = watch.is_hanging()
    assert hangs


def test_the_time_in_which_everything_was_suspended_does_not_count(clock: SimpleNamespace) -> None:
    watch = Watch(c_uint64())
    for _ in range(5):
        clock.now += 3600.0
        assert not watch.is_hanging()
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
