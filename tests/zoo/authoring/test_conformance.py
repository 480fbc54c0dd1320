"""The conformance kit as a program."""

import json

import pytest

from agents.testing.kit import CHECKS
from tests.agents.testing.mistakes import example
from zoo.list_agents import main

SLOW = [check.name for check in CHECKS if check.name not in ("hooks", "bounds", "saving")]


def test_everything_holds_for_a_sound_algorithm(capsys):
    assert main(["check", "bc", "--skip", *SLOW, "-params", "net_arch=[8, 8]", "flow_steps=2"]) == 0
    output = capsys.readouterr()
    result = json.loads(output.out.splitlines()[-1])
    assert (result["algo"], result["holds"]) == ("bc", True)
    states = {name: row["state"] for name, row in result["checks"].items()}
    expected = dict.fromkeys((check.name for check in CHECKS), "holds")
    assert states == expected | dict.fromkeys(SLOW, "skipped")
    assert "bc conforms" in output.err
    command = "zoo train --algo bc --env ENV --quick -params 'net_arch=[8, 8]' flow_steps=2"
    assert f"next: {command}\n" in output.err


def test_what_does_not_hold_is_shown_with_why_and_where_to_look(write_agent, capsys):
    unbounded = write_agent(example().replace(".clamp(-1, 1)", ""))
    assert main(["check", unbounded, "--skip", *SLOW]) == 1
    output = capsys.readouterr()
    result = json.loads(output.out.splitlines()[-1])
    assert [name for name, row in result["checks"].items() if row["state"] == "fails"] == ["bounds"]
    shown = " ".join(output.err.split())
    assert "weighted_bc fails: bounds" in shown
    assert "actions keep to their bounds: `act` returns actions up to" in shown
    assert "docs/register.md#the-hooks" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("no_such_module:Agent", "no_such_module"),
        ("sac", "sac"),
        ("fql --skip compile", "closest: compiled"),
        ("fql -params distil_weight=3", "closest: distill_weight"),
    ],
)
def test_bad_input_is_refused_before_any_check(words, message, capsys):
    assert main(f"check {words}".split()) == 2
    assert message in capsys.readouterr().err
