"""Evaluation beside training: the same bits as in the foreground, nothing swallowed, nothing left over."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE

import numpy as np
import pytest
import torch

from agents.common.sb3.model import FlowQLearning
from tests.common.toys import tiny_model, toy_dataset
from tests.zoo.envs.toys import ToyEnv
from tests.zoo.suites.tiny import ROOT, descendants, is_alive, wait_for
from zoo.baselines import TD3, planner_of
from zoo.playing.background import BackgroundEvaluator
from zoo.playing.evaluate import EpisodeResults, Evaluator
from zoo.processes.serving import WorkerError

TOY = "Toy-v0"
SETTINGS = {"episodes": 5, "n_envs": 2, "seed": 5}


@pytest.fixture(scope="module")
def beside() -> Iterator[BackgroundEvaluator]:
    with BackgroundEvaluator(TOY, **SETTINGS) as evaluator:
        yield evaluator


@pytest.fixture(scope="module")
def in_front() -> Iterator[Evaluator]:
    with Evaluator(TOY, **SETTINGS) as evaluator:
        yield evaluator


def trained(**settings: object) -> FlowQLearning:
    model = tiny_model(env=ToyEnv(), **{"seeds": [3, 4], "seed": None, **settings})
    model.learn_offline(2, dataset=toy_dataset(observations=3))
    return model


def assert_same(first: EpisodeResults, second: EpisodeResults) -> None:
    for name in ("returns", "lengths", "successes", "seeds", "played"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.few(1)
@pytest.mark.parametrize("settings", [{}, {"precision": "bf16"}, {"best_of_n": 4}, {"observation_scale": 2.0}], ids=str)
def test_results_have_the_same_bits_as_in_the_foreground(
    beside: BackgroundEvaluator, in_front: Evaluator, settings: dict[str, object]
) -> None:
    model = trained(**settings)
    expected = in_front.evaluate(model.policy, [3, 4], [0, 1])
    beside.begin(model.policy, [3, 4], [0, 1])
    model.learn_offline(2)  # goes on with other parameters
    assert_same(beside.finish(), expected)
    assert not np.array_equal(in_front.evaluate(model.policy, [3, 4]).returns, expected.returns)


@pytest.mark.slow
def test_products_round_as_they_do_here(beside: BackgroundEvaluator, in_front: Evaluator) -> None:
    model = trained(net_arch=[256, 256])
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            expected = in_front.evaluate(model.policy, [3, 4])
            beside.begin(model.policy, [3, 4], [0, 1])
            assert_same(beside.finish(), expected)
    finally:
        torch.set_num_threads(threads)


def test_a_policy_of_sb3_plays(beside: BackgroundEvaluator, in_front: Evaluator) -> None:
    model = TD3("MlpPolicy", ToyEnv(), seeds=[0], net_arch=[16], device="cpu")
    beside.begin(model.policy, [0], [0])
    assert_same(beside.finish(), in_front.evaluate(planner_of(model.policy), [0]))


def test_a_crash_is_raised_with_its_traceback(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    switch = tmp_path / "fail"
    switch.touch()
    kwargs = {"failure": "raise", "failure_file": str(switch)}
    with BackgroundEvaluator(TOY, **SETTINGS, env_kwargs=kwargs) as evaluator:
        evaluator.begin(trained().policy, [3, 4], [0, 1])
        with pytest.raises(WorkerError, match="ArithmeticError: the toy broke"):
            evaluator.finish()
        assert set(multiprocessing.active_children()) == before


PROGRAM = """
import tests.zoo.envs.toys
from tests.zoo.playing.test_background import trained
from zoo.playing.background import BackgroundEvaluator
if __name__ == "__main__":
    model = trained()
    evaluator = BackgroundEvaluator("Toy-v0", episodes=5000, n_envs=2, seed=0)
    evaluator.begin(model.policy, [3, 4], [0, 1])
    print(evaluator.is_ready(), flush=True)
    input()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's table of processes")
@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM"])
def test_nothing_is_left_over_however_the_training_ends(end: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=DEVNULL) as main:
        assert main.stdout.readline() == b"False\n"
        started = descendants(main.pid)
        assert len(started) >= 3  # evaluation and two environments, at least
        main.send_signal(getattr(signal, end))
        main.wait(timeout=20)
    wait_for(lambda: not any(map(is_alive, started)), 5, "for the end of its processes")
