import re
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

import agents
from tests.zoo.report.samples import own_methods
from zoo.report.comparison import Method
from zoo.report.figures import styles
from zoo.report.page.scripts import FOLDER
from zoo.report.published_scores import published_names

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


def test_every_algorithm_of_the_zoo_has_a_style_of_its_own():
    found = styles.algorithm_styles()
    assert {published_names()[id] for id in agents.algorithm_ids()} <= set(found)  # SB3's take spare ones
    assert len({colour for colour, _ in found.values()}) == len(found)


def every_style():
    return styles.algorithm_styles() | dict(enumerate(styles.spare_styles()[:8]))


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_colours_of_one_dash_pattern_stay_far_apart(deficiency):
    for (name, (a, dash_a)), (other, (b, dash_b)) in combinations(every_style().items(), 2):
        distance = np.linalg.norm(lab(a, deficiency) - lab(b, deficiency))
        assert distance > (27 if dash_a == dash_b else 9.5), (name, other)


def test_colours_of_all_patterns_are_far_apart_for_most_readers():
    distances = [
        np.linalg.norm(lab(a, "none") - lab(b, "none")) for (a, _), (b, _) in combinations(every_style().values(), 2)
    ]
    assert min(distances) > 18


def test_colours_have_a_contrast_of_three_to_white_paper():
    for name, (colour, _) in every_style().items():
        luminance = TO_XYZ[1] @ linear(colour)
        assert 1.05 / (luminance + 0.05) >= 3, name  # contrast ratio of WCAG 2


def dark_styles():
    return {name: (styles.on_dark(colour), dash) for name, (colour, dash) in every_style().items()}


def test_colours_on_dark_ground_have_a_contrast_of_three():
    paper = re.search(r"--paper: light-dark\(#ffffff, (#\w+)\)", (FOLDER / "report.css").read_text())[1]
    for name, (colour, _) in dark_styles().items():
        assert (TO_XYZ[1] @ linear(colour) + 0.05) / (TO_XYZ[1] @ linear(paper) + 0.05) >= 3, name


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_colours_of_one_dash_pattern_stay_apart_on_dark_ground(deficiency):
    for (name, (a, dash_a)), (other, (b, dash_b)) in combinations(dark_styles().items(), 2):
        if dash_a == dash_b:
            assert np.linalg.norm(lab(a, deficiency) - lab(b, deficiency)) > 12, (name, other)


def test_style_of_an_algorithm_does_not_depend_on_the_others():
    few = styles.method_styles({"QAM": Method("QAM", "QAM", "qam2026")})
    many = styles.method_styles({name: Method(name, name, "qam2026") for name in ("BAM", "FQL", "QAM", "other")})
    assert few["QAM"] == many["QAM"]


def test_own_and_published_runs_of_an_algorithm_share_colour_and_dash_but_not_width():
    found = styles.method_styles({"qam": Method("qam", "QAM", "own"), "QAM": Method("QAM", "QAM", "qam2026")})
    assert (found["qam"].colour, found["qam"].dash) == (found["QAM"].colour, found["QAM"].dash)
    assert found["qam"].line["linewidth"] > found["QAM"].line["linewidth"]


def test_variants_and_unknown_algorithms_take_colours_of_no_algorithm():
    methods = {"qam": "QAM", "qam (big)": "QAM", "fql": "FQL", "my_agent": "my_agent", "DSRL": "my_agent"}
    found = styles.method_styles({name: Method(name, algorithm, "own") for name, algorithm in methods.items()})
    fixed = {colour for colour, _ in styles.algorithm_styles().values()}
    assert {name for name, style in found.items() if style.colour in fixed} == {"qam", "fql"}
    assert len({style.colour for style in found.values()}) == 5


def test_twenty_four_methods_without_a_fixed_style_differ_and_more_still_have_one():
    found = styles.method_styles(own_methods([f"agent{k:02d}" for k in range(50)]))
    assert len({(style.colour, style.dash) for style in found.values()}) == 24
    assert len({style.dash for style in found.values()} | {dash for _, dash in styles.algorithm_styles().values()}) == 7
    assert len(found) == 50
