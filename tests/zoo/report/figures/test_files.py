import re
from itertools import combinations
from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from tests.zoo.report.samples import NO_RUNS, comparison_of, comparison_of_returns, evaluations
from zoo.report.figures.files import FIGURE_SIZES, dark_colours, file_of
from zoo.report.figures.plots import all_figures
from zoo.report.published_scores import published_names
from zoo.runs.scores import NORMALISED_RETURN

MANY = [*published_names().values()][:16]
MANY.append("an agent of mine with a name that is far too long for one column (net_arch=512x4)")
NAMES = ["QAM", "a <b> & $x_1$", "mine"]


@pytest.fixture(scope="module")
def figures():
    """Return one of each figure."""
    comparison = comparison_of(NAMES, tasks=4)
    runs = evaluations(NAMES, tasks=4)
    drawings = {}
    for only in ("*_offline", "sample_efficiency_mean", "domains"):
        drawings |= all_figures(comparison, runs, only=only)
    return drawings


@pytest.fixture(scope="module")
def pictures(figures):
    """Return every figure of a small comparison as SVG."""
    return {
        name: file_of(drawing.figure, "svg", drawing.title, ", ".join(drawing.methods)).decode()
        for name, drawing in figures.items()
    }


def test_every_colour_of_a_picture_has_one_counterpart_on_dark_paper(pictures):
    rule = re.compile(r'\[style\*="(\w+: #\w+)"\]{\w+:light-dark\((#\w+),(#\w+)\)')
    for name, picture in pictures.items():
        style, body = picture.split("</style>", 1)
        rules = rule.findall(style)
        assert {(light, dark) for _, light, dark in rules} <= set(dark_colours().items()), name
        assert set(re.findall(r"(?:fill|stroke): #\w+", body)) <= {paint for paint, *_ in rules}


def test_texts_of_a_picture_are_texts_and_it_says_what_it_shows(pictures):
    picture = ElementTree.fromstring(pictures["profiles_offline"])
    assert picture[0].text == "Performance profiles, offline"
    assert NAMES[1] in picture[1].text
    assert NAMES[1] in [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]


def test_pictures_of_a_page_share_no_names(pictures):
    names = [set(re.findall(r' id="(.*?)"', picture)) for picture in pictures.values()]
    assert len(set().union(*names)) == sum(map(len, names)) > 20


def test_same_figures_give_the_same_pdf(figures):
    name = "aggregates_offline"
    comparison = comparison_of(NAMES, tasks=4)
    drawings = [figures[name], *all_figures(comparison, NO_RUNS, only=name).values()]
    first, second = (file_of(drawing.figure, "pdf", "", "") for drawing in drawings)
    assert first == second


def texts_of(figure):
    """Return the texts that are drawn, with the boxes that they fill, in points."""
    figure.set_dpi(72)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    hidden = set()
    for ax in figure.axes:
        if not ax.get_visible():
            hidden.update(ax.findobj(Text))
        for axis in (ax.xaxis, ax.yaxis):  # matplotlib keeps labels of ticks outside, undrawn
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if not low <= tick.get_loc() <= high:
                    hidden.update((tick.label1, tick.label2))
    texts = [text for text in figure.findobj(Text) if text not in hidden and text.get_visible()]
    renderer = canvas.get_renderer()
    return [(text, text.get_window_extent(renderer)) for text in texts if text.get_text().strip()]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["column", "page"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: comparison_of(MANY, seeds=2, tasks=8),
        lambda: comparison_of_returns(["SAC", "TD3"]),
        lambda: comparison_of_returns(["SAC", "TD3"], kind=NORMALISED_RETURN),
    ],
)
def test_texts_of_figures_are_readable_and_neither_cut_off_nor_covered(make, place):
    drawings = all_figures(make(), evaluations(MANY), FIGURE_SIZES[place])
    for name, drawing in drawings.items():
        figure = drawing.figure
        texts = texts_of(figure)
        for text, box in texts:
            assert 6 <= text.get_fontsize() <= 9.5, name
            assert min(box.x0, box.y0) > -0.5, (name, text)
            assert box.x1 < figure.bbox.x1 + 0.5, (name, text)
            assert box.y1 < figure.bbox.y1, (name, text)
        for (a, first), (b, second) in combinations(texts, 2):
            assert not first.padded(-0.5).overlaps(second.padded(-0.5)), (name, a, b)
        for ax in figure.axes:
            is_panel = ax.get_visible() and ax.get_label() != "<colorbar>"
            assert not is_panel or min(ax.bbox.width, ax.bbox.height) > 20, name  # two rows
