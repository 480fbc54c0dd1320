from dataclasses import replace

import pandas as pd
import pytest

from tests.zoo.report.samples import (
    SCENE,
    comparison_of,
    comparison_of_returns,
    content_of,
    evaluations,
    own_methods,
    scene_runs,
)
from zoo.report.comparison import Cell, Method
from zoo.report.statistics.estimates import Estimate, Improvement
from zoo.report.tables import scores as tables
from zoo.report.tables.entries import number_entry
from zoo.report.tables.texts import to_latex, to_markdown


@pytest.fixture(scope="module")
def content():
    return content_of(evaluations(["QAM", "FQL"]))


def test_table_of_aggregates_has_points_in_per_cent_with_intervals(content):
    phase = content.comparisons[0].phases["offline"]
    table = tables.aggregates_table(content.comparisons[0], phase)
    row = next(row for row in table.rows if row[0].text == "FQL")
    mean = phase.aggregates["FQL"].estimates["mean"]
    assert row[1].text.startswith(f"{100 * mean.point:.1f}")
    assert row[1].detail == f"[{100 * mean.interval[0]:.1f}, {100 * mean.interval[1]:.1f}]"
    assert table.header == ["method", "mean", "IQM"]  # what is the same in all rows stands once
    assert ", 6 seeds, 2,000 steps, with 95% intervals" in table.caption
    ranges = {name: (1000, 2000 if name == "QAM" else 3000) for name in phase.step_ranges}
    table = tables.aggregates_table(content.comparisons[0], replace(phase, step_ranges=ranges))
    assert {row[0].text: row[3].text for row in table.rows}["QAM"] == "1,000 to 2,000"


def test_bold_is_the_best_and_a_dagger_reaches_it(content):
    phase = content.comparisons[0].phases["offline"]
    cells = {
        "best": Cell({"mean": Estimate(0.80, (0.7, 0.9), "bootstrap")}, 1, (6, 6)),
        "near": Cell({"mean": Estimate(0.76, (0.7, 0.79), "bootstrap")}, 1, (6, 6)),
        "reaching": Cell({"mean": Estimate(0.75, (0.7, 0.80), "bootstrap")}, 1, (6, 6)),
        "below": Cell({"mean": Estimate(0.75, (0.7, 0.79), "bootstrap")}, 1, (6, 6)),
    }
    methods = own_methods(cells)
    phase = replace(phase, domains={"scene-play": cells}, domain_tasks={"scene-play": SCENE[:1]}, aggregates=cells)
    comparison = replace(content.comparisons[0], methods=methods, phases={"offline": phase})
    entries = {row[0].text: row[1] for row in tables.domains_table(comparison, phase).rows}
    assert {name: (entry.is_bold, "†" in entry.text) for name, entry in entries.items()} == {
        "best": (True, False),
        "near": (False, False),
        "reaching": (False, True),
        "below": (False, False),
    }


@pytest.mark.parametrize(("best", "is_bold"), [(0.002, False), (0.049, False), (0.05, True)])
def test_nothing_is_bold_below_a_best_of_five_per_cent(content, best, is_bold):
    phase = content.comparisons[0].phases["offline"]
    cells = {"QAM": Cell({"mean": Estimate(best, (0.0, 2 * best), "bootstrap")}, 1, (6, 6))}
    phase = replace(phase, per_task={SCENE[0]: cells})
    table = tables.tasks_table(content.comparisons[0], phase)
    entries = dict(zip(table.header[1:], table.rows[0][1:], strict=True))
    assert entries["QAM"].is_bold is is_bold
    assert "Bold: the best in the row, where that is at least 5%; " in table.caption


def test_protocol_table_has_one_row_for_each_protocol():
    protocols = {env: {"offline_steps": 1000, "sparse": True} for env in SCENE}
    methods = {name: Method(name, name, "own", protocols) for name in ("a", "b")}
    methods["c"] = Method("c", "c", "own", {SCENE[0]: {"offline_steps": 2000, "sparse": True}})
    runs = pd.concat([scene_runs([[0.5] * 6] * 5, name) for name in methods])
    table = tables.protocol_table(content_of(runs, methods, baseline="a").comparisons[0])
    assert table.header == ["source", "methods", "where", "offline steps"]
    assert "All: sparse True." in table.caption
    assert [[entry.text for entry in row] for row in table.rows] == [
        ["own", "a, b", "scene-play (5 tasks)", "1,000"],
        ["own", "c", "scene-play task1", "2,000"],
    ]


def test_tasks_of_returns_have_means_with_intervals_in_their_own_units():
    comparison = comparison_of_returns(["SAC", "TD3"])
    phase = comparison.phases["online"]
    table = tables.tasks_table(comparison, phase)
    assert (table.name, table.title) == ("tasks_online_return", "Tasks, online, return")
    assert "in %" not in table.caption
    assert table.caption.startswith("Return, mean over seeds, with 95% intervals. ")
    column = table.header.index("SAC")
    for row, environment in zip(table.rows, ("HalfCheetah-v5", "Pendulum-v1"), strict=True):
        mean = phase.per_task[environment]["SAC"].estimates["mean"]
        assert row[0].text == environment
        assert row[column].text.removesuffix("†") == f"{mean.point:,.0f}".replace("-", "\N{MINUS SIGN}")
        interval = f"[{mean.interval[0]:,.0f}, {mean.interval[1]:,.0f}]"
        assert row[column].detail == interval.replace("-", "\N{MINUS SIGN}")


def test_tasks_of_success_have_their_intervals_in_files():
    comparison = comparison_of(["QAM", "FQL"])
    phase = comparison.phases["offline"]
    table = tables.tasks_table(comparison, phase)
    mean = phase.per_task["cube-double-play-singletask-task1-v0"][table.header[1]].estimates["mean"]
    low, high = (f"{100 * bound:.1f}" for bound in mean.interval)
    assert (table.rows[0][1].detail, table.full_rows[0][1].detail) == ("", f"[{low}, {high}]")
    for text in (to_latex(table), to_markdown(table)):
        assert f"[{low}, {high}]" in text.replace("{[}", "[")


@pytest.mark.parametrize(
    ("interval", "point", "text"),
    [
        ((-0.012, 0.03), -0.01, "~1.0 [~1.2, 3.0]"),
        ((0.0, 0.0004), 0.0, "0.0 \N{EN DASH}"),
        ((0.0, 0.004), 0.0, "0.0 [0.0, 0.4]"),
    ],
)
def test_numbers_have_true_minus_signs_and_a_dash_where_the_interval_is_narrower_than_its_digits(interval, point, text):
    assert number_entry(Estimate(point, interval, "t"), 100, 1).plain == text.replace("~", "\N{MINUS SIGN}")


def test_several_environments_have_no_aggregates_and_no_difference_of_returns():
    comparison = comparison_of_returns(["SAC", "TD3"])
    phase = comparison.phases["online"]
    assert tables.aggregates_table(comparison, phase).rows == []
    assert tables.domains_table(comparison, phase).rows == []
    assert set(phase.domain_curves) == {"HalfCheetah-v5", "Pendulum-v1"}
    table = tables.improvement_table(comparison, phase)
    assert table.header == ["method", "probability of improvement"]
    assert "difference" not in table.caption
    assert " 1 comparison, not adjusted: " in table.caption
    assert set(table.data[0]) == {
        "method", "baseline", "probability", "probability_low", "probability_high", "probability_interval"
    }  # fmt: skip


def test_probability_and_difference_that_contradict_each_other_are_named():
    opposite = Improvement(Estimate(0.7, (0.6, 0.8), "bootstrap"), Estimate(-0.1, (-0.2, -0.05), "t"))
    agree = Improvement(Estimate(0.7, (0.6, 0.8), "bootstrap"), Estimate(0.1, (0.05, 0.2), "t"))
    open_one = Improvement(Estimate(0.7, (0.6, 0.8), "bootstrap"), Estimate(-0.1, (-0.2, 0.05), "t"))
    comparison = content_of(evaluations(["QAM", "FQL"])).comparisons[0]
    for pair, is_named in ((opposite, True), (agree, False), (open_one, False)):
        phase = replace(comparison.phases["offline"], improvements={("FQL", "QAM"): pair})
        caption = tables.improvement_table(comparison, phase).caption
        assert ("FQL: probability and difference point in opposite directions" in caption) == is_named
