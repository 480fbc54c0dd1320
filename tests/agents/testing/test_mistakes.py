"""Typical mistakes: the conformance kit tells each, and training those that stop it, in the same words."""

import re

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
    others = {check.name for check in CHECKS} - {"hooks", mistake.check}
    outcomes = {outcome.check.name: outcome for outcome in run_checks(method, skip=others)}
    assert outcomes[mistake.check].state == "fails"
    assert re.search(mistake.message, outcomes[mistake.check].detail)
    assert outcomes["hooks"].state == ("fails" if mistake.check == "hooks" else "holds")


@pytest.mark.parametrize("name", [name for name, mistake in MISTAKES.items() if mistake.stops])
def test_a_mistake_is_told_before_training(name, write_agent, capsys):
    mistake = MISTAKES[name]
    agent = write_agent(with_mistake(name))
    assert main(f"--algo {agent} --env {ENV} --quick --dataset no-such-dataset.npz --device cpu".split()) == 2
    told = capsys.readouterr().err
    assert len(re.findall(mistake.message, told)) == 1
    assert "no-such-dataset" not in told


def test_the_example_without_mistakes_is_told_nothing(write_agent, capsys):
    agent = write_agent(example())
    assert main(f"--algo {agent} --env {ENV} --quick --dataset no-such-dataset.npz --device cpu".split()) == 2
    assert "WeightedBC: " not in capsys.readouterr().err
