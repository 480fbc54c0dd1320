"""The conformance kit: it passes on the algorithms of the zoo, and finds what only training and saving show."""

import re

import pytest

import agents
from agents.testing.kit import CHECKS, PAGE, run_checks
from tests import ROOT
from tests.agents.testing.mistakes import example, own_network

NAMES = [check.name for check in CHECKS]
HOOKS = "    def act(self, observations, noise, nets):"
FLOW = "        flow = nets.flow"


def outcomes(id, *skip, **settings):
    method = agents.get(id).method
    return {outcome.check.name: outcome for outcome in run_checks(method, settings, skip)}


def failures(outcomes_by_check):
    return {
        name: outcome.detail
        for name, outcome in outcomes_by_check.items()
        if outcome.state in ("fails", "not tried")
    }


def only(*names):
    """Return the checks to leave out."""
    return {*NAMES} - {*names}


REPLICATED = {  # settings of which replicas may have their own
    "cgql": {"inverse_temperature": 10.0, "best_of_n": 2},
    "dsrl": {"best_of_n": 2},
    "ifql": {"best_of_n": 4},
    "qgf": {"best_of_n": 2, "guidance_weight": 0.5, "gradient": "jacobian"},
    "qsm": {"best_of_n": 2, "actor_layer_norm": True},
    "rebrac": {"bc_weight": 0.1, "true_delay": True},
    "sqam": {"multiplier_learning_rate": 0.5},
    "trqam": {"multiplier_learning_rate": 0.5},
}


@pytest.mark.few
@pytest.mark.parametrize("id", agents.algorithm_ids())
def test_every_algorithm_keeps_the_contract(id):
    assert not failures(outcomes(id, "compiled", "values", "actions", **REPLICATED.get(id, {})))


@pytest.mark.slow
@pytest.mark.parametrize("id", agents.algorithm_ids())
def test_it_passes_on_every_algorithm(id):
    results = outcomes(id)
    assert not failures(results)
    declared = agents.get(id).method.fails_by_design
    assert {name for name, outcome in results.items() if outcome.state == "fails by design"} == set(
        declared
    )


def test_a_check_that_an_algorithm_fails_by_design_is_shown_with_the_reason(write_agent):
    code = (
        example()
        .replace(".clamp(-1, 1)", "")
        .replace(HOOKS, f"    fails_by_design = {{'bounds': 'as meant'}}\n\n{HOOKS}")
    )
    outcome = outcomes(write_agent(code), *only("hooks", "bounds"))["bounds"]
    assert outcome.state == "fails by design"
    assert outcome.detail.startswith("as meant: `act` returns actions up to")


def test_each_check_is_on_the_page_once_and_says_where_to_look():
    page = (ROOT / PAGE).read_text()
    headings = re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)
    assert {check.section for check in CHECKS} <= {
        heading.lower().replace(" ", "-") for heading in headings
    }
    rows = re.findall(
        r"^\| (`[a-z0-9`, ]+`) \|",
        page.partition("## Checks\n")[2].partition("## ")[0],
        flags=re.MULTILINE,
    )
    assert [name for name in re.findall(r"`([a-z0-9]+)`", "".join(rows)) if name in NAMES] == NAMES


def test_an_unknown_check_is_refused_with_the_closest():
    with pytest.raises(ValueError, match="unknown check `compile`; closest: compiled"):
        outcomes("fql", "compile")


def test_without_working_hooks_nothing_else_is_tried(write_agent):
    results = outcomes(write_agent(example().replace("def act(", "def acts(")))
    assert results["hooks"].state == "fails"
    assert {outcome.state for name, outcome in results.items() if name != "hooks"} == {"not tried"}


BEYOND = {
    "a draw that nothing uses": (
        'return {"bc_x0": normal(),', 'return {"spare": normal(), "bc_x0": normal(),', "noise",
        r"no loss depends on the draw `spare`; remove it from `noise`",
    ),
    "a draw that acting does not use": (
        HOOKS, '    def action_noise_table(self):\n        return {"action": normal(), "spare": normal()}\n\n' + HOOKS,
        "noise", r"`act` does not use the draw `spare`; remove it from `action_noise_table`",
    ),
    "actions out of bounds": (
        ".clamp(-1, 1)", "", "bounds", r"`act` returns actions up to [\d.e+]+, expected \[-1, 1\]; .*clamp",
    ),
    "a changed setting": (
        FLOW, f"        self.beta = self.beta + 1\n{FLOW}", "purity", r"setting",
    ),
    "hidden state": (
        FLOW,
        "        self.count = getattr(self, 'count', 0) + 1\n"
        "        noise = {**noise, 'bc_t': noise['bc_t'] / self.count}\n        flow = nets.flow",
        "purity", r"loss `bc` is another number when it is computed again",
    ),
    "state that is not saved": (
        HOOKS,
        "    def after_update(self, nets, info):\n        self.beta = self.beta * 0.9\n"
        "        self.seen = getattr(self, 'seen', 0) + 1\n        self.beta = self.beta + self.seen\n\n" + HOOKS,
        "resuming", r"differs after training that went on from a checkpoint offline; keep state in networks",
    ),
    "state that loading forgets": (
        HOOKS,
        "    def after_update(self, nets, info):\n        self.seen = getattr(self, 'seen', 0) + 1\n\n"
        f"{HOOKS}\n        noise = {{**noise, 'action': noise['action'] + getattr(self, 'seen', 0)}}",
        "saving", r"a loaded model plans other actions than the saved one; `act` may depend on nothing but settings",
    ),
    "numbers too fine for bfloat16": (
        'targets["td"], batch.valid),',
        'targets["td"], batch.valid) * (3 * (1e5 * targets["td"].mean(1)).sin()).exp(),',
        "bf16", r"the gradient's norm changes by \d+% in bfloat16, expected at most 5%",
    ),
    "no discount": (
        "td_target(batch, next_q, self.rho)", "batch.rewards + (batch.discounts > 0) * next_q.mean(1)", "values",
        r"`score` gives (0\.[89]|1\.)\d* where the rewards are 0 and then 1, with gamma 0\.5, expected 0\.5 \+- 0\.15",
    ),
    "climbing down": (
        "self.beta * (q", "-self.beta * (q", "actions",
        r"the mean action is -0\.\d+ where the reward is 30 times the action .* at least 0\.08; look at the sign",
    ),
    "weights drawn otherwise": (
        '        return {"critic"',
        "        import torch\n        from agents.common.nets.specs import Network, NetworkSpec\n\n"
        "        class Odd(Network):\n            def __init__(self, replicas):\n                super().__init__()\n"
        "                self.value = torch.nn.Parameter(torch.randn(replicas, 3))\n\n"
        '        return {"odd": NetworkSpec(lambda n: Odd(n.replicas)), "critic"',
        "replicas", r"`odd\.value` of seed \d does not start as in a run of that seed alone; .* `initialise\(",
    ),
}  # fmt: skip


@pytest.mark.few(8)
@pytest.mark.parametrize("case", BEYOND)
def test_what_only_running_shows_is_found(case, write_agent):
    before, after, check, message = BEYOND[case]
    code = example()
    assert before in code
    results = outcomes(write_agent(code.replace(before, after, 1)), *only("hooks", check))
    assert results[check].state == "fails", results[check]
    assert re.search(message, results[check].detail), results[check].detail


@pytest.mark.parametrize("others", ["noise", "{**noise}", "noise | {}", "dict(noise.items())"])
def test_a_draw_is_not_called_unused_where_it_is_read(others, write_agent):
    code = example().replace(FLOW, f"        ({others})['spare'].sum()\n{FLOW}", 1)
    code = code.replace('{"bc_x0"', '{"spare": normal("B"), "bc_x0"', 1)
    assert outcomes(write_agent(code), *only("hooks", "noise"))["noise"].state == "holds"


SLOPE = """        import torch

        actions = (0.5 * batch.actions + 0.5 * batch.actions.roll(1, 1)).requires_grad_()
        q = nets.critic(batch.observations, actions)
        (slope,) = torch.autograd.grad(q.sum(), actions, create_graph=True)
        flow = nets.flow"""
PENALTY = """"penalty": (slope.square().sum(-1) * batch.valid).mean(1),
            "td": td_loss"""
COPY = """"copy": ((nets.actor(batch.observations) - batch.actions).square().mean(2) * batch.valid).mean(1),
            "td": td_loss"""


def with_penalty():
    """Return the example with a penalty on the critic's gradient."""
    return example().replace(FLOW, SLOPE, 1).replace('"td": td_loss', PENALTY, 1)


def with_own_network():
    """Return the example with the page's own network, whose gradients have other strides than its weights."""
    code = example().replace("velocity_field()}", 'velocity_field(), "actor": actor()}', 1)
    return own_network() + code.replace('"td": td_loss', COPY, 1)


LEARNING = {"values", "actions", "compiled", "phases"}


@pytest.mark.parametrize("make", [with_penalty, with_own_network])
def test_it_passes_where_a_gradient_is_differentiated_or_transposed(make, write_agent):
    assert not failures(outcomes(write_agent(make()), *LEARNING))


def test_losses_that_take_a_gradient_are_not_compiled_and_that_is_no_failure(write_agent):
    results = outcomes(write_agent(with_penalty()), *only("hooks", "compiled"))
    assert results["compiled"].state == "does not apply"


def test_a_failure_names_the_authors_line(write_agent):
    code = example().replace(FLOW, f"        1 / 0\n{FLOW}")
    line = code.splitlines().index("        1 / 0") + 1
    assert f"(an_agent.py:{line})" in outcomes(write_agent(code), *only("hooks"))["hooks"].detail


def test_what_cannot_be_compiled_fails(write_agent):
    code = example().replace(FLOW, f"        print(batch.valid.data_ptr())\n{FLOW}")
    results = outcomes(write_agent(code), *only("hooks", "compiled"))
    assert "the losses cannot be compiled: " in results["compiled"].detail
