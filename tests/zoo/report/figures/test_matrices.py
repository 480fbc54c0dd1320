import numpy as np
import pandas as pd

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
from zoo.report.figures.drawing import SHEETS
from zoo.report.figures.plots import QUIET, plot_heat_map, plot_pairs
from zoo.runs.scores import NORMALISED_RETURN

METHODS = ["A", "B", "C", "D"]


def shown(ax):
    """Return the numbers behind the colours of a matrix, NaN where there is none."""
    return np.ma.filled(ax.collections[0].get_array(), np.nan)


def test_pairs_that_are_clearly_different_have_a_strong_colour():
    scores = {"good": [1.0] * 8, "middle": [0.5, 0.52] * 4, "same": [0.52, 0.5] * 4}
    runs = pd.concat([scene_runs([values] * 5, name) for name, values in scores.items()])
    clear = compare(own_methods(scores), runs, NO_MEANS, reps=50)
    ax = plot_pairs(clear).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ranking(clear)
    assert [label.get_text() for label in ax.get_xticklabels()] == ranking(clear)
    assert np.array_equal(shown(ax), [[np.nan, 100, 100], [0, np.nan, 50], [0, 50, np.nan]], equal_nan=True)
    assert {text.get_text(): text.get_color() for text in ax.texts} == {"100": "white", "0": "white", "50": QUIET}


def test_numbers_of_pairs_are_left_out_where_they_do_not_fit():
    comparison = comparison_of([f"method {k:02d}" for k in range(17)], seeds=2)
    assert not plot_pairs(comparison, SHEETS["column"]).axes[0].texts
    assert len(plot_pairs(comparison_of(METHODS), SHEETS["column"]).axes[0].texts) == 12
    assert plot_pairs(comparison_of(METHODS[:2])) is None


def test_heat_map_has_the_mean_of_each_method_on_each_task_in_the_order_of_the_domains():
    table = evaluations(METHODS, tasks=4)
    lacking = (table["method"] == "B") & (table["environment"] == "scene-play-singletask-task2-v0")
    comparison = compare(own_methods(METHODS), table[~lacking], NO_MEANS, reps=20)
    ax = plot_heat_map(comparison).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "cube-double-play task1", "cube-double-play task2", "scene-play task1", "scene-play task2",
    ]  # fmt: skip
    phase = comparison.phases["offline"]
    means = [
        [100 * cells[name].estimates["mean"].point if name in cells else np.nan for name in ranking(comparison)]
        for cells in phase.per_task.values()
    ]
    assert np.allclose(shown(ax), means, equal_nan=True)
    assert ax.yaxis_inverted()
    assert [text.get_text() for text in ax.texts[:2]] == [f"{value:.0f}" for value in means[0][:2]]


def test_many_tasks_in_a_paper_are_named_by_their_domains():
    one = evaluations(["A"], tasks=1)
    domains = ("cube-double-play", "puzzle-3x3-play", "scene-play")
    names = {f"{domain}-singletask-task{k}-v0": domain for domain in domains for k in range(1, 6)}
    table = pd.concat([one.assign(environment=name, domain=domain) for name, domain in names.items()])
    comparison = compare(own_methods("A"), table, NO_MEANS, reps=20)
    ax = plot_heat_map(comparison, SHEETS["column"]).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cube-double-play", "puzzle-3x3-play", "scene-play"]
    assert ax.get_yticks().tolist() == [2.5, 7.5, 12.5]
    assert len(plot_heat_map(comparison).axes[0].get_yticklabels()) == 15


def test_returns_share_no_colours():
    assert plot_heat_map(comparison_of_returns(["A", "B"])) is None
    figure = plot_heat_map(comparison_of_returns(["A", "B"], kind=NORMALISED_RETURN))
    low, high = figure.axes[-1].get_xlim()
    assert low < 0  # no better than random
    assert high > 1
