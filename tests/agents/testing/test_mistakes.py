"""Typical mistakes: the conformance kit tells each, and training those that stop it, in the same words."""

import re

import numpy as np
import pytest

import agents
from agents.testing.kit import CHECKS, run_checks
from tests.agents.testing.mistakes import MISTAKES, example, with_mistake
from zoo.train import main

ENV = "pointmaze-medium-navigate-singletask-task1-v0"


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_fails_its_check_with_the_message_that_a_newcomer_needs(name, write_agent):
    mistake = MISTAKES[name]
    method = agents.get(write_agent(with_mistake(name))).method
    other_checks = {check.name for check in CHECKS} - {"hooks", mistake.check}
    outcomes = {outcome.check.name: outcome for outcome in run_checks(method, skip=other_checks)}
    assert outcomes[mistake.check].state == "fails"
    assert re.search(mistake.message, outcomes[mistake.check].detail)
    assert outcomes["hooks"].state == ("fails" if mistake.check == "hooks" else "holds")


def train(agent):
    """Train with a file that holds no dataset, which is found out when data are loaded; return the exit code."""
    np.savez("empty.npz", observations=np.zeros((0, 2)))
    return main(f"--algo {agent} --env {ENV} --quick --dataset empty.npz --device cpu".split())


@pytest.mark.parametrize("name", [name for name, mistake in MISTAKES.items() if mistake.stops])
def test_a_mistake_is_told_before_data_are_loaded(name, write_agent, capsys):
    mistake = MISTAKES[name]
    assert train(write_agent(with_mistake(name))) == 2
    errors = capsys.readouterr().err
    assert len(re.findall(mistake.message, errors)) == 1
    assert "empty.npz" not in errors


def test_the_example_without_mistakes_is_told_nothing(write_agent, capsys):
    assert train(write_agent(example())) == 2
    errors = capsys.readouterr().err
    assert "WeightedBC: " not in errors
    assert "empty.npz" in errors
