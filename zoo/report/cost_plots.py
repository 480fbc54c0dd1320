"""The figure of what scores cost: learning curves over hours."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from zoo.report.comparison import Comparison
from zoo.report.cost import CostCurve
from zoo.report.curve_plots import score_limits
from zoo.report.drawing import PAGE, Sheet, draw_curve, legend_below
from zoo.report.styles import ranked_styles


def plot_cost(comparison: Comparison, curves: Mapping[str, CostCurve], sheet: Sheet = PAGE) -> Figure | None:
    """Return the mean of each own method against hours per seed, or None where no time is known."""
    if not curves:
        return None
    kind, looks = comparison.kind, ranked_styles(comparison, sheet.stroke)
    height = 1.0 + 0.25 * sheet.width
    figure, (ax,) = sheet.panels(1, height)
    for name in (name for name in looks if name in curves):
        found = curves[name]
        draw_curve(ax, found.hours, found.mean, looks[name], kind.scale, looks[name].marker)
    ax.set(xlim=(0, None), ylim=score_limits(kind, [found.mean for found in curves.values()]))
    ax.set(
        xlabel="wall-clock hours per seed", ylabel=sheet.wrap(f"{kind.unit}\n{comparison.curves_label}", height - 0.7)
    )
    ax.grid(alpha=0.25)
    legend_below(figure, looks, [curves], sheet)
    return figure
