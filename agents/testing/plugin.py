"""The conformance kit in pytest: one test for each check of an algorithm.

::

    @pytest.mark.agent("my_agent:MyAgent")
    def test_it_keeps_the_contract(agent_check):
        agent_check()

Named arguments of the mark are settings over the small ones that the checks choose; ``-k "not compiled"`` leaves a
check out. The plugin is there as soon as the package is installed, and imports nothing until it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from agents.testing.kit import Check
    from agents.testing.subject import Subject

FIXTURE = "agent_check"
HOW = 'mark the test with the algorithm, by its id or as `@pytest.mark.agent("my_agent:MyAgent")`'


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line("markers", f"agent(name, **settings): algorithm that `{FIXTURE}` checks")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each check."""
    if FIXTURE in metafunc.fixturenames:
        from agents.testing.kit import CHECKS

        metafunc.parametrize(FIXTURE, CHECKS, indirect=True, ids=[check.name for check in CHECKS])


@pytest.fixture
def agent_check(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Return a function that makes one check of the marked algorithm, and fails the test where it does not hold."""
    subject, check = _subject_of(request), request.param
    return lambda: _report(subject, check)


def _subject_of(request: pytest.FixtureRequest) -> Subject:
    """Return the algorithm of a test's mark; tests of one module share it, with what it has learnt."""
    from agents.registry import find
    from agents.testing.subject import Subject

    mark = request.node.get_closest_marker("agent")
    if mark is None or len(mark.args) != 1 or not isinstance(mark.args[0], str):
        raise pytest.UsageError(f"{request.node.nodeid} uses `{FIXTURE}`; {HOW}")
    subjects: dict[Any, Subject] = request.node.parent.stash.setdefault(_SUBJECTS, {})
    key = (mark.args[0], repr(sorted(mark.kwargs.items())))
    if key not in subjects:
        try:
            subjects[key] = Subject(find(mark.args[0]).method, mark.kwargs)
        except KeyError as error:
            raise pytest.UsageError(str(error.args[0])) from error
    return subjects[key]


def _report(subject: Subject, check: Check) -> None:
    """Make a check and tell pytest its outcome; the message is the explanation, so no traceback is shown."""
    from agents.testing.kit import try_check

    outcome = try_check(check, subject)
    if outcome.state in ("does not apply", "fails by design"):
        pytest.skip(f"{outcome.state}: {outcome.detail}")
    if outcome.state == "fails":
        pytest.fail(f"{check.promise}: {outcome.detail}\n(see {check.where})", pytrace=False)


_SUBJECTS = pytest.StashKey[dict[Any, Any]]()
