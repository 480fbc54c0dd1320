from dataclasses import replace

import pandas as pd
import pytest

from tests.zoo.evaluation.test_plots import evaluations
from tests.zoo.evaluation.test_report import SCENE, content_of, scene_runs
from zoo.evaluation import report, tables
from zoo.evaluation.comparison import Cell, Method
from zoo.evaluation.statistics import Estimate


@pytest.fixture(scope="module")
def content():
    return content_of(evaluations(["QAM", "FQL"]))


def test_table_of_aggregates_has_points_in_per_cent_with_intervals(content):
    phase = content.comparison.phases["offline"]
    table = tables.aggregates_table(content.comparison, phase)
    row = next(row for row in table.rows if row[0].text == "FQL")
    mean = phase.aggregates["FQL"].estimates["mean"]
    assert row[1].text.startswith(f"{100 * mean.point:.1f}")
    assert row[1].detail == f"[{100 * mean.interval[0]:.1f}, {100 * mean.interval[1]:.1f}]"
    assert [entry.text for entry in row[5:]] == ["2", "6", "2,000"]


def test_bold_is_within_95_per_cent_of_the_best_and_a_dagger_reaches_it(content):
    phase = content.comparison.phases["offline"]
    cells = {
        "best": Cell({"mean": Estimate(0.80, (0.7, 0.9), "bootstrap")}, 1, (6, 6)),
        "near": Cell({"mean": Estimate(0.76, (0.7, 0.79), "bootstrap")}, 1, (6, 6)),
        "reaching": Cell({"mean": Estimate(0.75, (0.7, 0.80), "bootstrap")}, 1, (6, 6)),
        "below": Cell({"mean": Estimate(0.75, (0.7, 0.79), "bootstrap")}, 1, (6, 6)),
    }
    methods = {name: Method(name, name, "own") for name in cells}
    phase = replace(phase, domains={"scene-play": cells}, domain_tasks={"scene-play": SCENE[:1]}, aggregates=cells)
    comparison = replace(content.comparison, methods=methods, phases={"offline": phase})
    entries = {row[0].text: row[1] for row in tables.domains_table(comparison, phase).rows}
    assert {name: (entry.is_bold, "†" in entry.text) for name, entry in entries.items()} == {
        "best": (True, False),
        "near": (True, False),
        "reaching": (False, True),
        "below": (False, False),
    }


def test_nothing_is_bold_where_everyone_fails():
    table = scene_runs([[0.0] * 6] * 5)
    found = content_of(table, baseline="qam")
    assert not any(entry.is_bold for t in report.all_tables(found) for row in t.rows for entry in row)


def test_protocol_table_has_one_row_for_each_protocol():
    protocols = {env: {"offline_steps": 1000, "sparse": True} for env in SCENE}
    methods = {name: Method(name, name, "own", protocols) for name in ("a", "b")}
    methods["c"] = Method("c", "c", "own", {SCENE[0]: {"offline_steps": 2000, "sparse": True}})
    runs = pd.concat([scene_runs([[0.5] * 6] * 5, name) for name in methods])
    table = tables.protocol_table(content_of(runs, methods, baseline="a").comparison)
    assert table.header == ["source", "methods", "where", "offline steps", "sparse"]
    assert [[entry.text for entry in row] for row in table.rows] == [
        ["own", "a, b", "scene-play (5 tasks)", "1,000", "True"],
        ["own", "c", "scene-play task1", "2,000", "True"],
    ]
