import io
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from zoo.evaluation import plots
from zoo.evaluation.comparison import MEAN_COLUMNS, Method, compare
from zoo.published import published_names

# Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009), the
# matrices of severity 1.0, applied to linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "no red cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(colour):
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(colour, deficiency):
    """Return CIE L*a*b* (white D65) of a colour as someone sees it."""
    seen = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear(colour), 0, 1)
    ratio = TO_XYZ @ seen / [0.95047, 1.0, 1.08883]
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


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
                    about |= {"phase": phase, "step": step, "successes": count, "episodes": 50, "score": count / 50}
                    rows.append(about | {"source": "own", "run": f"{method}/{task}/{seed}"})
    return pd.DataFrame(rows)


def comparison_of(methods, **options):
    known = {name: Method(name, name, "own") for name in methods}
    return compare(known, evaluations(methods, **options), pd.DataFrame(columns=MEAN_COLUMNS), reps=50)


@pytest.fixture
def figures():
    made = {}
    yield made
    plots.close(made.values())


def test_every_algorithm_of_the_zoo_has_a_style_of_its_own():
    styles = plots.algorithm_styles()
    assert set(published_names()) <= set(styles)
    assert len({colour for colour, _ in styles.values()}) == len(styles)


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_colours_of_one_dash_pattern_stay_far_apart(deficiency):
    for (name, (a, dash_a)), (other, (b, dash_b)) in combinations(plots.algorithm_styles().items(), 2):
        distance = np.linalg.norm(lab(a, deficiency) - lab(b, deficiency))
        assert distance > (20 if dash_a == dash_b else 9), (name, other)


def test_colours_of_all_patterns_are_far_apart_for_most_readers():
    distances = [
        np.linalg.norm(lab(a, "none") - lab(b, "none"))
        for (a, _), (b, _) in combinations(plots.algorithm_styles().values(), 2)
    ]
    assert min(distances) > 20


def test_colours_are_dark_enough_for_white_paper():
    for name, (colour, _) in plots.algorithm_styles().items():
        luminance = TO_XYZ[1] @ linear(colour)
        assert 1.05 / (luminance + 0.05) > 2, name  # contrast ratio of WCAG 2


def test_style_of_an_algorithm_does_not_depend_on_the_others():
    few = plots.styles({"QAM": Method("QAM", "QAM", "qam2026")})
    many = plots.styles({name: Method(name, name, "qam2026") for name in ("BAM", "FQL", "QAM", "other")})
    assert few["QAM"] == many["QAM"]


def test_own_and_published_runs_of_an_algorithm_share_colour_and_dash_but_not_width():
    styles = plots.styles({"qam": Method("qam", "QAM", "own"), "QAM": Method("QAM", "QAM", "qam2026")})
    assert (styles["qam"].colour, styles["qam"].dash) == (styles["QAM"].colour, styles["QAM"].dash)
    assert styles["qam"].line["linewidth"] > styles["QAM"].line["linewidth"]


def test_variants_and_unknown_algorithms_take_colours_that_nobody_has():
    methods = {"qam": "QAM", "qam (big)": "QAM", "fql": "FQL", "my_agent": "my_agent"}
    styles = plots.styles({name: Method(name, algorithm, "own") for name, algorithm in methods.items()})
    assert len({style.colour for style in styles.values()}) == 4


def test_more_methods_than_spare_styles_still_have_one():
    names = [f"agent{k}" for k in range(50)]
    assert len(plots.styles({name: Method(name, name, "own") for name in names})) == 50


def test_profile_lines_all_have_the_width_of_their_method(figures):
    comparison = comparison_of(["QAM", "FQL", "BAM"])
    looks = plots.styles(comparison.methods)
    figures["profiles"] = figure = plots.plot_profiles(comparison, looks)
    widths = {line.get_linewidth() for ax in figure.axes for line in ax.lines}
    assert widths == {looks["QAM"].line["linewidth"]}


def test_every_method_keeps_its_colour_in_every_figure(figures):
    comparison = comparison_of(["QAM", "FQL"])
    looks = plots.styles(comparison.methods)
    figures |= plots.all_figures(comparison, "QAM")
    expected = {looks[name].colour for name in ("QAM", "FQL")}
    for name in ("profiles", "sample_efficiency", "domains"):
        assert {line.get_color() for line in figures[name].axes[0].lines} == expected, name
    bars = {patch.get_facecolor()[:3] for ax in figures["aggregates"].axes for patch in ax.patches}
    assert bars == {to_rgb(colour) for colour in expected}


def test_no_difference_is_marked_at_a_half_and_at_zero(figures):
    comparison = comparison_of(["QAM", "FQL"])
    figures["improvement"] = figure = plots.plot_improvement(comparison, plots.styles(comparison.methods), "QAM")
    marks = [line.get_xdata()[0] for ax in figure.axes[:2] for line in ax.lines if line.get_linestyle() == ":"]
    assert marks == [0.5, 0.0]
    assert figure.axes[0].get_xlim() == (0, 1)


def test_bars_of_intervals_keep_a_distance_from_the_axes(figures):
    comparison = comparison_of(["QAM", "FQL", "BAM"])
    figures["improvement"] = figure = plots.plot_improvement(comparison, plots.styles(comparison.methods), "QAM")
    figures["aggregates"] = plots.plot_aggregates(comparison, plots.styles(comparison.methods))
    for ax in [figure.axes[1], *figures["aggregates"].axes]:
        left, right = ax.get_xlim()
        for bar in ax.patches:
            assert left < bar.get_x()
            assert bar.get_x() + bar.get_width() < right


def test_offline_phase_is_shaded_and_the_online_curve_starts_where_it_ends(figures):
    comparison = comparison_of(["QAM"])
    figures["curve"] = figure = plots.plot_sample_efficiency(comparison, plots.styles(comparison.methods))
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
    figures["curve"] = figure = plots.plot_sample_efficiency(comparison, plots.styles(methods))
    drawn = [line.get_xdata().tolist() for line in figure.axes[0].lines]
    assert [2500, 3000] in drawn


def test_single_evaluation_is_drawn_as_a_marker_with_its_interval(figures):
    comparison = comparison_of(["QAM"], steps=((1000, "offline"),))
    figures["curve"] = figure = plots.plot_sample_efficiency(comparison, plots.styles(comparison.methods))
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


def test_ranking_puts_the_best_first_and_late_starters_last():
    runs = evaluations(["QAM", "FQL"])
    runs.loc[runs["method"] == "QAM", "score"] = 0.9
    late = evaluations(["RLPD"], steps=((3000, "online"),))
    methods = {name: Method(name, name, "own") for name in ("FQL", "QAM", "RLPD")}
    comparison = compare(methods, pd.concat([runs, late]), pd.DataFrame(columns=MEAN_COLUMNS), reps=10)
    assert plots.ranking(comparison) == ["QAM", "FQL", "RLPD"]
