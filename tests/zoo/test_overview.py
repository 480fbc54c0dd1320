"""The table of all algorithms: its numbers are those of committed scores, and its advice follows from them."""

from docs import make_tables
from zoo.algorithms.overview import FOLDER, START_WITH, describe_algorithms


def test_committed_numbers_and_the_table_are_those_of_the_sets():
    assert (FOLDER / "overview.csv").read_text() == make_tables.overview(), (
        "run `python docs/make_tables.py`"
    )
    page = (make_tables.DOCS / "README.md").read_text()
    assert make_tables.choosing() in page, "run `python docs/make_tables.py`"


def test_what_to_start_with_is_the_best_that_is_not_dear():
    rows = describe_algorithms()["algorithms"]
    cheap = {
        id: row for id, row in rows.items() if row["work"] and row["work"] < rows["qam"]["work"]
    }
    learnt_offline = {id: row for id, row in rows.items() if row["offline"] and row["mini"]}
    assert max(learnt_offline, key=lambda id: rows[id]["mini"]) == START_WITH["offline"]
    assert max(cheap, key=lambda id: rows[id]["online"] or 0) == START_WITH["offline to online"]
    assert rows[START_WITH["online"]]["mini"] > max(
        rows[id]["mini"] for id in ("sac", "td3", "tqc", "crossq")
    )


def test_every_algorithm_of_the_zoo_says_what_it_is_and_when_to_use_it():
    rows = describe_algorithms()["algorithms"]
    assert [
        id
        for id, row in rows.items()
        if not (row["when"] and (row["summary"] or row["kind"].startswith("SB3")))
    ] == []
