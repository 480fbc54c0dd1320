"""The learning curve of one run."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from agents.common.files import atomic_path
from zoo.runs.history import OFFLINE, EvaluationHistory


def plot_learning_curve(history: EvaluationHistory, path: Path, title: str) -> None:
    """Write a PNG of success (or the return, where there is no success) against steps, the online phase shaded."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rates = history.success_rates()
    arrays = history.arrays()
    values = arrays["results"].mean(axis=1) if rates is None else rates
    steps = arrays["timesteps"]
    axes.plot(steps, values, marker="o", color="#0072B2", clip_on=False, zorder=3)
    if rates is not None:
        axes.set_ylim(0, 1)
    offline = arrays["phase"] == OFFLINE
    if offline.any() and not offline.all():
        begin = steps[offline][-1]
        axes.axvspan(begin, steps[-1], color="0.93", zorder=0)
        axes.text(begin, axes.get_ylim()[1], " online", va="top", color="0.4")
    units = ["gradient steps"] * bool(offline.any()) + ["environment steps"] * (not offline.all())
    axes.set(title=title, xlabel=", then ".join(units), xlim=(0, None))
    axes.set_ylabel("mean return" if rates is None else "success rate")
    axes.title.set_fontsize(9)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
