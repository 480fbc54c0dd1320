import json

import pytest

from tests.zoo.report.samples import (
    NO_MEANS,
    comparison_of,
    comparison_of_returns,
    evaluations,
    own_methods,
    returns,
    runs_with_an_online_starter,
)
from zoo.report.compute import compare
from zoo.report.figures.drawings import Names, page_data
from zoo.report.tables.scores import aggregates_table

METHODS = ["QAM", "FQL", "mine"]


@pytest.fixture(scope="module")
def comparison():
    return comparison_of(METHODS, tasks=4)


@pytest.fixture(scope="module")
def names(comparison):
    return Names([comparison])


@pytest.fixture(scope="module")
def data(comparison, names):
    return page_data([comparison], evaluations(METHODS, tasks=4), names)


def drawing(data, name):
    """Return the panels of a drawing."""
    return next(found["panels"] for found in data["drawings"] if found["name"] == name)


def drawn(comparison, runs, name):
    """Return the panels of a drawing of another comparison, and its names."""
    names = Names([comparison])
    return drawing(page_data([comparison], runs, names), name), names


def test_intervals_are_those_of_the_comparison_in_percent(comparison, names, data):
    panel = drawing(data, "aggregates")[0]
    row = next(row for row in panel["rows"] if row["m"] == names.method("FQL"))
    mean = comparison.phases["offline"].aggregates["FQL"].estimates["mean"]
    assert row["value"] == round(100 * mean.point, 2)
    assert row["interval"] == [round(100 * bound, 2) for bound in mean.interval]
    table = aggregates_table(comparison, comparison.phases["offline"])
    assert row["text"] == next(entries for entries in table.rows if entries[0].text == "FQL")[1].plain.replace("†", "")
    assert (row["seeds"], row["step"], panel["digits"], panel["phase"]) == ("6", 2000, 1, "offline")


def test_an_online_curve_begins_where_the_offline_one_ended(comparison, names, data):
    lines = drawing(data, "sample_efficiency")[0]["lines"]
    offline, online = (
        next(line for line in lines if line["m"] == names.method("QAM") and line["phase"] == phase)
        for phase in ("offline", "online")
    )
    assert (offline["x"], online["x"]) == ([1000, 2000], [2000, 3000])
    assert (online["y"][0], offline["isJoined"], online["isJoined"]) == (offline["y"][-1], False, True)
    found = comparison.phases["offline"].curves["QAM"].mean
    assert offline["y"] == [round(100 * value, 2) for value in found.points]
    assert offline["low"] == [round(100 * value, 2) for value in found.bounds[0]]


@pytest.mark.parametrize("figure", ["sample_efficiency", "domains"])
def test_axis_holds_a_method_that_starts_online_where_the_others_end(figure):
    runs = runs_with_an_online_starter()
    (panel, *_), names = drawn(compare(own_methods(("QAM", "RLPD")), runs, NO_MEANS, reps=20), runs, figure)
    assert next(line["x"] for line in panel["lines"] if line["m"] == names.method("RLPD")) == [2500, 3000]
    assert panel["x"]["limits"] == [0, 3000]


def test_pairs_hold_both_directions_and_need_three_methods(comparison, names, data):
    cells = drawing(data, "pairs")[0]["cells"]
    found = {(cell["m"], cell["other"]): cell for cell in cells}
    assert len(found) == 6
    pair = comparison.phases["offline"].improvements["mine", "QAM"]
    cell = found[names.method("mine"), names.method("QAM")]
    assert cell["value"] == round(pair.probability.point, 3)
    assert cell["difference"]["value"] == round(100 * pair.difference.point, 2)
    two = comparison_of(["QAM", "FQL"])
    assert "pairs" not in json.dumps(page_data([two], evaluations(["QAM", "FQL"]), Names([two])))


def test_shades_of_success_are_absolute_and_those_of_returns_are_between_worst_and_best_of_a_row(data):
    for cell in drawing(data, "heat_map")[0]["cells"]:
        assert cell["shade"] == pytest.approx(cell["value"] / 100, abs=1e-3)
    (panel,), _ = drawn(comparison_of_returns(METHODS), returns(METHODS), "heat_map_return")
    for task in range(2):
        cells = [cell for cell in panel["cells"] if cell["task"] == task]
        assert {0.0, 1.0} < {cell["shade"] for cell in cells}
        assert max(cells, key=lambda cell: cell["value"])["shade"] == 1


def test_single_runs_are_own_ones_with_their_folders(comparison, names):
    table = evaluations(METHODS, tasks=4)
    table.loc[table["method"] == "QAM", "source"] = "a_set"
    panels = drawing(page_data([comparison], table, names), "runs")
    assert [panel["phase"] for panel in panels] == ["offline", "online"]
    assert len(panels[0]["points"]) == 2 * 4 * 6  # methods, tasks, seeds
    assert {point["m"] for point in panels[0]["points"]} == {names.method("FQL"), names.method("mine")}
    point = panels[0]["points"][0]
    row = table[(table["run"] == point["run"]) & (table["step"] == point["step"])].iloc[0]
    assert (point["value"], point["seed"]) == (round(100 * row["score"], 2), row["seed"])
