"""The conformance kit: the zoo's algorithms pass it, and it names each mistake in a new algorithm."""

import re

import numpy as np
import pytest

import agents
from agents.testing.kit import CHECKS, run_checks
from tests import ROOT
from tests.agents.testing.mistakes import FLOW, HOOKS, MISTAKES, example, with_mistake
from tests.common.toys import every_algorithm
from zoo.train import main

NAMES = [*CHECKS]
ENV = "pointmaze-medium-navigate-singletask-task1-v0"


def outcomes(id, skip=(), **settings):
    method = agents.get(id).method
    return {outcome.check: outcome for outcome in run_checks(method, settings, skip)}


def outcome_of(check, code, write_agent):
    """Return the outcome of one check, which runs after the checks of the hooks."""
    return outcomes(write_agent(code), {*NAMES} - {"hooks", check})[check]


def failures(results):
    return {name: result.detail for name, result in results.items() if result.state == "fails"}


# -- algorithms that fulfil the contract ------------------------------------------------------------------------------

REPLICATED = {  # settings that may differ between replicas
    "cgql": {"inverse_temperature": 10.0, "best_of_n": 2},
    "dsrl": {"best_of_n": 2},
    "ifql": {"best_of_n": 4},
    "qgf": {"best_of_n": 2, "guidance_weight": 0.5, "gradient": "jacobian"},
    "qsm": {"best_of_n": 2, "actor_layer_norm": True},
    "rebrac": {"bc_weight": 0.1, "true_delay": True},
    "sqam": {"multiplier_learning_rate": 0.5},
    "trqam": {"multiplier_learning_rate": 0.5},
}


SLOW = ("compiled", "values", "actions")


@pytest.mark.few
@pytest.mark.parametrize(
    "skip", [SLOW, pytest.param((), marks=pytest.mark.slow)], ids=["quick", "all"]
)
@every_algorithm
def test_every_algorithm_keeps_the_contract(id, skip):
    results = outcomes(id, skip, **(REPLICATED.get(id, {}) if skip else {}))
    assert not failures(results)
    by_design = {name for name, result in results.items() if result.state == "fails by design"}
    assert by_design == set(agents.get(id).method.fails_by_design) - {*skip}


def test_losses_that_take_a_gradient_need_not_be_compiled(write_agent):
    slope = "torch.autograd.grad(q.sum(), [*nets.critic.parameters()], retain_graph=True)"
    code = example().replace(FLOW, f"        import torch\n        {slope}\n{FLOW}")
    assert outcome_of("compiled", code, write_agent).state == "does not apply"


def test_sizes_that_the_users_settings_exclude_are_left_out():
    settings = {"horizon_length": 5, "execution_horizon": 3}
    assert not failures(outcomes("bc", {*NAMES} - {"hooks"}, **settings))


def test_an_algorithm_need_not_accept_chunks(write_agent):
    declared = f"    horizon_length: int = agents.setting(default=1, at_most=1)\n\n{HOOKS}"
    results = outcomes(write_agent(example().replace(HOOKS, declared)), SLOW)
    assert not failures(results)


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.few(19)
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_fails_its_check_with_what_helps(name, write_agent):
    *_, check, message = MISTAKES[name]
    outcome = outcome_of(check, with_mistake(name), write_agent)
    assert outcome.state == "fails"
    assert re.search(message, outcome.detail), outcome.detail


def test_a_mistake_stops_training_before_data(write_agent, capsys):
    agent = write_agent(with_mistake("in-place change"))
    np.savez("empty.npz", observations=np.zeros((0, 2)))
    words = f"--algo {agent} --env {ENV} --quick --dataset empty.npz --device cpu"
    assert main(words.split()) == 2
    shown = capsys.readouterr().err
    assert len(re.findall(MISTAKES["in-place change"][-1], shown)) == 1
    assert f"(`zoo agents check {agent}` runs all checks)" in shown


def test_a_check_that_fails_by_design_is_shown_with_why(write_agent):
    declared = f"    fails_by_design = {{'bounds': 'as meant'}}\n\n{HOOKS}"
    code = with_mistake("actions out of bounds").replace(HOOKS, declared)
    outcome = outcome_of("bounds", code, write_agent)
    assert outcome.state == "fails by design"
    assert outcome.detail.startswith("as meant: `act` returns actions up to")


def test_a_failure_names_the_authors_line(write_agent):
    code = example().replace(FLOW, f"        1 / 0\n{FLOW}")
    line = code.splitlines().index("        1 / 0") + 1
    assert f"(an_agent.py:{line})" in outcome_of("hooks", code, write_agent).detail


# -- names ------------------------------------------------------------------------------------------------------------


def test_each_check_is_on_the_page_once():
    page = (ROOT / "docs" / "register.md").read_text()
    table = page.partition("## Checks\n")[2].partition("## ")[0]
    first_columns = "".join(re.findall(r"^\| (`[a-z0-9`, ]+`) \|", table, flags=re.MULTILINE))
    assert [name for name in re.findall(r"\w+", first_columns) if name in NAMES] == NAMES
