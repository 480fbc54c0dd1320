"""The page on registering an agent: what it promises is shown by the tests that it names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "register.md"


def rows() -> list[tuple[str, str]]:
    """Return the test and its file that each row of the table of what every agent gets links to."""
    table = PAGE.read_text().partition("## What every agent gets\n")[2]
    lines = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| |")]
    found = [re.search(r"\[`(test_\w+)`\]\((\S+)\) \|$", line) for line in lines]
    assert all(found), "a row without a link to a test"
    return [(match[1], match[2]) for match in found if match]


def test_each_thing_that_an_agent_gets_for_free_is_shown_by_a_test() -> None:
    assert len(rows()) >= 15
    for name, file in rows():
        tree = ast.parse((PAGE.parent / file).resolve().read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{name} in {file}"
