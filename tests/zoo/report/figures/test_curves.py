import numpy as np
import pytest

from tests.zoo.report.samples import (
    NO_MEANS,
    comparison_of,
    comparison_of_returns,
    own_methods,
    runs_with_an_online_starter,
)
from zoo.report.compute import compare
from zoo.report.figures import curves as curve_plots


def test_offline_phase_is_shaded_and_the_online_curve_starts_where_it_ends():
    comparison = comparison_of(["QAM"])
    figure = curve_plots.plot_sample_efficiency(comparison)
    ax = figure.axes[0]
    assert {text.get_text().strip() for text in ax.texts} == {"offline", "online", "QAM"}
    offline, online = ax.lines
    assert offline.get_xdata().tolist() == [1000, 2000]
    assert online.get_xdata().tolist() == [2000, 3000]
    assert online.get_ydata()[0] == offline.get_ydata()[-1]


@pytest.mark.parametrize("others_go_online", [True, False])
def test_method_that_starts_online_is_drawn_from_the_border_and_inside_the_axes(others_go_online):
    runs = runs_with_an_online_starter(others_go_online)
    comparison = compare(own_methods(("QAM", "RLPD")), runs, NO_MEANS, reps=20)
    for plot in (curve_plots.plot_sample_efficiency, curve_plots.plot_domains):
        ax = plot(comparison).axes[0]
        assert [2500, 3000] in [line.get_xdata().tolist() for line in ax.lines]
        assert ax.get_xlim()[1] >= 3000


def test_bands_of_two_seeds_do_not_press_the_curves_flat():
    comparison = comparison_of_returns(["SAC", "TD3"], seeds=2)
    figure = curve_plots.plot_domains(comparison)
    for ax, environment in zip(figure.axes, ("HalfCheetah-v5", "Pendulum-v1"), strict=False):
        curves = comparison.phases["online"].domain_curves[environment].values()
        points = np.concatenate([curve.mean.points for curve in curves])
        low, high = ax.get_ylim()
        assert low < points.min()
        assert points.max() < high
        assert high - low < 3.5 * np.ptp(points) < np.ptp([curve.mean.bounds for curve in curves])
