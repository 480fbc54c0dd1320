"""The conformance kit in pytest, in the tests of an author."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agents.testing.kit import CHECKS
from tests.agents.testing.mistakes import example

ROOT = Path(__file__).parents[3]
CASES = {
    "marked": '@pytest.mark.agent("an_agent:WeightedBC")',
    "named": '@pytest.mark.agent("an_agent:WeightedBC", beta=2.0)',
    "broken": '@pytest.mark.agent("broken:Unbounded")',
    "cloning": '@pytest.mark.agent("bc")',
    "without_mark": "",
    "unknown": '@pytest.mark.agent("fqll")',
}
BROKEN = example().replace(".clamp(-1, 1)", "").replace("WeightedBC", "Unbounded").replace("weighted_bc", "unbounded")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what pytest prints of a few checks of an author's package, run once for all tests here."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "an_agent.py").write_text(example())
    (folder / "broken.py").write_text(BROKEN)
    tests = [f"{mark}\ndef test_{name}(agent_check):\n    agent_check()\n" for name, mark in CASES.items()]
    head = "import pytest\n\n"
    (folder / "test_mine.py").write_text(head + "\n".join(tests))
    wanted = "bounds or (marked and networks) or (cloning and values)"
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "--strict-markers", "-k", wanted, "-rs"],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stdout + ran.stderr
    return ran.stdout


def test_each_check_of_a_marked_agent_is_a_test(output: str) -> None:
    assert f"collected {len(CASES) * len(CHECKS)} items" in output
    assert "test_marked[networks] PASSED" in output
    assert "test_marked[bounds] PASSED" in output
    assert "test_named[bounds] PASSED" in output  # with settings


def test_a_failure_is_told_without_a_traceback(output: str) -> None:
    (told,) = re.findall(r"_ test_broken\[bounds\] _+\n(.*?)\n[_=]", output, flags=re.DOTALL)
    first, last = told.splitlines()
    assert first.startswith("actions keep to their bounds: `act` returns actions up to ")
    assert last == "(see docs/register.md#the-hooks)"


def test_what_does_not_apply_is_skipped_with_the_reason(output: str) -> None:
    assert "test_cloning[values] SKIPPED" in output
    assert "it learns no value" in output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("without_mark", "test_without_mark[bounds] uses `agent_check`; mark the test with the algorithm, by its id"),
        ("unknown", "unknown algorithm `fqll`; closest: fql"),
    ],
)
def test_a_wrong_mark_is_told(output: str, name: str, message: str) -> None:
    assert f"test_{name}[bounds] ERROR" in output
    assert message in output


def test_the_plugin_imports_nothing_large_until_it_is_used() -> None:
    script = "import sys, agents.testing.plugin; print('torch' in sys.modules, 'numpy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
