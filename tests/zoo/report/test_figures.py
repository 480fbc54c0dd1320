"""Figures show the numbers of a comparison, with one colour per method."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

from tests.zoo.report.samples import (
    comparison_of,
    comparison_of_returns,
    comparison_of_runs,
    evaluations,
    means_of_scene,
    returns,
    scene_runs,
)
from zoo.report.comparison import ComparedMethod
from zoo.report.figures import COLOURS, all_figures, to_file
from zoo.runs.scores import RETURN


def drawing_of(comparison, name):
    """Draw a single figure, because drawing all figures is slow."""
    (drawing,) = all_figures(comparison, only=name).values()
    return drawing


def axes_of(comparison, name):
    """Return the first panel of a single figure."""
    return drawing_of(comparison, name).figure.axes[0]


@pytest.mark.filterwarnings("error:constrained_layout")  # a long name leaves space for lines
def test_figures_of_success():
    runs = evaluations(["A", "B" + " long" * 160])
    of_phases = ("verdict", "aggregates", "improvement", "profiles", "heat_map")
    expected = {f"{name}_{phase}" for name in of_phases for phase in ("offline", "online")}
    drawn = all_figures(comparison_of_runs(runs))
    assert set(drawn) == expected | {"sample_efficiency", "domains"}


def test_returns_have_an_axis_for_each_environment():
    figures = all_figures(comparison_of_returns(["SAC", "TD3"]))
    assert set(figures) == {"improvement_online_return", "environments_return"}
    cheetah, pendulum = figures["environments_return"].figure.axes
    assert cheetah.get_ylim()[0] > 0 > pendulum.get_ylim()[1]
    assert cheetah.get_ylabel() == "return"
    improvement = figures["improvement_online_return"].figure.axes[0]
    assert improvement.patches[0].get_x() > improvement.get_xlim()[0]
    large = returns(["SAC", "TD3"], ["HalfCheetah-v5"], seeds=1).assign(score=2e6)
    drawing = drawing_of(comparison_of_runs(large, kind=RETURN), "aggregates_online")
    assert drawing.figure.axes[0].xaxis.get_major_formatter()(1_500_000) == "1.5M"
    assert ", 1 seed." in drawing.caption


def test_curves_and_profiles_have_the_comparisons_numbers():
    comparison = comparison_of(["A", "B"])
    curves = axes_of(comparison, "sample_efficiency")
    phase = comparison.phases["offline"]
    colours = {}
    for line in curves.lines:
        points = phase.curves.query(f"where == 'all' and method == '{line.get_label()}'")
        assert line.get_ydata()[: len(points)] == pytest.approx(100 * points["value"])
        colours[line.get_label()] = line.get_color()
    assert len({*colours.values()}) == 2
    for line in axes_of(comparison, "profiles_offline").lines:
        points = phase.profiles[phase.profiles["method"] == line.get_label()]
        assert line.get_xdata() == pytest.approx(100 * points["tau"])
        assert line.get_ydata() == pytest.approx(points["fraction"])
        assert line.get_color() == colours[line.get_label()]


def test_lines_show_the_focus_own_methods_and_the_best():
    names = [f"agent{k}" for k in range(len(COLOURS) + 2)]
    means = means_of_scene([f"mean{k}" for k in range(12)]).assign(score=0.9)  # which have no lines
    methods = {name: ComparedMethod(name, "a_set") for name in [*names, *means["method"]]}
    methods[names[1]] = ComparedMethod(names[1], "own")
    worst = evaluations(names)
    worst.loc[worst["method"].isin(names[:2]), "score"] = 0.0
    comparison = comparison_of_runs(worst, means, methods, focus=names[0])
    drawing = drawing_of(comparison, "sample_efficiency")
    shown = [line.get_label() for line in drawing.figure.axes[0].lines]
    assert len(shown) == len(COLOURS)
    assert shown[:2] == names[:2]
    assert f"{len(COLOURS)} of {len(names)} methods" in drawing.caption
    assert "Grey: methods left out" in drawing_of(comparison, "improvement_offline").caption


def test_two_seeds_have_no_band():
    runs = evaluations("A", seeds=3)
    runs = runs[(runs["domain"] != "scene-play") | (runs["seed"] < 2)]
    drawing = drawing_of(comparison_of_runs(runs), "domains")
    has_band = [any(band.get_paths() for band in ax.collections) for ax in drawing.figure.axes]
    assert has_band == [True, False]
    assert " Shaded: the offline phase. At least 2 seeds per task. Bands: " in drawing.caption


def test_domain_without_a_coloured_method_is_left_out():
    names = [f"{k:02}" for k in range(11)]
    runs = evaluations(names)
    runs = runs[(runs["method"] == names[-1]) == (runs["domain"] == "scene-play")]
    assert "10 of 11 methods" in drawing_of(comparison_of_runs(runs), "domains").caption


def test_best_methods_of_each_phase_have_colours():
    early = [f"offline{k}" for k in range(len(COLOURS))]
    late = [f"online{k}" for k in range(len(COLOURS))]
    offline = evaluations(early, steps=((500, "offline"), (1000, "offline")))
    online = evaluations(late, steps=((500, "online"), (1000, "online")))
    comparison = comparison_of_runs(pd.concat([offline, online]))
    for phase in ("offline", "online"):
        assert len(axes_of(comparison, f"profiles_{phase}").lines) == len(COLOURS) / 2


@pytest.mark.parametrize(
    ("name", "field", "scale"), [("verdict", "difference", 100), ("improvement", "probability", 1)]
)
def test_bars_are_the_intervals_of_the_verdicts(name, field, scale):
    comparison = comparison_of(["A", "B", "C"])
    ax = axes_of(comparison, f"{name}_offline")
    verdicts = comparison.phases["offline"].decision.verdicts
    intervals = [getattr(verdict, field).interval for verdict in verdicts]
    drawn = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches[::-1]]
    assert np.array(drawn) == pytest.approx(scale * np.array(intervals))


def test_a_bar_is_beside_its_method_in_every_panel():
    comparison = comparison_of_runs(scene_runs([[0.2]]), means_of_scene("AB"))  # which have no IQM
    mean, iqm = drawing_of(comparison, "aggregates_offline").figure.axes
    assert mean.get_ylim() == iqm.get_ylim()


def test_a_caption_counts_the_seeds_of_its_methods_on_the_common_tasks():
    runs = pd.concat([scene_runs([[0.2] * 6, [0.2]], "A"), scene_runs([[0.4] * 5], "B")])
    comparison = comparison_of_runs(runs, means_of_scene("C"))  # of three seeds
    assert "3 to 6 seeds" in drawing_of(comparison, "aggregates_offline").caption
    caption = drawing_of(comparison, "verdict_offline").caption
    assert "5 to 6 seeds, with 95% t-intervals" in caption
    assert "Grey" not in caption


@pytest.mark.parametrize(
    ("source", "start", "expected"),
    [("own", 2000, [4000, 5000]), ("a_set", 500, [2500, 3500]), ("a_set", 2500, [2500, 3500])],
)
def test_method_that_starts_online_begins_where_others_go_online(source, start, expected):
    steps = ((1000, "offline"), (2000, "offline"), (2500, "online"))
    late = evaluations(["RLPD"], steps=((start, "online"), (start + 1000, "online")))
    runs = pd.concat([evaluations(["QAM"], steps), late])
    methods = {"RLPD": ComparedMethod("RLPD", source)}
    ax = axes_of(comparison_of_runs(runs, methods=methods), "domains")
    steps_of = {line.get_label(): list(line.get_xdata()) for line in ax.lines}
    assert steps_of["RLPD"] == expected


def test_names_may_have_signs_of_formulas(monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)  # a matplotlibrc may contain this
    name = r"_$\nonsense$"
    table = returns([name], environments=["Pendulum-v1"], seeds=2)
    drawings = all_figures(comparison_of_runs(table, kind=RETURN))
    assert "sample_efficiency_return" in drawings
    for drawing in drawings.values():
        for kind in ("png", "pdf"):
            assert to_file(drawing.figure, kind) == to_file(drawing.figure, kind)


def test_heat_map_has_a_cell_for_each_method_and_task():
    runs = pd.concat([scene_runs([[0.0], [1.0]], "A"), scene_runs([[0.5]], "B")])
    of_domain = means_of_scene("C").assign(environment="scene-play")  # no mean of a task
    ax = axes_of(comparison_of_runs(runs, of_domain), "heat_map_offline")
    texts = [text.get_text() for text in [*ax.get_xticklabels(), *ax.texts]]
    assert texts == ["B", "A", "50", "0", "100"]
