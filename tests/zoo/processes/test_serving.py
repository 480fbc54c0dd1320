"""Waiting for processes that answer at different times."""

from __future__ import annotations

import errno
import multiprocessing.process
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.zoo.conftest import pretend_cores
from tests.zoo.envs.toys import TOY
from zoo.envs.make import find_spec
from zoo.playing import pool
from zoo.processes.serving import ServingProcess, WorkerError, wait_for_answers


class Waiter:
    """Answers as soon as a file is there."""

    spaces = "ready"

    def wait(self, file: Path) -> str:
        while not file.exists():
            time.sleep(0.001)
        return file.name

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def pair() -> Iterator[list[ServingProcess]]:
    processes = [ServingProcess(Waiter, "wait", what="waiter", name=name) for name in "ab"]
    assert [process.receive() for process in processes] == ["ready", "ready"]
    yield processes
    for process in processes:
        process.hang_up()
    for process in processes:
        process.close()


def test_the_first_to_answer_is_there_before_the_others(pair: list[ServingProcess], tmp_path: Path) -> None:
    for process, name in zip(pair, "ab", strict=True):
        process.send(tmp_path / name)
    (tmp_path / "b").touch()
    assert wait_for_answers(pair, 0.0) == [pair[1]]
    assert pair[1].receive() == "b"
    (tmp_path / "a").touch()
    assert wait_for_answers(pair[:1], 0.0) == [pair[0]]
    assert pair[0].receive() == "a"


@pytest.mark.parametrize(("cores", "pipe_bytes"), [(1, 0), (2, 0), (3, 0), (3, pool.PIPE_BYTES)])
def test_a_pool_reports_every_environment_once(monkeypatch: pytest.MonkeyPatch, cores: int, pipe_bytes: int) -> None:
    monkeypatch.setattr(pool, "PIPE_BYTES", pipe_bytes)
    pretend_cores(monkeypatch, cores)
    envs = pool.EnvPool(find_spec(TOY), {}, 5)
    try:
        assert len(envs._workers) == cores
        envs.send([], np.empty((0, 1, 2), np.float32), {number: number for number in range(5)})
        for _ in range(3):
            running: list[int] = []
            while (progress := envs.receive()) is not None:
                running += progress.running
                assert progress.observations.shape == (len(progress.running), 3)
                assert progress.endings == {}
            assert sorted(running) == [0, 1, 2, 3, 4]
            envs.send(running, np.zeros((5, 1, 2), np.float32), {})
    finally:
        envs.close()


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
        ServingProcess(Waiter, "wait", what="waiter", name="a")
