"""Figures of learning curves: over all tasks, and for each domain or environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from zoo.report.comparison import Comparison
from zoo.report.figures.drawing import PAGE, Sheet, draw_curve, label_ends, legend_below, literal, panel_width, place_of
from zoo.report.figures.styles import Style, panel_styles
from zoo.report.learning_curves import LearningCurve
from zoo.report.statistics.estimates import Curve
from zoo.runs.scores import METRICS, SUCCESS, Kind

Curves = Mapping[str, LearningCurve]
"""Method -> its learning curve in one phase."""


def plot_sample_efficiency(comparison: Comparison, sheet: Sheet = PAGE) -> Figure | None:
    """Return mean and IQM at every evaluation with the offline phase shaded, or None without single runs."""
    shown = [phase.curves for phase in comparison.phases.values()]
    if not any(shown):
        return None
    kind, looks = comparison.kind, panel_styles(comparison, stroke=sheet.stroke)
    height = 1.0 + 0.25 * sheet.width
    figure, axes = sheet.wider().panels(2, height, sharey=True)
    low, high = score_limits(kind, [curve for part in shown for c in part.values() for curve in (c.mean, c.iqm)])
    for ax, metric in zip(axes, ("mean", "iqm"), strict=True):
        _draw_phases(ax, shown, metric, looks, kind)
        border = _decorate_steps(ax, shown, (low, high))
        title = sheet.wrap(METRICS[metric] + kind.title, panel_width(ax, beside=0.6))
        ax.set_title(title, loc="left", pad=1.5 * sheet.text if border else None)  # the phases stand below it
        if border:
            for name, side in (("offline ", "right"), (" online", "left")):
                ax.text(border, high + (high - low) / 102, name, ha=side, va="bottom", color="#555555")
        ends = {name: kind.scale * curve.points[-1] for _, name, _, curve in joined_curves(shown, metric)}
        label_ends(ax, ends, looks, sheet, height - 0.8)
        if place_of(ax).is_first_col():
            ax.set_ylabel(sheet.wrap(f"{kind.unit}\n{comparison.curves_label}", height - 0.7))
    return figure


def plot_domains(comparison: Comparison, sheet: Sheet = PAGE) -> Figure | None:
    """Return one panel of mean learning curves for each domain, or None without single runs.

    Each panel has an axis of steps of its own, since domains may have their own budgets. Returns have a panel for each
    environment, with an axis of scores of its own too.
    """
    kind, looks = comparison.kind, panel_styles(comparison, stroke=sheet.stroke)
    domains = sorted({d for phase in comparison.phases.values() for d, curves in phase.domain_curves.items() if curves})
    if not domains:
        return None
    parts = {
        domain: [phase.domain_curves.get(domain, {}) for phase in comparison.phases.values()] for domain in domains
    }
    figure, axes = sheet.panels(len(domains), 0.9 + 0.12 * sheet.width, sharey=kind is SUCCESS)
    for ax, domain in zip(axes, domains, strict=True):
        curves = [curve.mean for part in parts[domain] for curve in part.values()]
        _draw_phases(ax, parts[domain], "mean", looks, kind)
        ax.set_title(literal(sheet.wrap(domain, panel_width(ax))), fontsize=sheet.text)
        _decorate_steps(ax, parts[domain], score_limits(kind, curves))
        ax.set_xlabel("")
        if place_of(ax).is_first_col():
            ax.set_ylabel(kind.unit)
    legend_below(figure, looks, [curves for part in parts.values() for curves in part], sheet)
    return figure


def _draw_phases(ax: Axes, parts: Sequence[Curves], metric: str, looks: Mapping[str, Style], kind: Kind) -> None:
    """Draw the curves of all phases."""
    for _, name, steps, curve in joined_curves(parts, metric):
        style = looks[name]
        marker = style.marker if len(steps) == 1 or style.is_own else None
        draw_curve(ax, steps, curve, style, kind.scale, marker)


def joined_curves(parts: Sequence[Curves], metric: str) -> Iterator[tuple[int, str, np.ndarray, Curve]]:
    """Yield phase (its index), method, steps and curve; a method's next phase starts where its last one ended."""
    ends: dict[str, tuple[np.ndarray, Curve]] = {}
    border = end_of_offline(parts) or 0
    for phase, part in enumerate(parts):
        for name, found in part.items():
            steps, curve = found.steps, getattr(found, metric)
            if part is not parts[0] and name not in parts[0] and steps[0] < border:
                steps = steps + border  # a method that starts online begins where the others go online
            if name in ends:
                steps, curve = _joined(*ends[name], steps, curve)
            yield phase, name, steps, curve
            ends[name] = (steps, curve)


def _joined(before: np.ndarray, start: Curve, steps: np.ndarray, curve: Curve) -> tuple[np.ndarray, Curve]:
    """Return a curve that starts with the last point of the one before it."""
    bounds = None
    if start.bounds is not None and curve.bounds is not None:
        bounds = np.concatenate([start.bounds[:, -1:], curve.bounds], axis=1)
    points = np.concatenate([start.points[-1:], curve.points])
    return np.concatenate([before[-1:], steps]), Curve(points, bounds, curve.kind)


def last_step(parts: Sequence[Curves]) -> int:
    """Return the step at which the last curve ends, as they are drawn."""
    return max((int(steps[-1]) for _, _, steps, _ in joined_curves(parts, "mean")), default=0)


def _decorate_steps(ax: Axes, parts: Sequence[Curves], limits: tuple[float, float]) -> int | None:
    """Shade the offline phase, label the axes, and return where online steps begin (None if methods differ)."""
    border = end_of_offline(parts)
    if border is not None:
        ax.axvspan(0, border, color="#f2f2f2", zorder=0)
    ax.set(xlim=(0, last_step(parts) * 1.01 or 1), ylim=limits, xlabel="steps")
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 1.5M, 5k
    ax.grid(alpha=0.25)
    return border


def score_limits(kind: Kind, curves: Sequence[Curve | None]) -> tuple[float, float]:
    """Return the range of an axis of scores.

    With two seeds a band is many times as wide as the curves differ, so it may be cut: at most two thirds of the axis
    are outside the range of the curves themselves.
    """
    known = [curve for curve in curves if curve is not None]
    if kind is SUCCESS or not known:
        return (0.0, 102.0)
    points = np.concatenate([curve.points for curve in known])
    bands = np.concatenate([points, *(curve.bounds.ravel() for curve in known if curve.bounds is not None)])
    low, high = points.min(), points.max()
    span = high - low or 0.1 * abs(high) or 1.0
    low, high = max(bands.min(), low - span), min(bands.max(), high + span)
    margin = 0.05 * (high - low or span)
    return (kind.scale * (low - margin), kind.scale * (high + margin))


def end_of_offline(parts: Sequence[Curves]) -> int | None:
    """Return the last offline step if an online phase follows and all methods share it."""
    ends = {int(curve.steps[-1]) for curve in parts[0].values()}
    return ends.pop() if len(parts) == 2 and len(ends) == 1 else None
