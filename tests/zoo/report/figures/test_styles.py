import re

import numpy as np
from matplotlib.colors import to_rgb

import agents
from tests.zoo.report.samples import own_methods
from zoo.report.comparison import Method
from zoo.report.figures import styles
from zoo.report.page.scripts import FOLDER
from zoo.report.published_scores import published_names


def luminance(colour):
    """Return the relative luminance of WCAG 2."""
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def test_every_algorithm_of_the_zoo_has_a_style_of_its_own():
    found = styles.algorithm_styles()
    assert {published_names()[id] for id in agents.algorithm_ids()} <= set(found)  # SB3's take spare ones
    assert len({colour for colour, _ in found.values()}) == len(found)


def every_style():
    return styles.algorithm_styles() | dict(enumerate(styles.spare_styles()[:8]))


def test_colours_have_a_contrast_of_three_to_light_and_dark_paper():
    dark = re.search(r"--paper: light-dark\(#ffffff, (#\w+)\)", (FOLDER / "report.css").read_text())[1]
    for name, (colour, _) in every_style().items():
        assert 1.05 / (luminance(colour) + 0.05) >= 3, name
        assert (luminance(styles.on_dark(colour)) + 0.05) / (luminance(dark) + 0.05) >= 3, name


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
