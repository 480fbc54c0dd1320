import io

import numpy as np
from matplotlib.colors import to_rgb

from tests.zoo.report.samples import NO_MEANS, comparison_of, comparison_of_returns, own_methods, returns
from zoo.report.compute import compare
from zoo.report.figures import curves as curve_plots
from zoo.report.figures import plots
from zoo.report.figures.drawing import save
from zoo.report.figures.styles import method_styles
from zoo.runs.scores import RETURN


def test_every_method_keeps_its_colour_in_every_figure():
    comparison = comparison_of(["QAM", "FQL"])
    looks = method_styles(comparison.methods)
    figures = plots.all_figures(comparison, "QAM")
    expected = {looks[name].colour for name in ("QAM", "FQL")}
    for name in ("profiles", "sample_efficiency", "domains"):
        assert {line.get_color() for line in figures[name].axes[0].lines} == expected, name
    bars = {patch.get_facecolor()[:3] for ax in figures["aggregates"].axes for patch in ax.patches}
    assert bars == {to_rgb(colour) for colour in expected}


def test_no_difference_is_marked_at_a_half_and_at_zero():
    comparison = comparison_of(["QAM", "FQL"])
    figure = plots.plot_improvement(comparison, "QAM")
    marks = [line.get_xdata()[0] for ax in figure.axes[:2] for line in ax.lines if line.get_linestyle() == ":"]
    assert marks == [0.5, 0.0]
    assert figure.axes[0].get_xlim() == (0, 1)


def test_panels_of_one_unit_share_their_axis():
    comparison = comparison_of(["QAM", "FQL", "BAM"])
    assert len({ax.get_xlim() for ax in plots.plot_aggregates(comparison).axes}) == 1
    chance, difference, later_chance, later_difference = plots.plot_improvement(comparison, "QAM").axes
    assert chance.get_xlim() == later_chance.get_xlim() == (0, 1)
    assert difference.get_xlim() == later_difference.get_xlim()
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in curve_plots.plot_domains(comparison).axes}) == 1


def test_single_seed_gives_figures_without_bands():
    figures = plots.all_figures(comparison_of(["QAM", "FQL"], seeds=1), "QAM")
    assert set(figures) == {"aggregates", "profiles", "improvement", "sample_efficiency", "domains", "heat_map"}
    assert not figures["profiles"].axes[0].collections


def test_names_with_formula_signs_are_drawn_as_they_are():
    figures = plots.all_figures(comparison_of([r"$\nonsense$", "a_b"]), r"$\nonsense$")
    for figure in figures.values():
        save(figure, io.BytesIO(), "svg")


def test_figures_of_returns_have_the_kind_in_their_name_and_on_their_axes():
    figures = plots.all_figures(comparison_of_returns(["SAC", "TD3"], environments=["Pendulum-v1"]), "SAC")
    names = {"aggregates", "profiles", "improvement", "sample_efficiency", "environments"}
    assert set(figures) == {f"{name}_return" for name in names}
    assert figures["aggregates_return"].axes[0].get_xlabel() == "return\n1 common task"
    assert figures["aggregates_return"].axes[0].get_title() == "online mean\nreturn"
    assert figures["profiles_return"].axes[0].get_title() == "online, 2,000 steps, return"
    assert figures["improvement_return"].axes[1].get_xlabel() == "difference of means (return)"
    assert figures["sample_efficiency_return"].axes[0].get_title(loc="left") == "mean, return"
    assert figures["environments_return"].axes[0].get_ylabel() == "return"


def test_single_run_gives_figures_of_returns():
    table = returns(["SAC"], environments=["Pendulum-v1"], steps=(1000,), seeds=1).assign(score=0.0)
    methods = own_methods(["SAC"])
    comparison = compare(methods, table, NO_MEANS, reps=10, kind=RETURN)
    figures = plots.all_figures(comparison, "SAC")
    for figure in figures.values():
        save(figure, io.BytesIO(), "svg")
        for ax in figure.axes:
            assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()
