"""The program that runs the conformance kit."""

import pytest

from agents.testing.kit import CHECKS
from tests.agents.testing.mistakes import example, with_mistake
from zoo.list_agents import main

# other checks train, which takes seconds each
SLOW = {*CHECKS} - {"hooks", "bounds", "saving"}


def test_what_does_not_hold_is_shown_with_why_and_where_to_look(write_agent, call):
    unbounded = write_agent(example().replace(".clamp(-1, 1)", ""))
    result, messages = call(main, "check", unbounded, "--skip", *SLOW, code=1)
    ran = {name: state for name, state in result["checks"].items() if state != "skipped"}
    assert ran == {"hooks": "holds", "bounds": "fails", "saving": "holds"}
    assert "`act` returns actions up to" in " ".join(messages.split())


def test_checks_end_with_hooks_that_fail(write_agent, call):
    broken = write_agent(with_mistake("forgotten hook"))
    result, _ = call(main, "check", broken, code=1)
    assert result["checks"] == {"hooks": "fails"}


@pytest.mark.parametrize(
    ("words", "message"),
    {
        "no_such_module:Agent": "no_such_module",
        "sac": "sac",
        "fql --skip compile": "closest: compiled",
        "fql -params distil_weight=3": "closest: distill_weight",
    }.items(),
)
def test_bad_input_is_refused_before_any_check(words, message, refusal):
    assert message in refusal(main, "check", *words.split())
