from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from tests.zoo.report.samples import (
    NO_RUNS,
    SCENE,
    comparison_of,
    comparison_of_returns,
    comparison_of_runs,
    evaluations,
    means_of_scene,
    own_methods,
    returns,
    runs_with_an_online_starter,
)
from zoo.report.comparison import ComparedMethod, ranking
from zoo.report.figures.context import axis_limits
from zoo.report.figures.files import FIGURE_SIZES, SHADE, file_of
from zoo.report.figures.plots import all_figures
from zoo.report.figures.styles import method_styles
from zoo.report.significance import decide
from zoo.runs.scores import RETURN

METHODS = ["A", "B", "C", "D"]


def figures_of(comparison, only="*", runs=NO_RUNS):
    """Return the figures whose names match a pattern: drawing is most of the work."""
    drawings = all_figures(comparison, runs, only=only)
    return {name: drawing.figure for name, drawing in drawings.items()}


def axes_of(comparison, name, **options):
    """Return the first panel of one figure."""
    (figure,) = figures_of(comparison, name, **options).values()
    return figure.axes[0]


def labels(texts):
    return [text.get_text() for text in texts]


def test_every_method_keeps_its_colour_in_every_figure():
    comparison = comparison_of(["QAM", "FQL"])
    figures = figures_of(comparison)
    expected = {style.colour for style in method_styles(comparison.methods).values()}
    for name in ("profiles_offline", "sample_efficiency_mean", "sample_efficiency_iqm", "domains"):
        assert {line.get_color() for line in figures[name].axes[0].lines} == expected, name
    bars = figures["aggregates_offline"].axes[0].patches
    assert {to_hex(bar.get_facecolor()) for bar in bars} == expected


def test_figures_of_returns_have_the_kind_in_their_name_and_each_environment_an_axis_of_its_own():
    figures = figures_of(comparison_of_returns(["SAC", "TD3"]))
    assert set(figures) == {
        "verdict_online_return",
        "improvement_online_return",
        "heat_map_online_return",
        "environments_return",
    }
    cheetah, pendulum = figures["environments_return"].axes
    assert cheetah.get_ylim()[0] > 0 > pendulum.get_ylim()[1]
    assert cheetah.get_ylabel() == "return"


def test_the_axis_of_a_probability_goes_from_0_to_1_and_its_title_breaks_a_name_between_its_parts():
    name = "_".join(["agent"] * 9)
    comparison = decide(comparison_of([name, "B"]), baseline=name)
    ax = axes_of(comparison, "improvement_offline")
    low, high = ax.get_xlim()
    assert low <= 0 < 1 <= high
    _, shown_name = ax.get_title().split("over")
    assert set(shown_name.replace("_", " ").split()) == {"agent"}


def test_the_interval_of_a_method_alone_is_whole():
    comparison = comparison_of(["QAM"])
    low, high = comparison.phases["offline"].aggregates["QAM"].estimates["mean"].interval
    ax = axes_of(comparison, "aggregates_offline")
    assert ax.get_xlim()[0] < 100 * low < 100 * high < ax.get_xlim()[1]


@pytest.mark.parametrize(
    ("values", "limits"), [([90], (45, 135)), ([0, 0], (-1, 1)), ([0, 9, 10], (-0.5, 10.5))]
)
def test_an_axis_holds_all_values_and_equal_ones_do_not_set_its_scale(values, limits):
    assert axis_limits(values, values) == pytest.approx(limits)


def test_lines_are_named_at_their_ends_in_their_order_without_covering_each_other():
    names = [f"agent{k}" for k in range(6)]
    ax = axes_of(comparison_of(names), "sample_efficiency_mean")
    ends = {line.get_color(): line.get_ydata()[-1] for line in ax.lines}
    heights = {text.get_color(): text.get_position()[1] for text in ax.texts}
    assert sorted(heights, key=heights.get) == sorted(ends, key=ends.get)
    line = FIGURE_SIZES["page"].inches(1) / FIGURE_SIZES["page"].panel[1]
    assert np.diff(sorted(heights.values())).min() >= line
    assert 0 <= min(heights.values()) < max(heights.values()) <= 1


def test_curves_are_drawn_where_the_focus_is_published_without_one():
    methods = {name: ComparedMethod(name, name, f"set of {name}") for name in "AM"}
    means = means_of_scene("M", "online")
    comparison = comparison_of_runs(evaluations("A"), means, methods, focus="M", baseline="M")
    ax = axes_of(comparison, "sample_efficiency_mean")
    assert len(ax.lines) == 1
    assert labels(ax.texts) == []


def test_captions_say_of_bands_shades_and_grey_lines_what_is_drawn():
    names = [f"agent{k}" for k in range(8)]
    marks = {}
    for seeds, phases in ((1, ("offline",)), (6, ("offline", "online"))):
        steps = [(1000 * (k + 1), phase) for k, phase in enumerate(phases)]
        comparison = comparison_of(names, steps=steps, seeds=seeds)
        (drawing,) = all_figures(comparison, NO_RUNS, only="sample_efficiency_mean").values()
        marks[seeds] = [note.partition(":")[0] for note in drawing.notes]
    assert marks == {1: ["Grey"], 6: ["Bands", "Shaded", "Grey"]}


def test_caption_of_a_verdict_does_not_call_its_wider_intervals_those_of_95_percent():
    comparison = decide(comparison_of(METHODS), focus="A")
    drawings = all_figures(comparison, NO_RUNS, only="*_offline")
    assert "exclude 0" in " ".join(drawings["verdict_offline"].notes)
    assert "Bars: 95% intervals." in drawings["aggregates_offline"].notes


def test_panel_above_an_empty_place_has_the_ticks_of_its_column(monkeypatch):
    monkeypatch.setitem(FIGURE_SIZES, "page", replace(FIGURE_SIZES["page"], wide=5.0))
    comparison = comparison_of_returns(["SAC"], environments=("Ant-v5", "Hopper-v5", "Walker-v5"))
    drawings = all_figures(comparison, NO_RUNS, FIGURE_SIZES["page"], only="environments")
    panels = drawings["environments_return"].figure.axes[:3]
    shown = [ax.xaxis.get_tick_params()["labelbottom"] for ax in panels]
    assert shown == [False, True, True]


def test_signs_of_a_formula_in_a_name_are_shown_as_they_are():
    name = r"$\nonsense$_b"
    table = returns([name], environments=["Pendulum-v1"], steps=(1000,), seeds=1).assign(score=0.0)
    comparison = comparison_of_runs(table, kind=RETURN)
    for drawing in all_figures(comparison, table).values():
        assert name in file_of(drawing.figure, "svg", "", "").decode()
        for ax in drawing.figure.axes:
            assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()


def test_offline_phase_is_shaded_and_the_online_curve_goes_on_from_it():
    comparison = comparison_of(["QAM"])
    ax = axes_of(comparison, "sample_efficiency_mean")
    (line,) = ax.lines
    assert list(line.get_xdata()) == [1000, 2000, 3000]
    curves = pd.concat([phase.curves for phase in comparison.phases.values()])
    means = curves.query("where == 'all' and metric == 'mean'")["value"]
    np.testing.assert_allclose(line.get_ydata(), 100 * means)
    (offline,) = ax.patches
    assert offline.get_width() == 2000
    assert to_hex(offline.get_facecolor()) == SHADE[0]


def steps_of_rlpd(ax):
    """Return the steps of RLPD's curve, beside QAM's."""
    colour = method_styles(own_methods(("QAM", "RLPD")))["RLPD"].colour
    (curve,) = [line for line in ax.lines if line.get_color() == colour]
    return list(curve.get_xdata())


@pytest.mark.parametrize("figure", ["sample_efficiency_mean", "domains"])
def test_axis_holds_a_method_that_starts_online_where_the_others_end(figure):
    ax = axes_of(comparison_of_runs(runs_with_an_online_starter()), figure)
    assert steps_of_rlpd(ax) == [2500, 3000]
    assert 3000 <= ax.get_xlim()[1] < 3100


@pytest.mark.parametrize(
    ("online_steps", "steps", "drawn"),
    [
        (4000, [2000, 4000], [4000, 6000]),  # none is before the end of the others' offline phase
        (2000, [3000, 4000], [3000, 4000]),  # published behind the others' offline phase
    ],
)
def test_steps_of_a_method_that_starts_online_are_moved_where_they_are_its_own(
    online_steps, steps, drawn
):
    qam = evaluations(["QAM"], steps=((2000, "offline"), (4000, "online")))
    rlpd = evaluations(["RLPD"], steps=[(step, "online") for step in steps])
    protocols = {SCENE[0]: {"online_steps": online_steps}}
    methods = {"RLPD": ComparedMethod("RLPD", "RLPD", "own", protocols)}
    comparison = comparison_of_runs(pd.concat([qam, rlpd]), methods=methods)
    assert steps_of_rlpd(axes_of(comparison, "sample_efficiency_mean")) == drawn


def shades_of(ax):
    """Return the numbers behind the colours of a map, NaN where there is none."""
    return np.ma.filled(ax.collections[0].get_array(), np.nan)


def test_heat_map_has_the_mean_of_each_method_on_each_task():
    table = evaluations(METHODS, tasks=6)
    lacking = (table["method"] == "B") & (table["environment"] == "scene-play-singletask-task2-v0")
    comparison = comparison_of_runs(table[~lacking])
    ax = axes_of(comparison, "heat_map_offline")
    rows = table[~lacking & (table["phase"] == "offline") & (table["step"] == 2000)]
    means = 100 * rows.pivot_table("score", "environment", "method")[ranking(comparison)]
    assert np.allclose(shades_of(ax), means, equal_nan=True)
    assert labels(ax.get_yticklabels())[:2] == ["cube-double-play task1", "cube-double-play task2"]
    assert labels(ax.texts)[:2] == [f"{value:.0f}" for value in means.iloc[0, :2]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", FIGURE_SIZES)
def test_a_map_has_room_for_long_names_of_environments(size):
    names = [f"Some-Long-Environment-Name-That-Goes-On-And-On-v{k}" for k in range(2)]
    comparison = comparison_of_runs(returns(["A", "B"], names), kind=RETURN)
    drawings = all_figures(comparison, NO_RUNS, FIGURE_SIZES[size], only="heat_map_*")
    (figure,) = [drawing.figure for drawing in drawings.values()]
    file_of(figure, "svg", "Map", "")
    panel = figure.axes[0].get_position()
    assert panel.width * figure.get_figwidth() > 0.5


def test_colours_of_returns_lie_between_the_worst_and_the_best_method_of_a_task():
    ax = axes_of(comparison_of_returns(["A", "B", "C"]), "heat_map_online")
    shades = shades_of(ax)  # tasks by methods
    assert shades.min(axis=1).tolist() == [0, 0]
    assert shades.max(axis=1).tolist() == [1, 1]


def test_runs_are_drawn_one_by_one_if_they_are_own_and_numpy_goes_on_as_before():
    table = evaluations(METHODS, tasks=2)
    table.loc[table["method"] == "A", "source"] = "a_set"
    comparison = comparison_of_runs(table, methods={"A": ComparedMethod("A", "A", "a_set")})
    state = np.random.get_state()[1].copy()
    ax = axes_of(comparison, "runs_offline", runs=table)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    offsets = np.concatenate([points.get_offsets() for points in ax.collections])
    assert len(offsets) == 3 * 2 * 6  # methods, tasks, seeds
    assert set(labels(ax.get_yticklabels())) == {"B", "C", "D"}


def test_published_means_alone_are_drawn_without_a_panel_of_iqms():
    comparison = comparison_of_runs(NO_RUNS, means_of_scene("AB"))
    assert len(figures_of(comparison)["aggregates_offline"].axes) == 1


def test_heat_map_tells_small_returns_apart():
    table = returns(["A", "B"], environments=("Pendulum-v1", "HalfCheetah-v5"))
    small = table["environment"] == "Pendulum-v1"
    table.loc[small, "score"] = np.where(table.loc[small, "method"] == "A", 0.25, 0.75)
    comparison = comparison_of_runs(table, kind=RETURN)
    texts = labels(axes_of(comparison, "heat_map_online").texts)
    assert {text for text in texts if "." in text} == {"0.25", "0.75"}
