import numpy as np
import pytest

from zoo.report.published import load_set
from zoo.report.published_import import convert


def test_scores_off_the_grid_of_episodes_are_refused():
    content = {("scene-play-singletask-task1-v0", "QAM"): np.full((30, 12), 0.123)}
    with pytest.raises(ValueError, match="expected fractions of 50 episodes for QAM"):
        convert(content, load_set("qam2026"))
