import re
from itertools import combinations
from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from tests.zoo.report.samples import comparison_of, comparison_of_returns, evaluations
from zoo.report.figures.files import FIGURE_SIZES, dark_colours, file_of
from zoo.report.figures.plots import all_figures
from zoo.runs.scores import NORMALISED_RETURN

MANY = [
    *(
        "QAM",
        "QAM-E",
        "QAM-F",
        "FQL",
        "IFQL",
        "ReBRAC",
        "DSRL",
        "CGQL",
        "CGQL-M",
        "CGQL-L",
        "DAC",
        "BAM",
        "FEdit",
    ),
    *(
        "FBRAC",
        "FAWAC",
        "RLPD",
        "an agent of mine with a name that is far too long for one column (net_arch=512x4)",
    ),
]
NAMES = ["QAM", "a <b> & $x_1$", "mine"]


@pytest.fixture(scope="module")
def figures():
    """Return one of each figure."""
    comparison, runs = comparison_of(NAMES, tasks=4), evaluations(NAMES, tasks=4)
    found = [
        all_figures(comparison, runs, only=only)
        for only in ("*_offline", "sample_efficiency_mean", "domains")
    ]
    return {name: figure for figures in found for name, figure in figures.items()}


@pytest.fixture(scope="module")
def pictures(figures):
    """Return every figure of a small comparison as SVG."""
    return {
        name: file_of(each.figure, "svg", each.title, ", ".join(each.methods)).decode()
        for name, each in figures.items()
    }


def test_every_colour_of_a_picture_has_a_counterpart_on_dark_paper(pictures):
    for name, picture in pictures.items():
        body = picture[picture.index("</style>") :]
        assert {*re.findall(r"(?:fill|stroke): (#\w+)", body)} <= set(dark_colours()), name


def test_colours_on_dark_paper_belong_to_one_colour_each(pictures):
    light = dark_colours()
    for paint, colour, dark in re.findall(
        r'\[style\*="(\w+): (#\w+)"\]{\w+:light-dark\(\2,(#\w+)\)', pictures["verdict_offline"]
    ):
        assert light[colour] == dark, paint


def test_texts_of_a_picture_are_texts_and_it_says_what_it_shows(pictures):
    picture = ElementTree.fromstring(pictures["profiles_offline"])
    title, description = picture[0], picture[1]
    assert title.text == "Performance profiles, offline"
    shown = "a <b> & $x_1$"
    assert shown in description.text
    assert shown in [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]


def test_pictures_of_a_page_share_no_names(pictures):
    found = [
        name for picture in pictures.values() for name in set(re.findall(r' id="(.*?)"', picture))
    ]
    assert len(found) == len(set(found)) > 20


def test_same_figures_give_the_same_pdf(figures):
    name = "aggregates_offline"
    again = all_figures(comparison_of(NAMES, tasks=4), evaluations(NAMES, tasks=4), only=name)
    assert file_of(figures[name].figure, "pdf", "", "") == file_of(
        again[name].figure, "pdf", "", ""
    )


@pytest.mark.parametrize("place", ["column", "text"])
def test_pdf_has_the_width_of_its_place_and_fonts_that_conferences_accept(place):
    comparison, only = comparison_of_returns(["SAC", "TD3"]), "improvement_online"
    (found,) = all_figures(comparison, evaluations(NAMES), FIGURE_SIZES[place], only=only).values()
    data = file_of(found.figure, "pdf", "", "")
    width = float(re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", data)[1])
    assert width == pytest.approx(72 * FIGURE_SIZES[place].width, abs=0.1)
    assert b"/Type3" not in data
    assert b"/CIDFontType2" in data  # TrueType


def texts_of(figure):
    """Return the texts that are drawn, with the boxes that they fill, in points."""
    figure.set_dpi(72)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    hidden = {id(label) for ax in figure.axes for label in labels_outside(ax)}
    hidden |= {id(text) for ax in figure.axes if not ax.get_visible() for text in ax.findobj(Text)}
    found = [
        text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()
    ]
    return [
        (text, text.get_window_extent(canvas.get_renderer()))
        for text in found
        if id(text) not in hidden
    ]


def labels_outside(ax):
    """Return the labels of ticks that matplotlib keeps but does not draw."""
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["column", "page"])
def test_texts_of_figures_are_readable_and_neither_cut_off_nor_covered(place):
    one = comparison_of_returns(["SAC", "TD3"], kind=NORMALISED_RETURN)
    comparisons = [
        comparison_of(MANY, seeds=2, tasks=8),
        comparison_of_returns(["SAC", "TD3"]),
        one,
    ]
    for comparison in comparisons:
        for name, drawing in all_figures(
            comparison, evaluations(MANY), FIGURE_SIZES[place]
        ).items():
            texts, figure = texts_of(drawing.figure), drawing.figure
            for text, box in texts:
                assert 6 <= text.get_fontsize() <= 9.5, name
                inside = (
                    box.x0 > -0.5
                    and box.y0 > -0.5
                    and box.x1 < figure.bbox.x1 + 0.5
                    and box.y1 < figure.bbox.y1
                )
                assert inside, (name, text.get_text(), box)
            for (a, box), (b, other) in combinations(texts, 2):
                assert not box.padded(-0.5).overlaps(other.padded(-0.5)), (
                    name,
                    a.get_text(),
                    b.get_text(),
                )
            for ax in (
                ax for ax in figure.axes if ax.get_visible() and ax.get_label() != "<colorbar>"
            ):
                assert min(ax.bbox.width, ax.bbox.height) > 20, name  # points: two rows
