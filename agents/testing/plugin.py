"""The conformance kit in pytest: one test for each check of an algorithm.

::

    # conftest.py
    pytest_plugins = ["agents.testing.plugin"]

    # test_my_agent.py
    @pytest.mark.agent("my_agent:MyAgent")
    def test_it_keeps_the_contract(agent_check):
        agent_check()

Keyword arguments of the mark are settings that override the checks' small settings; ``-k "not compiled"`` leaves out
the check ``compiled``.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agents.registry import find
from agents.testing.kit import CHECKS, PAGE, try_check
from agents.testing.subject import Subject

FIXTURE = "agent_check"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line(
        "markers", f"agent(name, **settings): algorithm that `{FIXTURE}` checks"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise a test that uses the fixture: one run for each check."""
    if FIXTURE in metafunc.fixturenames:
        metafunc.parametrize(FIXTURE, CHECKS, indirect=True)


@pytest.fixture
def agent_check(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Return a function that runs one check of the marked algorithm, and fails the test if the check fails."""
    mark = request.node.get_closest_marker("agent")
    if mark is None:
        raise pytest.UsageError(
            f'`{FIXTURE}` needs the mark `@pytest.mark.agent("my_agent:MyAgent")`'
        )
    check, subject = request.param, Subject(find(*mark.args).method, mark.kwargs)

    def run() -> None:
        outcome = try_check(check, subject)
        if outcome.state in ("does not apply", "fails by design"):
            pytest.skip(f"{outcome.state}: {outcome.detail}")
        if outcome.state == "fails":  # the message is the explanation, so no traceback is shown
            pytest.fail(f"{outcome.detail}\n(see {PAGE})", pytrace=False)

    return run
