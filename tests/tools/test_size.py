"""The tokens of the code stay within the budget of `pyproject.toml`."""

import sys
import tomllib

import pytest

from tools.size import ROOT, sizes

BUDGET = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["size"]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="counts an f-string as several tokens")
def test_the_code_keeps_its_budget():
    counts = sizes()
    over = {part: count for part, count in counts.items() if count > BUDGET[part]}
    assert not over, (
        f"the budget is {BUDGET}; take something out, or raise it in pyproject.toml and say why"
    )
