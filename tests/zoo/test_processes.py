"""Waiting for processes that answer at different times."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.zoo.envs.toys import TOY
from zoo.envs.make import find_spec
from zoo.envs.pool import EnvPool
from zoo.processes import ServingProcess, wait_for_answers


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
    processes = [ServingProcess(functools.partial(Waiter), "wait", what="waiter", name=name) for name in "ab"]
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


def test_patience_brings_the_late_ones_too(pair: list[ServingProcess], tmp_path: Path) -> None:
    pair[0].send(tmp_path)  # there already
    pair[1].send(tmp_path / "b")
    assert wait_for_answers(pair, 0.05) == [pair[0]]  # all of the patience is used up
    (tmp_path / "b").touch()
    began = time.monotonic()
    assert set(wait_for_answers(pair, 60.0)) == set(pair)
    assert time.monotonic() - began < 30  # nobody is waited for who is there
    assert [process.receive() for process in pair] == [tmp_path.name, "b"]


def test_a_pool_refuses_to_interrupt_a_process_and_reports_each_answer_once() -> None:
    pool = EnvPool(find_spec(TOY), {}, 2)
    try:
        nothing = np.empty((0, 1, 2), np.float32)
        pool.send([], nothing, {0: 1, 1: 2})
        with pytest.raises(ValueError, match="process 0 still plays; receive its answer first"):
            pool.send([0], np.zeros((1, 1, 2), np.float32), {})
        running: list[int] = []
        while (progress := pool.receive()) is not None:
            running += progress.running
            assert progress.observations.shape == (len(progress.running), 3)
            assert progress.endings == {}
        assert sorted(running) == [0, 1]
    finally:
        pool.close()
