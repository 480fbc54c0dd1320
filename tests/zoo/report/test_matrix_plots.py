import re

import matplotlib
import pandas as pd
import pytest

from tests.zoo.report.samples import (
    NO_MEANS,
    comparison_of,
    comparison_of_returns,
    evaluations,
    own_methods,
    scene_runs,
)
from zoo.report.comparison import ranking
from zoo.report.compute import compare
from zoo.report.drawing import SHEETS
from zoo.report.matrix_plots import plot_heat_map, plot_pairs
from zoo.runs.scores import NORMALISED_RETURN

METHODS = ["A", "B", "C", "D"]


def colour_at(ax, row, column):
    """Return the colour of a cell, None where nothing fills it."""
    found = [p.get_facecolor() for p in ax.patches if p.get_path().contains_point((column + 0.5, row + 0.5))]
    return found[-1] if found else None


def texts_in(ax):
    return {tuple(int(k) for k in text.get_position()[::-1]): text.get_text() for text in ax.texts}


@pytest.fixture(scope="module")
def clear():
    scores = {"good": [1.0] * 8, "middle": [0.5, 0.52] * 4, "same": [0.52, 0.5] * 4}
    runs = pd.concat([scene_runs([values] * 5, name) for name, values in scores.items()])
    return compare(own_methods(scores), runs, NO_MEANS, reps=50)


def test_pairs_that_are_clearly_different_have_a_colour(clear):
    ax = plot_pairs(clear).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ranking(clear)
    assert [label.get_text() for label in ax.get_xticklabels()] == ranking(clear)
    better, worse = colour_at(ax, 0, 1), colour_at(ax, 1, 0)
    assert better[2] > better[0]  # blue
    assert worse[0] > worse[2]  # red
    assert colour_at(ax, 1, 2) is None
    assert texts_in(ax)[0, 1] == "1.00"
    assert texts_in(ax)[1, 2] == ".50"


def test_numbers_of_pairs_are_left_out_where_they_do_not_fit():
    comparison = comparison_of([f"method {k:02d}" for k in range(17)], seeds=2)
    assert not plot_pairs(comparison, SHEETS["column"]).axes[0].texts
    assert len(plot_pairs(comparison_of(METHODS), SHEETS["column"]).axes[0].texts) == 12


def test_two_methods_have_no_figure_of_pairs():
    assert plot_pairs(comparison_of(["A", "B"])) is None


def test_heat_map_has_the_mean_of_each_method_on_each_task_in_the_order_of_the_domains():
    comparison = comparison_of(METHODS, tasks=4)
    ax, below = plot_heat_map(comparison).axes[:2]  # both phases share the names below
    labels = [" ".join(label.get_text().split()) for label in below.get_xticklabels()]
    assert [re.sub("- ", "-", label) for label in labels] == [
        "cube-double-play task1", "cube-double-play task2", "scene-play task1", "scene-play task2",
    ]  # fmt: skip
    phase = comparison.phases["offline"]
    for row, method in enumerate(ranking(comparison)):
        for column, task in enumerate(sorted(phase.per_task)):
            mean = phase.per_task[task][method].estimates["mean"].point
            assert colour_at(ax, row, column) == matplotlib.colormaps["viridis"](round(100 * mean) / 100)


def test_many_tasks_are_named_by_their_domains():
    one = evaluations(["A"], tasks=1)
    domains = ("cube-double-play", "puzzle-3x3-play", "scene-play")
    names = {f"{domain}-singletask-task{k}-v0": domain for domain in domains for k in range(1, 6)}
    table = pd.concat([one.assign(environment=name, domain=domain) for name, domain in names.items()])
    ax = plot_heat_map(compare(own_methods("A"), table, NO_MEANS, reps=20)).axes[1]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["cube-double-play", "puzzle-3x3-play", "scene-play"]
    assert ax.get_xticks().tolist() == [2.5, 7.5, 12.5]


def test_task_that_a_method_lacks_is_left_empty():
    table = pd.concat([evaluations(["A"], tasks=2), evaluations(["B"], tasks=1)])
    comparison = compare(own_methods("AB"), table, NO_MEANS, reps=20)
    ax = plot_heat_map(comparison).axes[0]
    empty = {(row, column) for row in range(2) for column in range(2) if colour_at(ax, row, column) is None}
    assert empty == {(ranking(comparison).index("B"), 0)}  # cube-double-play stands before scene-play


def test_returns_share_no_colours():
    assert plot_heat_map(comparison_of_returns(["A", "B"])) is None
    figure = plot_heat_map(comparison_of_returns(["A", "B"], kind=NORMALISED_RETURN))
    low, high = figure.axes[-1].get_xlim()
    assert low < 0  # no better than random
    assert high > 1
