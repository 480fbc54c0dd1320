"""Training environments in processes that fail, die or hang."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.zoo.envs.toys import TOY
from zoo.envs.make import make_env
from zoo.errors import EnvironmentFault
from zoo.processes import heartbeat
from zoo.processes.environments import WatchedVecEnv
from zoo.processes.serving import WorkerError, WorkerLost

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
    monkeypatch.setattr(heartbeat, "LEAST_PATIENCE", 0.3)
    monkeypatch.setattr(heartbeat, "PATIENCE_FACTOR", 1.0)
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
