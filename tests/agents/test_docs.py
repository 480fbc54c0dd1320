"""The pages of the algorithms say what their declarations say, and those of the mini benchmark what its scores say."""

from __future__ import annotations

from pathlib import Path

import pytest

import agents
from docs import make_tables


@pytest.mark.parametrize("page", make_tables.MINI_COLUMNS, ids=lambda page: page.name)
def test_the_tables_of_the_mini_benchmark_are_those_of_its_scores(page: Path) -> None:
    text = make_tables.updated_mini(page)
    assert text == page.read_text(encoding="utf-8"), "run `python docs/make_tables.py`"
    assert make_tables.mini_table(make_tables.MINI_COLUMNS[page], make_tables.MINI_ROWS.get(page)) in text
    assert make_tables.MINI_RANK.search(text)
    assert make_tables.MINI_PROGRESS.search(text)


@pytest.mark.parametrize("id", agents.algorithm_ids())
def test_a_pages_settings_are_the_declared_ones(id: str) -> None:
    page = Path(make_tables.DOCS / f"{id}.md").read_text()
    assert make_tables.updated(id) == page, "run `python docs/make_tables.py`"
    assert id == "bc" or make_tables.table_of(id) in page
