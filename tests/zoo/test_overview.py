"""The table of all algorithms: its numbers come from committed scores, and its advice follows from these numbers."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pandas as pd

from docs import make_tables
from zoo.algorithms.catalogue import FOLDER, SB3, START_WITH, describe_algorithms


def test_committed_numbers_and_the_table_are_those_of_the_sets():
    assert (FOLDER / "overview.csv").read_text() == make_tables.overview(), (
        "run `python docs/make_tables.py`"
    )
    page = (make_tables.DOCS / "README.md").read_text()
    assert make_tables.choosing() in page, "run `python docs/make_tables.py`"


def test_what_to_start_with_is_the_best_that_is_not_dear():
    rows = describe_algorithms()
    table = pd.DataFrame(rows).T
    is_cheap = table["work"] < rows["qam"]["work"]
    assert table["mini"][table["offline"] > 0].astype(float).idxmax() == START_WITH["offline"]
    assert table["online"][is_cheap].astype(float).idxmax() == START_WITH["offline to online"]
    assert rows[START_WITH["online"]]["mini"] > table["mini"][[*SB3]].max()


def test_a_package_that_cannot_be_imported_is_named_beside_rest(monkeypatch):
    point = EntryPoint("vwfc", "json:Vwfc", "flow_rl_zoo.agents")._for(SimpleNamespace(name="mine"))
    monkeypatch.setattr("agents.registry._plugins", lambda: {"vwfc": point})
    rows = describe_algorithms()
    assert "json:Vwfc cannot be imported" in rows["vwfc"]["when"]
    assert rows["fql"]["mini"]
