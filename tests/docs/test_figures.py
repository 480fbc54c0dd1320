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
@pytest.mark.parametrize("name", make_figures.DRAWN)
def test_committed_figures_are_what_their_scores_draw(name):
    committed = (make_figures.FIGURES / f"{name}.svg").read_text()
    shapes, numbers = [], []
    for text in (committed, make_figures.DRAWN[name]().decode()):
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
