from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb

import agents
from tests.zoo.report.samples import comparison_of
from zoo.report.comparison import ComparedMethod, ranking
from zoo.report.figures import styles
from zoo.report.figures.files import INK, PAPER
from zoo.report.page.report import FOLDER
from zoo.report.published_scores import published_names

# of sRGB
TO_XYZ = np.array(
    [[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07217], [0.01933, 0.11919, 0.95030]]
)
# what is seen without the cones for red or green (Machado et al. 2009, severity 1)
CONES = {
    "all": np.eye(3),
    "green and blue": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "red and blue": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def light_of(colours):
    """Return colours in linear sRGB: (n, 3)."""
    values = np.array([to_rgb(colour) for colour in colours])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(colours, cones):
    """Return colours in CIELAB (D65), as readers with some cones see them: (n, 3)."""
    light = np.clip(light_of(colours) @ np.array(CONES[cones]).T, 0, 1)
    xyz = light @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def every_style():
    return styles.algorithm_styles() | dict(enumerate(styles.spare_styles()[:8]))


def test_every_algorithm_of_the_zoo_has_a_style_of_its_own():
    fixed = styles.algorithm_styles()
    names = {published_names()[id] for id in agents.algorithm_ids()}  # SB3's take spare ones
    assert names <= set(fixed)
    assert len({colours for colours, _ in fixed.values()}) == len(fixed)


@pytest.mark.parametrize("paper", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("cones", "distance"), [("all", 18), ("green and blue", 9.5), ("red and blue", 9.5)]
)
def test_any_two_colours_that_can_meet_are_apart_for_every_reader(paper, cones, distance):
    points = lab([colours[paper] for colours, _ in every_style().values()], cones)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    assert (distances + 100 * np.eye(len(points))).min() >= distance


@pytest.mark.parametrize("paper", [0, 1], ids=["light", "dark"])
def test_colours_have_a_contrast_of_three_to_their_paper(paper):
    assert f"--paper: light-dark({', '.join(PAPER)})" in (FOLDER / "report.css").read_text()
    colours = [styles.MUTED[paper]]
    colours += [pair[paper] for pair, _ in every_style().values()]
    assert contrasts(colours, paper).min() >= 3


def contrasts(colours, paper):
    """Return the contrast of colours to light (0) or dark (1) paper, by WCAG 2."""
    luminance = light_of([PAPER[paper], *colours]) @ TO_XYZ[1] + 0.05
    ratios = luminance[1:] / luminance[0]
    return np.maximum(ratios, 1 / ratios)


@pytest.mark.parametrize("paper", [0, 1], ids=["light", "dark"])
def test_nothing_has_more_contrast_to_its_paper_than_the_focus(paper):
    colours = [pair[paper] for pair, _ in every_style().values()]
    (focus,) = contrasts([styles.FOCUS[paper]], paper)
    assert focus > contrasts([*colours, styles.MUTED[paper], INK[paper]], paper).max()


def named(comparison, phase=None):
    panel = styles.panel_styles(comparison, phase)
    return [name for name, style in panel.items() if style.is_named]


@pytest.fixture(scope="module")
def comparison():
    return comparison_of([f"agent{k:02d}" for k in range(9)])


def test_a_panel_names_the_five_best_and_the_baseline_and_the_others_are_thin_and_grey(comparison):
    phase = comparison.phases["offline"]
    order = ranking(comparison, phase)
    worst = replace(comparison, baseline=order[-1])
    assert named(worst, phase) == [*order[:5], order[-1]]
    assert named(replace(comparison, baseline=order[0]), phase) == order[:6]
    others = [styles.panel_styles(worst, phase)[name] for name in order[5:-1]]
    assert {(style.colour, style.line["linewidth"]) for style in others} == {(styles.MUTED[0], 0.7)}
    last = ranking(comparison, comparison.phases["online"])
    of_all_phases = named(replace(comparison, baseline=last[0]))
    assert set(of_all_phases) == set(last[:6])  # the best where they ended


def test_beside_a_focus_a_panel_names_it_the_baseline_and_own_methods(comparison):
    phase = comparison.phases["offline"]
    order = ranking(comparison, phase)
    methods = {name: replace(m, source="a_set") for name, m in comparison.methods.items()}
    methods |= {name: comparison.methods[name] for name in order[6:8]}
    focused = replace(comparison, methods=methods, baseline=order[-1], focus=order[7])
    assert named(focused, phase) == order[6:]
    panel = styles.panel_styles(focused, phase)
    assert panel[order[7]].colour == styles.FOCUS[0]
    widths = {name: style.line["linewidth"] for name, style in panel.items()}
    layers = {name: style.line["zorder"] for name, style in panel.items()}
    assert max(widths, key=widths.get) == max(layers, key=layers.get) == order[7]


def test_own_and_published_runs_of_an_algorithm_share_colour_and_dash_but_not_width():
    published = {
        name: ComparedMethod(name, name, "qam2026") for name in ("BAM", "FQL", "QAM", "other")
    }
    drawn = styles.method_styles({"qam": ComparedMethod("qam", "QAM", "own")} | published)
    assert drawn["QAM"] == styles.method_styles({"QAM": published["QAM"]})["QAM"]
    assert (drawn["qam"].colour, drawn["qam"].dash) == (drawn["QAM"].colour, drawn["QAM"].dash)
    assert drawn["qam"].line["linewidth"] > drawn["QAM"].line["linewidth"]


def test_variants_and_unknown_algorithms_take_colours_of_no_algorithm():
    algorithms = {
        "qam": "QAM",
        "qam (big)": "QAM",
        "fql": "FQL",
        "my_agent": "my_agent",
        "DSRL": "my_agent",
    }
    methods = {name: ComparedMethod(name, id, "own") for name, id in algorithms.items()}
    drawn = styles.method_styles(methods)
    fixed = {colours[0] for colours, _ in styles.algorithm_styles().values()}
    assert {name for name, style in drawn.items() if style.colour in fixed} == {"qam", "fql"}
    assert len({style.colour for style in drawn.values()}) == 5
