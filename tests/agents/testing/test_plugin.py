"""The conformance kit as a pytest plugin, in the tests of an algorithm's author."""

import re

from agents.testing.kit import CHECKS
from tests.agents.testing.mistakes import example

pytest_plugins = ["pytester"]
CASES = {
    "marked": '@pytest.mark.agent("an_agent:WeightedBC")',
    "named": '@pytest.mark.agent("an_agent:WeightedBC", beta=2.0)',
    "broken": '@pytest.mark.agent("broken:Unbounded")',
    "cloning": '@pytest.mark.agent("bc")',
    "without_mark": "",
}
BROKEN = (
    example()
    .replace(".clamp(-1, 1)", "")
    .replace("WeightedBC", "Unbounded")
    .replace("weighted_bc", "unbounded")
)


def test_each_check_of_a_marked_agent_is_a_test(pytester):
    tests = [
        f"{mark}\ndef test_{name}(agent_check):\n    agent_check()\n"
        for name, mark in CASES.items()
    ]
    pytester.makeconftest('pytest_plugins = ["agents.testing.plugin"]')
    pytester.makepyfile(
        an_agent=example(), broken=BROKEN, test_mine="import pytest\n\n" + "\n".join(tests)
    )
    chosen_checks = "bounds or (marked and networks) or (cloning and values)"
    # run in a new process, because pytester forgets its imports, but PyTorch's libraries can be loaded only once
    ran = pytester.runpytest_subprocess(
        "-v", "--strict-markers", "-k", chosen_checks, "-rs", "-p", "no:cacheprovider"
    )
    output = ran.stdout.str()
    assert f"collected {len(CASES) * len(CHECKS)} items" in output
    assert "test_marked[networks] PASSED" in output
    assert "test_marked[bounds] PASSED" in output
    assert "test_named[bounds] PASSED" in output  # a check run with settings
    assert "test_cloning[values] SKIPPED" in output
    assert "it does not learn values" in output
    assert "test_without_mark[bounds] ERROR" in output
    (failure,) = re.findall(r"_ test_broken\[bounds\] _+\n(.*?)\n[_=]", output, flags=re.DOTALL)
    first, last = failure.splitlines()  # no traceback
    assert first.startswith("`act` returns actions up to ")
    assert last == "(see docs/register.md#checks)"
