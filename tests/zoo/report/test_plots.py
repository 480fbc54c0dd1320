import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from zoo.report import plots
from zoo.report.comparison import MEAN_COLUMNS, Method, compare
from zoo.report.styles import method_styles
from zoo.runs.scores import NORMALISED_RETURN, RETURN


def evaluations(methods, steps=((1000, "offline"), (2000, "offline"), (3000, "online")), seeds=6, tasks=2):
    """Return random evaluations of methods on tasks of two domains."""
    random = np.random.RandomState(0)
    rows = []
    for method in methods:
        for task in range(tasks):
            domain = ("scene-play", "cube-double-play")[task % 2]
            environment = f"{domain}-singletask-task{task // 2 + 1}-v0"
            for seed in range(seeds):
                for step, phase in steps:
                    count = random.randint(0, 51)
                    about = {"method": method, "environment": environment, "domain": domain, "seed": seed}
                    about |= {"phase": phase, "step": step, "successes": count, "episodes": 50, "kind": "success"}
                    rows.append(about | {"score": count / 50, "source": "own", "run": f"{method}/{task}/{seed}"})
    return pd.DataFrame(rows)


def returns(methods, environments=("HalfCheetah-v5", "Pendulum-v1"), steps=(1000, 2000), seeds=6):
    """Return evaluations by return: around 5,000 in the first environment, around -1,000 in the second."""
    random = np.random.RandomState(1)
    rows = []
    for method in methods:
        for environment in environments:
            middle, spread = (5000.0, 500.0) if environment == "HalfCheetah-v5" else (-1000.0, 100.0)
            for seed in range(seeds):
                for step in steps:
                    about = {"method": method, "environment": environment, "domain": environment, "seed": seed}
                    about |= {"phase": "online", "step": step, "episodes": 10, "kind": "return", "source": "own"}
                    rows.append(about | {"score": middle + spread * random.randn(), "run": f"{method}/{seed}"})
    return pd.DataFrame(rows)


def comparison_of_returns(methods, kind=RETURN, **options):
    known = {name: Method(name, name, "own") for name in methods}
    return compare(known, returns(methods, **options), pd.DataFrame(columns=MEAN_COLUMNS), reps=50, kind=kind)


def comparison_of(methods, **options):
    known = {name: Method(name, name, "own") for name in methods}
    return compare(known, evaluations(methods, **options), pd.DataFrame(columns=MEAN_COLUMNS), reps=50)


@pytest.fixture
def figures():
    made = {}
    yield made
    plots.close(made.values())


def test_profile_lines_all_have_the_width_of_their_method(figures):
    comparison = comparison_of(["QAM", "FQL", "BAM"])
    looks = method_styles(comparison.methods)
    figures["profiles"] = figure = plots.plot_profiles(comparison, looks)
    widths = {line.get_linewidth() for ax in figure.axes for line in ax.lines}
    assert widths == {looks["QAM"].line["linewidth"]}


def test_every_method_keeps_its_colour_in_every_figure(figures):
    comparison = comparison_of(["QAM", "FQL"])
    looks = method_styles(comparison.methods)
    figures |= plots.all_figures(comparison, "QAM")
    expected = {looks[name].colour for name in ("QAM", "FQL")}
    for name in ("profiles", "sample_efficiency", "domains"):
        assert {line.get_color() for line in figures[name].axes[0].lines} == expected, name
    bars = {patch.get_facecolor()[:3] for ax in figures["aggregates"].axes for patch in ax.patches}
    assert bars == {to_rgb(colour) for colour in expected}


def test_no_difference_is_marked_at_a_half_and_at_zero(figures):
    comparison = comparison_of(["QAM", "FQL"])
    figures["improvement"] = figure = plots.plot_improvement(comparison, method_styles(comparison.methods), "QAM")
    marks = [line.get_xdata()[0] for ax in figure.axes[:2] for line in ax.lines if line.get_linestyle() == ":"]
    assert marks == [0.5, 0.0]
    assert figure.axes[0].get_xlim() == (0, 1)


def test_bars_of_intervals_keep_a_distance_from_the_axes(figures):
    comparison = comparison_of(["QAM", "FQL", "BAM"])
    figures["improvement"] = figure = plots.plot_improvement(comparison, method_styles(comparison.methods), "QAM")
    figures["aggregates"] = plots.plot_aggregates(comparison, method_styles(comparison.methods))
    for ax in [figure.axes[1], *figures["aggregates"].axes]:
        left, right = ax.get_xlim()
        for bar in ax.patches:
            assert left < bar.get_x()
            assert bar.get_x() + bar.get_width() < right


def test_offline_phase_is_shaded_and_the_online_curve_starts_where_it_ends(figures):
    comparison = comparison_of(["QAM"])
    figures["curve"] = figure = plots.plot_sample_efficiency(comparison, method_styles(comparison.methods))
    ax = figure.axes[0]
    assert {text.get_text().strip() for text in ax.texts} == {"offline", "online"}
    offline, online = ax.lines
    assert offline.get_xdata().tolist() == [1000, 2000]
    assert online.get_xdata().tolist() == [2000, 3000]
    assert online.get_ydata()[0] == offline.get_ydata()[-1]


def test_method_that_starts_online_is_drawn_from_the_border(figures):
    runs = pd.concat([evaluations(["QAM"]), evaluations(["RLPD"], steps=((500, "online"), (1000, "online")))])
    methods = {name: Method(name, name, "own") for name in ("QAM", "RLPD")}
    comparison = compare(methods, runs, pd.DataFrame(columns=MEAN_COLUMNS), reps=20)
    figures["curve"] = figure = plots.plot_sample_efficiency(comparison, method_styles(methods))
    drawn = [line.get_xdata().tolist() for line in figure.axes[0].lines]
    assert [2500, 3000] in drawn


def test_single_evaluation_is_drawn_as_a_marker_with_its_interval(figures):
    comparison = comparison_of(["QAM"], steps=((1000, "offline"),))
    figures["curve"] = figure = plots.plot_sample_efficiency(comparison, method_styles(comparison.methods))
    (line,) = figure.axes[0].lines
    assert line.get_marker() == "o"
    assert len(figure.axes[0].collections) >= 1


def test_single_seed_gives_figures_without_bands(figures):
    figures |= plots.all_figures(comparison_of(["QAM", "FQL"], seeds=1), "QAM")
    assert set(figures) == {"aggregates", "profiles", "improvement", "sample_efficiency", "domains"}
    assert not figures["profiles"].axes[0].collections


def test_published_means_alone_give_the_figure_of_aggregates_only(figures):
    rows = [("TRQAM", "offline", 1000, "scene-play", "scene-play", 0.8, 0.1, 8)]
    means = pd.DataFrame(rows, columns=MEAN_COLUMNS)
    methods = {"TRQAM": Method("TRQAM", "TRQAM", "trqam2026")}
    figures |= plots.all_figures(compare(methods, evaluations(["x"]).iloc[:0], means, reps=10), "TRQAM")
    assert set(figures) == {"aggregates"}


def test_names_with_formula_signs_are_drawn_as_they_are(figures):
    figures |= plots.all_figures(comparison_of([r"$\nonsense$", "a_b"]), r"$\nonsense$")
    for figure in figures.values():
        plots.save(figure, io.BytesIO(), "svg")


def test_same_figure_gives_the_same_bytes(figures):
    texts = []
    for _ in range(2):
        made = plots.all_figures(comparison_of(["QAM", "FQL"]), "QAM")
        buffer = io.BytesIO()
        plots.save(made["profiles"], buffer, "svg")
        plots.close(made.values())
        texts.append(buffer.getvalue())
    assert texts[0] == texts[1]


def test_figures_of_returns_have_the_kind_in_their_name_and_on_their_axes(figures):
    figures |= plots.all_figures(comparison_of_returns(["SAC", "TD3"], environments=["Pendulum-v1"]), "SAC")
    names = {"aggregates", "profiles", "improvement", "sample_efficiency", "environments"}
    assert set(figures) == {f"{name}_return" for name in names}
    assert figures["aggregates_return"].axes[0].get_xlabel() == "return"
    assert figures["aggregates_return"].axes[0].get_title() == "online mean\nreturn"
    assert figures["profiles_return"].axes[0].get_title() == "online, 2,000 steps, return"
    assert figures["improvement_return"].axes[1].get_xlabel() == "difference of means (return)"
    assert figures["sample_efficiency_return"].axes[0].get_title(loc="left") == "mean, return"
    assert figures["environments_return"].axes[0].get_ylabel() == "return"


def test_returns_of_several_environments_have_only_the_figures_that_need_no_average(figures):
    figures |= plots.all_figures(comparison_of_returns(["SAC", "TD3"]), "SAC")
    assert set(figures) == {"improvement_return", "environments_return"}
    (chance,) = figures["improvement_return"].axes
    assert chance.get_xlim() == (0, 1)


def test_returns_are_drawn_as_they_are_each_environment_on_an_axis_of_its_own(figures):
    comparison = comparison_of_returns(["SAC", "TD3"])
    figures["environments"] = figure = plots.plot_domains(comparison, method_styles(comparison.methods))
    cheetah, pendulum = figure.axes[:2]
    assert (cheetah.get_title(), pendulum.get_title()) == ("HalfCheetah-v5", "Pendulum-v1")
    for ax, environment in ((cheetah, "HalfCheetah-v5"), (pendulum, "Pendulum-v1")):
        curve = comparison.phases["online"].domain_curves[environment]["SAC"]
        assert ax.lines[0].get_ydata().tolist() == curve.mean.points.tolist()
    assert 3000 < cheetah.get_ylim()[0] < cheetah.get_ylim()[1] < 7000
    assert -1500 < pendulum.get_ylim()[0] < pendulum.get_ylim()[1] < -500


def test_bands_of_two_seeds_do_not_press_the_curves_flat(figures):
    comparison = comparison_of_returns(["SAC", "TD3"], seeds=2)
    figures["environments"] = figure = plots.plot_domains(comparison, method_styles(comparison.methods))
    for ax, environment in zip(figure.axes, ("HalfCheetah-v5", "Pendulum-v1"), strict=False):
        curves = comparison.phases["online"].domain_curves[environment].values()
        points = np.concatenate([curve.mean.points for curve in curves])
        low, high = ax.get_ylim()
        assert low < points.min()
        assert points.max() < high
        assert high - low < 3.5 * np.ptp(points) < np.ptp([curve.mean.bounds for curve in curves])


def test_profiles_of_returns_fall_from_one_to_zero_inside_the_axis(figures):
    comparison = comparison_of_returns(["SAC", "TD3"], kind=NORMALISED_RETURN)
    looks = method_styles(comparison.methods)
    figures["profiles"] = figure = plots.plot_profiles(comparison, looks)
    (ax,) = figure.axes
    low, high = ax.get_xlim()
    for line in ax.lines:
        assert (line.get_ydata()[0], line.get_ydata()[-1]) == (1.0, 0.0)
        assert (line.get_xdata()[0], line.get_xdata()[-1]) == (low, high)


def test_single_run_gives_figures_of_returns(figures):
    table = returns(["SAC"], environments=["Pendulum-v1"], steps=(1000,), seeds=1).assign(score=0.0)
    methods = {"SAC": Method("SAC", "SAC", "own")}
    comparison = compare(methods, table, pd.DataFrame(columns=MEAN_COLUMNS), reps=10, kind=RETURN)
    figures |= plots.all_figures(comparison, "SAC")
    for figure in figures.values():
        plots.save(figure, io.BytesIO(), "svg")
        for ax in figure.axes:
            assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()
