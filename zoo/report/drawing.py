"""What the figures of a report share: fonts, curves with bands, panels of intervals, the legend, and files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from zoo.report.estimates import Curve, Estimate
from zoo.report.styles import Style

FONTS = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that figures look the same on every machine
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.axisbelow": True,
    "svg.hashsalt": "flow-rl-zoo",  # the same figure gives the same file
    "svg.fonttype": "path",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def save(figure: Figure, path: Any, kind: str) -> None:
    """Write a figure as ``"svg"`` or ``"png"`` to a path or an open binary file."""
    metadata = {"Date": None} if kind == "svg" else {}
    with matplotlib.rc_context(FONTS):
        figure.savefig(path, format=kind, dpi=200, bbox_inches="tight", metadata=metadata)


def literal(name: str) -> str:
    """Escape a name so that matplotlib does not read it as a formula."""
    return name.replace("$", r"\$")


def draw_curve(
    ax: Axes, x: np.ndarray, curve: Curve, style: Style, scale: float = 1.0, marker: str | None = None
) -> None:
    """Draw a curve with its band; a single point has a vertical line as its interval."""
    ax.plot(x, scale * curve.points, marker=marker, markersize=3, **style.line)
    if curve.bounds is None:
        return
    low, high = scale * curve.bounds
    if len(x) == 1:
        ax.vlines(x, low, high, color=style.colour, alpha=0.4)
    ax.fill_between(x, low, high, color=style.colour, alpha=0.2, linewidth=0)


@dataclass(frozen=True)
class Panel:
    """Estimates of several methods on one axis.

    :param scale: what an estimate is multiplied by before it is drawn.
    :param no_difference: where to draw a dotted line, or None.
    :param limits: of the axis; None fits it to the intervals.
    """

    title: str
    label: str
    estimates: Mapping[str, Estimate | None]
    scale: float = 1.0
    no_difference: float | None = None
    limits: tuple[float, float] | None = None


def plot_panels(panels: Sequence[Panel], looks: Mapping[str, Style]) -> Figure:
    """Return panels side by side, with one row for each method that has estimates, the first one on top.

    The axes fill the figure. Titles and labels stand outside, where `save` includes them, so that long names of methods
    leave the panels as wide as they are.
    """
    names = [name for name in looks if any(name in panel.estimates for panel in panels)]
    figure = Figure(figsize=(2.4 * len(panels), max(0.9, 0.24 * len(names))))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.15)
    for ax, panel in zip(axes, panels, strict=True):
        for row, name in enumerate(names):
            _draw_interval(ax, row, panel.estimates.get(name), looks[name], panel.scale)
        if panel.no_difference is not None:
            ax.axvline(panel.no_difference, color="black", linewidth=0.8, linestyle=":")
        ax.use_sticky_edges = False  # bars keep a distance from the axes
        ax.margins(x=0.06)
        ax.set(title=panel.title, xlabel=panel.label)
        if panel.limits:
            ax.set_xlim(panel.limits)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.grid(axis="x", alpha=0.25)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    axes[0].set_yticks(range(len(names)), [literal(name + looks[name].mark) for name in names])
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    return figure


def _draw_interval(ax: Axes, row: int, estimate: Estimate | None, style: Style, scale: float) -> None:
    """Draw an estimate as a line across a bar from one bound of its interval to the other."""
    if estimate is None:
        return
    if estimate.interval is not None:
        low, high = (scale * bound for bound in estimate.interval)
        edge = "black" if style.is_own else "none"
        ax.barh(row, high - low, left=low, height=0.6, color=style.colour, alpha=0.85, edgecolor=edge)
    ax.vlines(scale * estimate.point, row - 0.3, row + 0.3, color="black", linewidth=1.2)


def legend_below(figure: Figure, looks: Mapping[str, Style], drawn: Sequence[Iterable[str]]) -> None:
    """Put one legend of the methods that were drawn under all panels, in as many columns as fit."""
    names = [name for name in looks if any(name in part for part in drawn)]
    handles = [
        Line2D([], [], marker=looks[name].marker if looks[name].is_own else None, markersize=3, **looks[name].line)
        for name in names
    ]
    width = max(1, int(figure.get_figwidth() / (0.6 + 0.085 * max(map(len, names)))))
    figure.legend(
        handles,
        [literal(name + looks[name].mark) for name in names],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=min(width, len(names)),
        frameon=False,
        fontsize=8.5,
        handlelength=3,
    )
