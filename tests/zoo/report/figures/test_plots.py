import io
from dataclasses import replace

import numpy as np
import pandas as pd

from tests.zoo.report.samples import (
    NO_MEANS,
    comparison_of,
    comparison_of_returns,
    evaluations,
    own_methods,
    returns,
    scene_runs,
)
from zoo.report.comparison import ranking
from zoo.report.compute import compare
from zoo.report.figures import plots
from zoo.report.figures.plots import QUIET, save
from zoo.report.figures.styles import method_styles, named_methods
from zoo.report.statistics.estimates import Estimate
from zoo.runs.scores import RETURN


def test_every_method_keeps_its_colour_in_every_figure():
    comparison = comparison_of(["QAM", "FQL"])
    looks = method_styles(comparison.methods)
    figures = plots.all_figures(comparison)
    expected = {looks[name].colour for name in ("QAM", "FQL")}
    for name in ("profiles", "sample_efficiency", "domains"):
        assert {line.get_color() for line in figures[name].axes[0].lines} == expected, name
    assert {line.get_color() for ax in figures["aggregates"].axes for line in ax.lines} == expected


def test_single_seed_gives_figures_without_bands():
    figures = plots.all_figures(comparison_of(["QAM", "FQL"], seeds=1))
    names = {"verdict", "aggregates", "profiles", "improvement", "sample_efficiency", "domains", "heat_map"}
    assert set(figures) == names
    assert not figures["profiles"].axes[0].collections


def test_figures_of_returns_have_the_kind_in_their_name_and_on_their_axes():
    figures = plots.all_figures(comparison_of_returns(["SAC", "TD3"], environments=["Pendulum-v1"]))
    names = {"verdict", "aggregates", "profiles", "improvement", "sample_efficiency", "environments"}
    assert set(figures) == {f"{name}_return" for name in names}
    axes = {name: figures[f"{name}_return"].axes for name in names}
    assert axes["aggregates"][0].get_title() == "online, mean, return"
    assert axes["aggregates"][0].get_xlabel() == "return\n1 common task"
    assert axes["environments"][0].get_ylabel() == "return"


def test_method_far_below_the_others_is_an_arrow_with_its_value_and_does_not_press_them_together():
    comparison = comparison_of([f"agent{k}" for k in range(9)])
    phase = comparison.phases["offline"]
    worst = ranking(comparison, phase)[-1]
    means = {name: cell.estimates["mean"] for name, cell in phase.aggregates.items()} | {worst: Estimate(0.011)}
    cells = {
        name: replace(cell, estimates=dict.fromkeys(("mean", "iqm"), means[name]))
        for name, cell in phase.aggregates.items()
    }
    comparison = replace(comparison, phases={"offline": replace(phase, aggregates=cells)})
    ax = plots.all_figures(comparison)["aggregates"].axes[0]
    assert ax.get_xlim()[0] > 15
    assert "1.1" in [text.get_text() for text in ax.texts]
    assert "<" in [line.get_marker() for line in ax.lines]


def test_the_legend_names_the_curves_of_a_panel_and_counts_the_rest():
    comparison = comparison_of([f"agent{k}" for k in range(9)], steps=((1000, "offline"),))
    (legend,) = plots.all_figures(comparison)["profiles"].legends
    named = named_methods(comparison, comparison.phases["offline"])
    assert {text.get_text() for text in legend.get_texts()} == {*named, "3 others"}


def test_single_run_with_formula_signs_in_its_name_gives_figures_of_returns():
    name = r"$\nonsense$_b"
    table = returns([name], environments=["Pendulum-v1"], steps=(1000,), seeds=1).assign(score=0.0)
    comparison = compare(own_methods([name]), table, NO_MEANS, reps=10, kind=RETURN)
    figures = plots.all_figures(comparison)
    for figure in figures.values():
        save(figure, io.BytesIO(), "svg")
        for ax in figure.axes:
            assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()


def test_offline_phase_is_shaded_and_the_online_curve_starts_where_it_ends():
    ax = plots.all_figures(comparison_of(["QAM"]))["sample_efficiency"].axes[0]
    offline, online = ax.lines
    assert list(offline.get_xdata()) == [1000, 2000]
    assert list(online.get_xdata()) == [2000, 3000]
    assert online.get_ydata()[0] == offline.get_ydata()[-1]
    assert ax.patches[0].get_width() == 2000


METHODS = ["A", "B", "C", "D"]


def labels(texts):
    return [text.get_text() for text in texts]


def shown(ax):
    """Return the numbers behind the colours of a matrix, NaN where there is none."""
    return np.ma.filled(ax.collections[0].get_array(), np.nan)


def test_pairs_that_are_clearly_different_have_a_strong_colour():
    scores = {"good": [1.0] * 8, "middle": [0.5, 0.52] * 4, "same": [0.52, 0.5] * 4}
    runs = pd.concat([scene_runs([values] * 5, name) for name, values in scores.items()])
    clear = compare(own_methods(scores), runs, NO_MEANS, reps=50)
    ax = plots.all_figures(clear)["pairs"].axes[0]
    assert labels(ax.get_yticklabels()) == labels(ax.get_xticklabels()) == ranking(clear)
    assert np.array_equal(shown(ax), [[np.nan, 100, 100], [0, np.nan, 50], [0, 50, np.nan]], equal_nan=True)
    assert {text.get_text(): text.get_color() for text in ax.texts} == {"100": "white", "0": "white", "50": QUIET}


def test_heat_map_has_the_mean_of_each_method_on_each_task_in_the_order_of_the_domains():
    table = evaluations(METHODS, tasks=4)
    lacking = (table["method"] == "B") & (table["environment"] == "scene-play-singletask-task2-v0")
    comparison = compare(own_methods(METHODS), table[~lacking], NO_MEANS, reps=20)
    ax = plots.all_figures(comparison)["heat_map"].axes[0]
    assert labels(ax.get_yticklabels()) == [
        "cube-double-play task1", "cube-double-play task2", "scene-play task1", "scene-play task2",
    ]  # fmt: skip
    phase = comparison.phases["offline"]
    means = [
        [100 * cells[name].estimates["mean"].point if name in cells else np.nan for name in ranking(comparison)]
        for cells in phase.per_task.values()
    ]
    assert np.allclose(shown(ax), means, atol=0.01, equal_nan=True)
    assert ax.yaxis_inverted()
    assert [text.get_text() for text in ax.texts[:2]] == [f"{value:.0f}" for value in means[0][:2]]


def test_returns_share_no_colours():
    assert "heat_map_return" not in plots.all_figures(comparison_of_returns(["A", "B"]))
