from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb

import agents
from tests.zoo.report.samples import comparison_of
from zoo.report.comparison import ComparedMethod, ranking
from zoo.report.figures import styles
from zoo.report.figures.files import PAPER
from zoo.report.page.report import FOLDER
from zoo.report.published_scores import published_names

TO_XYZ = np.array(
    [[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07217], [0.01933, 0.11919, 0.95030]]
)  # of sRGB
# what is seen without the cones for red or green (Machado et al. 2009, severity 1)
CONES = {
    "red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def light_of(colours):
    """Return colours in linear sRGB: (n, 3)."""
    values = np.array([to_rgb(colour) for colour in colours])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def luminance(colour):
    """Return the relative luminance of WCAG 2."""
    return (light_of([colour]) @ TO_XYZ[1]).item()


def test_every_algorithm_of_the_zoo_has_a_style_of_its_own():
    found = styles.algorithm_styles()
    assert {published_names()[id] for id in agents.algorithm_ids()} <= set(
        found
    )  # SB3's take spare ones
    assert len({colour for colour, _ in found.values()}) == len(found)


def every_style():
    return styles.algorithm_styles() | dict(enumerate(styles.spare_styles()[:8]))


def lab(colours, missing=None):
    """Return colours in CIELAB (D65), as readers without some cones see them: (n, 3)."""
    light = light_of(colours)
    if missing is not None:
        light = np.clip(light @ np.array(CONES[missing]).T, 0, 1)
    xyz = light @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("paper", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("missing", "least"), [(None, 18), ("red", 9.5), ("green", 9.5)])
def test_any_two_colours_that_can_meet_are_apart_for_every_reader(paper, missing, least):
    names = list(every_style())
    found = lab([colours[paper] for colours, _ in every_style().values()], missing)
    distances = np.linalg.norm(found[:, None] - found, axis=-1)
    first, second = np.unravel_index(
        (distances + 100 * np.eye(len(names))).argmin(), distances.shape
    )
    assert distances[first, second] >= least, (names[first], names[second])


def test_colours_have_a_contrast_of_three_to_light_and_dark_paper():
    assert f"--paper: light-dark({', '.join(PAPER)})" in (FOLDER / "report.css").read_text()
    for name, colours in {
        **{name: look[0] for name, look in every_style().items()},
        "muted": styles.MUTED,
    }.items():
        assert 1.05 / (luminance(colours[0]) + 0.05) >= 3, name
        assert (luminance(colours[1]) + 0.05) / (luminance(PAPER[1]) + 0.05) >= 3, name


def test_a_panel_names_the_five_best_and_the_baseline_and_the_others_are_thin_and_grey():
    comparison = comparison_of([f"agent{k:02d}" for k in range(9)])
    phase = comparison.phases["offline"]
    order = ranking(comparison, phase)
    worst = replace(comparison, baseline=order[-1])
    assert styles.named_methods(worst, phase) == [*order[:5], order[-1]]
    assert styles.named_methods(replace(comparison, baseline=order[0]), phase) == order[:6]
    found = styles.panel_styles(worst, phase)
    assert {name for name, look in found.items() if look.colour == styles.MUTED[0]} == set(
        order[5:-1]
    )
    assert {found[name].line["linewidth"] for name in order[5:-1]} == {0.7}
    last = ranking(comparison, comparison.phases["online"])
    assert (
        styles.named_methods(replace(worst, baseline=last[0])) == last[:6]
    )  # of all phases: where they ended


def test_beside_a_focus_a_panel_names_it_the_baseline_and_own_methods():
    comparison = comparison_of([f"agent{k:02d}" for k in range(9)])
    order = ranking(comparison, phase := comparison.phases["offline"])
    own = (order[7], order[6])
    methods = {
        name: replace(m, source="own" if name in own else "a_set")
        for name, m in comparison.methods.items()
    }
    focused = replace(comparison, methods=methods, baseline=order[-1], focus=order[7])
    assert styles.named_methods(focused, phase) == order[6:]


def test_own_and_published_runs_of_an_algorithm_share_colour_and_dash_but_not_width_whatever_the_others_are():
    published = {
        name: ComparedMethod(name, name, "qam2026") for name in ("BAM", "FQL", "QAM", "other")
    }
    found = styles.method_styles({"qam": ComparedMethod("qam", "QAM", "own")} | published)
    assert found["QAM"] == styles.method_styles({"QAM": published["QAM"]})["QAM"]
    assert found["qam"].colour == found["QAM"].colour
    assert found["qam"].dash == found["QAM"].dash
    assert found["qam"].line["linewidth"] > found["QAM"].line["linewidth"]


def test_variants_and_unknown_algorithms_take_colours_of_no_algorithm():
    methods = {
        "qam": "QAM",
        "qam (big)": "QAM",
        "fql": "FQL",
        "my_agent": "my_agent",
        "DSRL": "my_agent",
    }
    found = styles.method_styles(
        {name: ComparedMethod(name, algorithm, "own") for name, algorithm in methods.items()}
    )
    fixed = {colours[0] for colours, _ in styles.algorithm_styles().values()}
    assert {name for name, style in found.items() if style.colour in fixed} == {"qam", "fql"}
    assert len({style.colour for style in found.values()}) == 5
