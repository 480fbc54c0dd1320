"""The committed figures agree with the current scores."""

import re

import numpy as np
import pytest

from docs import make_figures
from tests import needs_pinned

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
    # different fonts change positions by less
    assert np.allclose(*numbers, atol=0.5), "run `python docs/make_figures.py`"
