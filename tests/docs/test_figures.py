"""The committed figures show what their scores say today."""

import re

import numpy as np
import pytest

from docs import make_figures
from tests import needs_pinned

NUMBER = re.compile(r"-?\d+\.?\d*")


@needs_pinned("matplotlib", "seaborn", "rliable")
@pytest.mark.parametrize("published", [*make_figures.SHOWN, "fidelity"])
def test_committed_figures_are_what_their_scores_draw(published):
    is_set = published in make_figures.SHOWN
    drawn = make_figures.drawn(published) if is_set else {"fidelity.svg": make_figures.fidelity()}
    assert drawn.keys() == {path.name for path in make_figures.FIGURES.glob(f"{published}*.svg")}
    for name, picture in drawn.items():
        texts = [(make_figures.FIGURES / name).read_text(), picture.decode()]
        shapes = [NUMBER.sub("", re.sub(' id=".*?"|#[0-9a-z]+', "", text)) for text in texts]
        assert shapes[0] == shapes[1], "run `python docs/make_figures.py`"
        numbers = [
            [float(number) for number in NUMBER.findall(re.sub(' id=".*?"|#[0-9a-z]+', "", t))]
            for t in texts
        ]
        assert np.allclose(*numbers, atol=0.5), (
            "run `python docs/make_figures.py`"
        )  # fonts differ by less
