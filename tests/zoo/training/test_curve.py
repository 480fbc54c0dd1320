import numpy as np
import pytest
from matplotlib.figure import Figure

from zoo.playing.evaluate import EpisodeResults
from zoo.runs.folder import OFFLINE, ONLINE, with_evaluation
from zoo.training.callbacks import plot_learning_curve


@pytest.fixture
def drawn(monkeypatch):
    """Collect figures instead of drawing them."""
    figures = []

    def keep(figure, path, **_):
        figures.append(figure)
        path.write_bytes(b"")

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def history_of(returns, successes, phases=(OFFLINE, ONLINE)):
    history = {}
    for k, (value, phase) in enumerate(zip(returns, phases, strict=True)):
        history = with_evaluation(
            history,
            100 * (k + 1),
            phase,
            EpisodeResults(
                successes=successes,
                returns=np.array([[value - 50.0, value + 50.0]]),
                lengths=np.array([[200, 200]]),
                seeds=np.array([1, 2], dtype=np.uint32),
                played=np.ones(1, bool),
            ),
        )
    return history


def test_a_curve_has_wilsons_interval(tmp_path, drawn):
    plot_learning_curve(
        history_of((0.0, 1.0), np.array([[1, 1]])), tmp_path / "curve.png", "QAM in a maze"
    )
    axes = drawn[0].axes[0]
    (band,) = axes.collections
    extent = band.get_paths()[0].get_extents()
    assert (extent.y0, extent.y1) == pytest.approx((34.24, 100), abs=0.01)  # 2 of 2
    assert axes.get_ylim() == (0, 100)
