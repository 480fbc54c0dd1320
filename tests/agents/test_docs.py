"""The pages of the algorithms say what their declarations say."""

from __future__ import annotations

from pathlib import Path

import pytest

import agents
from docs import make_tables


@pytest.mark.parametrize("id", agents.algorithm_ids())
def test_a_pages_settings_are_the_declared_ones(id: str) -> None:
    page = Path(make_tables.DOCS / f"{id}.md").read_text()
    assert make_tables.updated(id) == page, "run `python docs/make_tables.py`"
    assert id == "bc" or make_tables.table_of(id) in page
