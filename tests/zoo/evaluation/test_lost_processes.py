"""Evaluations whose processes die or hang end with the same bits as undisturbed ones, or are given up on demand."""

import contextlib
import itertools
import os
import signal
import time

import pytest

from tests.zoo.conftest import pretend_cores
from tests.zoo.evaluation.helpers import TOY, assert_same_results, network_policy, worker_pids
from zoo.evaluation import workers
from zoo.evaluation.evaluator import Evaluator
from zoo.terminal.errors import Abandoned

SIGNALS = [signal.SIGKILL, signal.SIGSTOP]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(workers, "ANSWER_SECONDS", 8.0)  # building, and a first plan, take a while
    monkeypatch.setattr(workers, "POLL_SECONDS", 0.02)


def send(processes, number):
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def disturbed(at, do):
    """Return a policy that does something at its plan of a number, while environments wait for it."""
    policy = network_policy()
    plan, numbers = policy.plan, itertools.count(1)

    def disturbed_plan(observations, noise):
        if next(numbers) == at:
            do()
        return plan(observations, noise)

    policy.plan = disturbed_plan
    return policy


@contextlib.contextmanager
def playing(monkeypatch, cores):
    """Yield an evaluator, and what finds its processes."""
    pretend_cores(monkeypatch, cores)
    earlier_pids = worker_pids()
    with Evaluator(TOY, episodes=6, n_envs=4, seed=5) as evaluator:
        yield evaluator, lambda: worker_pids() - earlier_pids


@pytest.mark.few(1)
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("cores", [1, 2, 3])
def test_an_evaluation_that_loses_its_processes_has_the_same_bits(monkeypatch, cores, number):
    with playing(monkeypatch, cores) as (evaluator, pids):
        expected = evaluator.evaluate(network_policy())
        first = pids()
        actual = evaluator.evaluate(disturbed(5, lambda: send(pids(), number)))
        assert_same_results(actual, expected)
        assert not first & pids()


def test_processes_that_died_between_evaluations_are_replaced(monkeypatch):
    policy = network_policy()
    with playing(monkeypatch, 3) as (evaluator, pids):
        expected = evaluator.evaluate(policy)
        send(pids(), signal.SIGKILL)
        assert_same_results(evaluator.evaluate(policy), expected)


@pytest.mark.few(1)
@pytest.mark.parametrize("cores", [1, 2, 3])
def test_an_evaluation_is_given_up_at_once_even_if_its_processes_are_stopped(monkeypatch, cores):
    monkeypatch.setattr(workers, "ANSWER_SECONDS", 60.0)
    with playing(monkeypatch, cores) as (evaluator, pids):
        expected = evaluator.evaluate(network_policy())
        is_asked = False

        def check_in():
            if is_asked:
                raise Abandoned

        def stop():
            nonlocal is_asked
            is_asked = True
            send(pids(), signal.SIGSTOP)

        monkeypatch.setattr(evaluator, "check_in", check_in)
        begin = time.monotonic()
        with pytest.raises(Abandoned):
            evaluator.evaluate(disturbed(3, stop))
        assert time.monotonic() - begin < 6
        assert not pids()
        is_asked = False
        assert_same_results(evaluator.evaluate(network_policy()), expected)
