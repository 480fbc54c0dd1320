import io
from dataclasses import replace

import numpy as np

from tests.zoo.report.samples import NO_MEANS, comparison_of, comparison_of_returns, own_methods, returns
from zoo.report.comparison import ranking
from zoo.report.compute import compare
from zoo.report.figures import curves as curve_plots
from zoo.report.figures import plots
from zoo.report.figures.drawing import plot_panels, save
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


def test_no_difference_is_marked_at_a_half_and_at_zero():
    comparison = comparison_of(["QAM", "FQL"])
    figure = plots.plot_improvement(comparison)
    marks = [line.get_xdata()[0] for ax in figure.axes[:2] for line in ax.lines if line.get_linestyle() == ":"]
    assert marks == [0.5, 0.0]
    assert figure.axes[0].get_xlim() == (0, 1)


def test_panels_of_one_phase_and_unit_share_their_axis():
    comparison = comparison_of(["QAM", "FQL", "BAM"])
    offline, iqm, online, _ = (ax.get_xlim() for ax in plot_panels(plots.aggregate_panels(comparison), comparison).axes)
    assert offline == iqm != online
    chance, difference, later_chance, later_difference = plots.plot_improvement(comparison).axes
    assert chance.get_xlim() == later_chance.get_xlim() == (0, 1)
    assert 0 < difference.get_xlim()[1] != later_difference.get_xlim()[1]
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in curve_plots.plot_domains(comparison).axes}) == 1


def test_single_seed_gives_figures_without_bands():
    figures = plots.all_figures(comparison_of(["QAM", "FQL"], seeds=1))
    names = {"verdict", "aggregates", "profiles", "improvement", "sample_efficiency", "domains", "heat_map"}
    assert set(figures) == names
    assert not figures["profiles"].axes[0].collections


def test_names_with_formula_signs_are_drawn_as_they_are():
    figures = plots.all_figures(comparison_of([r"$\nonsense$", "a_b"]))
    for figure in figures.values():
        save(figure, io.BytesIO(), "svg")


def test_figures_of_returns_have_the_kind_in_their_name_and_on_their_axes():
    figures = plots.all_figures(comparison_of_returns(["SAC", "TD3"], environments=["Pendulum-v1"]))
    names = {"verdict", "aggregates", "profiles", "improvement", "sample_efficiency", "environments"}
    assert set(figures) == {f"{name}_return" for name in names}
    assert figures["aggregates_return"].axes[0].get_xlabel() == "return\n1 common task"
    assert figures["aggregates_return"].axes[0].get_title() == "online, mean, return"
    assert figures["profiles_return"].axes[0].get_title() == "online, 2,000 steps, return"
    ax = figures["improvement_return"].axes[1]
    assert (ax.get_title(), ax.get_xlabel()) == ("online, difference of means", "return")
    assert figures["sample_efficiency_return"].axes[0].get_title(loc="left") == "mean, return"
    assert figures["environments_return"].axes[0].get_ylabel() == "return"


def test_method_far_below_the_others_is_an_arrow_with_its_value_and_does_not_press_them_together():
    comparison = comparison_of([f"agent{k}" for k in range(9)])
    phase = comparison.phases["offline"]
    worst = ranking(comparison, phase)[-1]
    cells = {name: replace(cell, estimates={"mean": cell.estimates["mean"], "iqm": cell.estimates["mean"]})
             for name, cell in phase.aggregates.items()}  # fmt: skip
    cells[worst] = replace(cells[worst], estimates={"mean": Estimate(0.011), "iqm": Estimate(0.011)})
    comparison = replace(comparison, phases={"offline": replace(phase, aggregates=cells)})
    ax = plot_panels(plots.aggregate_panels(comparison), comparison).axes[0]
    assert ax.get_xlim()[0] > 15
    assert "1.1" in [text.get_text() for text in ax.texts]
    assert "<" in [line.get_marker() for line in ax.lines]


def test_curves_are_labelled_at_their_ends_and_the_rest_is_counted():
    comparison = comparison_of([f"agent{k}" for k in range(9)])
    ax = plots.plot_profiles(comparison).axes[0]
    named = named_methods(comparison, comparison.phases["offline"])
    places = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert set(places) == {*named, "3 others"}
    assert np.diff(sorted(places.values())).min() > 0.03


def test_single_run_gives_figures_of_returns():
    table = returns(["SAC"], environments=["Pendulum-v1"], steps=(1000,), seeds=1).assign(score=0.0)
    methods = own_methods(["SAC"])
    comparison = compare(methods, table, NO_MEANS, reps=10, kind=RETURN)
    figures = plots.all_figures(comparison)
    for figure in figures.values():
        save(figure, io.BytesIO(), "svg")
        for ax in figure.axes:
            assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()
