"""The committed figures show what their scores say today."""

import re

import numpy as np
import pytest
from PIL import Image

from docs import make_figures
from tests import needs_pinned
from zoo.report.page.sentences import verdict_sentences

NUMBER = re.compile(r"-?\d+\.?\d*")


@needs_pinned("matplotlib", "seaborn", "rliable")
@pytest.mark.parametrize("published", [*make_figures.SHOWN, "fidelity"])
def test_committed_figures_are_what_their_scores_draw(published):
    is_set = published in make_figures.SHOWN
    drawn = make_figures.drawn(published) if is_set else {"fidelity.svg": make_figures.fidelity()}
    assert drawn.keys() == {path.name for path in make_figures.FIGURES.glob(f"{published}*.svg")}
    for name, picture in drawn.items():
        shapes, numbers = [], []
        for text in ((make_figures.FIGURES / name).read_text(), picture.decode()):
            text = re.sub(' id=".*?"|#[0-9a-z]+', "", text)
            shapes.append(NUMBER.sub("", text))
            numbers.append(np.array(NUMBER.findall(text), float))
        assert shapes[0] == shapes[1], "run `python docs/make_figures.py`"
        # fonts differ by less
        assert np.allclose(*numbers, atol=0.5), "run `python docs/make_figures.py`"


def test_picture_of_a_report_shows_the_verdicts_of_today():
    with Image.open(make_figures.FIGURES / "report.png") as picture:
        shown = picture.text["verdicts"]
    _, comparison = make_figures.compared("qam2026")
    expected = [sentence for sentence, _ in verdict_sentences([comparison])]
    assert shown.splitlines() == expected, "run `python docs/make_figures.py REPORT`"
