"""The table of all algorithms: its numbers are those of committed scores, and its advice follows from them."""

from __future__ import annotations

import pytest

from docs import make_tables
from tests.zoo.outcomes import Call
from zoo import list_agents
from zoo.overview import FOLDER, START_WITH, describe_algorithms, in_order, score_text


def test_committed_numbers_and_the_table_are_those_of_the_sets() -> None:
    assert (FOLDER / "overview.csv").read_text() == make_tables.overview(), "run `python docs/make_tables.py`"
    page = (make_tables.DOCS / "README.md").read_text()
    assert page == make_tables.updated_choosing(), "run `python docs/make_tables.py`"
    assert make_tables.choosing() in page


def test_what_to_start_with_is_the_best_that_is_not_dear() -> None:
    rows = describe_algorithms()["algorithms"]
    cheap = {id: row for id, row in rows.items() if row["work"] and row["work"] < rows["qam"]["work"]}
    learnt_offline = {id: row for id, row in rows.items() if row["offline"] and row["mini"]}
    assert max(learnt_offline, key=lambda id: rows[id]["mini"]) == START_WITH["offline"]
    assert max(cheap, key=lambda id: rows[id]["online"] or 0) == START_WITH["offline to online"]
    assert rows[START_WITH["online"]]["mini"] > max(rows[id]["mini"] for id in ("sac", "td3", "tqc", "crossq"))


def test_every_algorithm_of_the_zoo_says_what_it_is_and_when_to_use_it() -> None:
    rows = describe_algorithms()["algorithms"]
    assert [
        id for id, row in rows.items() if not (row["when"] and (row["summary"] or row["kind"].startswith("SB3")))
    ] == []


@pytest.mark.parametrize(
    ("score", "text"), [(None, ""), (0.0, " 0"), (12.0, "12 ▋"), (45.7, "46 ██▎"), (100.0, "100 █████")]
)
def test_a_strip_is_as_long_as_its_score(score: float | None, text: str) -> None:
    assert score_text(score) == text


def test_a_list_for_people_breaks_no_word_in_80_columns(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, found, said = call(list_agents.main, "list", "--sort", "work")
    assert max(map(len, said.splitlines())) <= 80
    rows = found["algorithms"]
    assert {word for row in rows.values() for word in row["when"].split()} <= set(said.split())
    ids = [line.split()[0] for line in said.splitlines() if line.split()[:1] and line.split()[0] in rows]
    assert ids[:2] == ["bc", "qgf"] == in_order(rows, "work")[:2]
