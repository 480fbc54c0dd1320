from dataclasses import replace

import numpy as np
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
from zoo.report import tables
from zoo.report.comparison import Cell, ComparedMethod
from zoo.report.statistics.estimates import Estimate
from zoo.report.table_entries import number_entry, number_text, score_entry, to_latex, to_markdown
from zoo.runs.scores import SUCCESS


@pytest.fixture(scope="module")
def content():
    return content_of(evaluations(["QAM", "FQL"]))


def test_table_of_aggregates_has_points_in_per_cent_with_intervals(content):
    phase = content.comparisons[0].phases["offline"]
    table = tables.aggregates_table(content.comparisons[0], phase)
    rows = {row[0].text: row for row in table.rows}
    mean = phase.aggregates["FQL"].mean
    text = "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * np.array([mean.point, *mean.interval])))
    assert rows["FQL"][1].plain == text
    assert table.header == ["method", "mean", "IQM", "seeds", "steps"]
    assert [entry.text for entry in rows["FQL"][3:]] == ["6", "2,000"]
    # as where the environments of one method ran for different numbers of steps
    ranges = dict.fromkeys(phase.step_ranges, (1000, 2000))
    table = tables.aggregates_table(content.comparisons[0], replace(phase, step_ranges=ranges))
    assert {row[4].text for row in table.rows} == {"1,000 to 2,000"}


def test_bold_is_the_best_and_a_dagger_reaches_it(content):
    phase = content.comparisons[0].phases["offline"]
    expected = {  # mean and upper end of its interval, whether it is bold, and has a dagger
        "best": (0.80, 0.9, True, False),
        "near": (0.76, 0.79, False, False),
        "reaching": (0.75, 0.80, False, True),
        "below": (0.75, 0.79, False, False),
    }
    cells = {}
    for name, (mean, high, *_) in expected.items():
        cells[name] = Cell({"mean": Estimate(mean, (0.7, high), "bootstrap")}, 1, (6, 6))
    phase = replace(
        phase,
        domains={"scene-play": cells},
        domain_tasks={"scene-play": SCENE[:1]},
        coverage=dict.fromkeys(cells, SCENE[:1]),
    )
    comparison = content.comparisons[0]
    comparison = replace(comparison, methods=own_methods(cells), phases={"offline": phase})
    for method, score in tables.domains_table(comparison, phase).rows:
        assert (score.is_bold, "†" in score.text) == expected[method.text][2:], method.text


@pytest.mark.parametrize(("best", "is_bold"), [(0.002, False), (0.049, False), (0.05, True)])
def test_nothing_is_bold_below_a_best_of_five_per_cent(content, best, is_bold):
    phase = content.comparisons[0].phases["offline"]
    cells = {"QAM": Cell({"mean": Estimate(best, (0.0, 2 * best), "bootstrap")}, 1, (6, 6))}
    cells["FQL"] = Cell({"mean": Estimate(0.0)}, 1, (6, 6))
    phase = replace(phase, per_task={SCENE[0]: cells})
    table = tables.tasks_table(content.comparisons[0], phase)
    assert table.rows[0][table.header.index("QAM")].is_bold is is_bold
    assert "at least 5%" in table.caption


def test_protocol_table_has_one_row_for_each_protocol():
    protocols = {env: {"offline_steps": 1000, "sparse": True} for env in SCENE}
    methods = {name: ComparedMethod(name, name, "own", protocols) for name in ("a", "b")}
    longer = {SCENE[0]: {"offline_steps": 2000, "sparse": True}}
    methods["c"] = ComparedMethod("c", "c", "own", longer)
    runs = pd.concat([scene_runs([[0.5] * 6] * 5, name) for name in methods])
    table = tables.protocol_table(content_of(runs, methods, baseline="a").comparisons[0])
    assert table.header == ["source", "methods", "where", "offline steps"]
    assert "All: sparse True." in table.caption
    assert [[entry.text for entry in row] for row in table.rows] == [
        ["own", "a, b", "5 tasks of scene-play", "1,000"],
        ["own", "c", "scene-play task1", "2,000"],
    ]


def test_tasks_of_returns_have_means_with_intervals_in_their_own_units():
    comparison = comparison_of_returns(["SAC", "TD3"])
    phase = comparison.phases["online"]
    table = tables.tasks_table(comparison, phase)
    assert table.name == "tasks_online_return"
    assert table.title == "Tasks, online, return"
    assert table.caption.startswith("Return, ")
    column = table.header.index("SAC")
    for row, environment in zip(table.rows, ("HalfCheetah-v5", "Pendulum-v1"), strict=True):
        mean = phase.per_task[environment]["SAC"].mean
        text = "{:,.0f} [{:,.0f}, {:,.0f}]".format(mean.point, *mean.interval)
        assert row[0].text == environment
        assert row[column].plain.replace("†", "") == text.replace("-", "\N{MINUS SIGN}")


def test_tasks_of_success_have_their_intervals_in_files():
    comparison = comparison_of(["QAM", "FQL"])
    phase = comparison.phases["offline"]
    table = tables.tasks_table(comparison, phase)
    mean = phase.per_task["cube-double-play-singletask-task1-v0"][table.header[1]].estimates["mean"]
    low, high = (f"{100 * bound:.1f}" for bound in mean.interval)
    for text in (to_latex(table), to_markdown(table)):
        assert f"[{low}, {high}]" in text.replace("{[}", "[")


@pytest.mark.parametrize(
    ("interval", "point", "text"),
    [((-0.012, 0.03), -0.01, "~1.0 [~1.2, 3.0]"), ((0.0, 0.004), 0.0, "0.0 [0.0, 0.4]")],
)
def test_numbers_have_true_minus_signs_and_intervals_of_few_digits(interval, point, text):
    entry = number_entry(Estimate(point, interval, "t"), 100, 1)
    assert entry.plain == text.replace("~", "\N{MINUS SIGN}")


def test_an_interval_of_the_whole_scale_reaches_no_best_score():
    assert score_entry(Estimate(0.0, (0.0, 1.0), "t"), SUCCESS, 1, 0.9).text == "0.0"
    assert score_entry(Estimate(0.2, (0.0, 0.95), "t"), SUCCESS, 1, 0.9).text == "20.0†"


def test_an_interval_that_rounds_to_its_number_is_explained():
    comparison = comparison_of(["A", "B"])
    phase = comparison.phases["offline"]
    cell = Cell({"mean": Estimate(1.0, (0.9999, 1.0), "t")}, 2, (6, 6))
    table = tables.aggregates_table(comparison, replace(phase, aggregates={"A": cell, "B": cell}))
    assert table.rows[0][1].plain == "100.0 \N{EN DASH}"
    assert "\N{EN DASH}: " in table.caption
    assert table.header == ["method", "mean", "seeds", "steps"]  # no column of dashes


def test_a_tie_is_rounded_by_its_value_and_not_by_its_last_bit():
    tie = 12.25
    for value in (np.nextafter(tie, 0), np.nextafter(tie, 100)):
        assert number_text(value, 1) == number_text(tie, 1)
