import io
import re
from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from tests.zoo.report.samples import comparison_of, comparison_of_returns
from zoo.report.figures.plots import SHEETS, all_figures, save
from zoo.runs.scores import NORMALISED_RETURN

MANY = [
    *("QAM", "QAM-E", "QAM-F", "FQL", "IFQL", "ReBRAC", "DSRL", "CGQL", "CGQL-M", "CGQL-L", "DAC", "BAM", "FEdit"),
    *("FBRAC", "FAWAC", "RLPD", "an agent of mine with a name that is far too long for one column (net_arch=512x4)"),
]


def texts_of(figure):
    """Return the texts that are drawn, with the boxes that they fill, in points."""
    figure.set_dpi(72)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    hidden = {id(label) for ax in figure.axes for label in labels_outside(ax)}
    hidden |= {id(text) for ax in figure.axes if not ax.get_visible() for text in ax.findobj(Text)}
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [(text, text.get_window_extent(canvas.get_renderer())) for text in found if id(text) not in hidden]


def labels_outside(ax):
    """Return the labels of ticks that matplotlib keeps but does not draw."""
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)


@pytest.mark.slow
def test_texts_of_figures_for_a_paper_are_readable_and_neither_cut_off_nor_covered():
    one = comparison_of_returns(["SAC", "TD3"], kind=NORMALISED_RETURN)
    comparisons = [comparison_of(MANY, seeds=2, tasks=8), comparison_of_returns(["SAC", "TD3"]), one]
    figures = {name: figure for c in comparisons for name, figure in all_figures(c, SHEETS["column"]).items()}
    for name, figure in figures.items():
        texts = texts_of(figure)
        assert len(texts) > 6
        for text, box in texts:
            assert 6.5 <= text.get_fontsize() <= 9.5, name
            inside = box.x0 > -0.5 and box.y0 > -0.5 and box.x1 < figure.bbox.x1 + 0.5 and box.y1 < figure.bbox.y1
            assert inside, (name, text.get_text(), box)
        for (a, box), (b, other) in combinations(texts, 2):
            assert not box.padded(-0.5).overlaps(other.padded(-0.5)), (name, a.get_text(), b.get_text())
        for ax in (ax for ax in figure.axes if ax.get_label() != "<colorbar>"):
            assert min(ax.bbox.width, ax.bbox.height) > 36, name  # half an inch for the data


@pytest.mark.parametrize("place", ["column", "text"])
def test_pdf_has_the_width_of_its_place_and_fonts_that_conferences_accept(tmp_path, place):
    for name, figure in all_figures(comparison_of_returns(["SAC", "TD3"]), SHEETS[place]).items():
        path = tmp_path / f"{name}.pdf"
        save(figure, path, "pdf")
        data = path.read_bytes()
        width = float(re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", data)[1])
        assert width == pytest.approx(72 * SHEETS[place].width, abs=0.1)
        assert b"/Type3" not in data
        assert b"/CIDFontType2" in data  # TrueType


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pdf", "svg"])
def test_same_figure_gives_the_same_file(kind):
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        save(all_figures(comparison_of(["QAM", "FQL"]))["profiles"], file, kind)
    assert files[0].getvalue() == files[1].getvalue()
