"""Figures of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")  # figures go to files; no display is needed

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from rliable import plot_utils

from zoo.report.comparison import Comparison, Phase, ranking
from zoo.report.learning_curves import LearningCurve
from zoo.report.statistics import Curve, Estimate
from zoo.report.styles import Style, method_styles
from zoo.runs.scores import METRICS, SUCCESS, Kind

_FONTS = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that figures look the same on every machine
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "svg.hashsalt": "flow-rl-zoo",  # the same figure gives the same file
    "svg.fonttype": "path",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_OFFLINE_SHADE = "#f2f2f2"


def all_figures(comparison: Comparison, baseline: str) -> dict[str, Figure]:
    """Return every figure of a report.

    :param comparison: the comparison, computed with curves.
    :param baseline: the method that improvements are measured against.
    :return: name -> figure, without those that have nothing to show; close them with `close`.
    """
    looks = method_styles(comparison.methods)
    with plt.rc_context(_FONTS):
        figures = {
            "aggregates": plot_aggregates(comparison, looks),
            "profiles": plot_profiles(comparison, looks),
            "improvement": plot_improvement(comparison, looks, baseline),
            "sample_efficiency": plot_sample_efficiency(comparison, looks),
            "domains" if comparison.kind is SUCCESS else "environments": plot_domains(comparison, looks),
        }
    suffix = comparison.kind.suffix
    return {f"{name}{suffix}": figure for name, figure in figures.items() if figure is not None}


def save(figure: Figure, path: Any, kind: str) -> None:
    """Write a figure.

    :param figure: the figure.
    :param path: a path or an open binary file.
    :param kind: ``"svg"`` or ``"png"``.
    """
    metadata = {"Date": None} if kind == "svg" else {}
    with plt.rc_context(_FONTS):
        figure.savefig(path, format=kind, dpi=200, bbox_inches="tight", metadata=metadata)


def close(figures: Iterable[Figure]) -> None:
    """Free figures.

    :param figures: what `all_figures` returned.
    """
    for figure in figures:
        plt.close(figure)


def plot_aggregates(comparison: Comparison, looks: Mapping[str, Style]) -> Figure | None:
    """Return mean and IQM with intervals, for each method and phase.

    :param comparison: the comparison.
    :param looks: name -> style.
    :return: the figure, or None without aggregates; a method without an interval is a line, one that was not evaluated
        is empty.
    """
    kind = comparison.kind
    panels = [(p, metric) for p in comparison.phases.values() if p.aggregates for metric in ("mean", "iqm")]
    names = [name for name in ranking(comparison)[::-1] if any(name in phase.aggregates for phase, _ in panels)]
    if not names:
        return None
    points = {name: np.full(len(panels), np.nan) for name in names}
    bounds = {name: np.full((2, len(panels)), np.nan) for name in names}
    for column, (phase, metric) in enumerate(panels):
        for name, cell in phase.aggregates.items():
            estimate = cell.estimates.get(metric)
            if estimate is not None:
                points[name][column] = kind.scale * estimate.point
                bounds[name][:, column] = kind.scale * np.array(estimate.interval or (estimate.point,) * 2)
    titles = [f"{phase.name} {METRICS[metric]}{kind.title.replace(', ', chr(10))}" for phase, metric in panels]
    figure, axes = plot_utils.plot_interval_estimates(
        points,
        bounds,
        metric_names=titles,
        algorithms=names,
        colors={name: looks[name].colour for name in names},
        subfigure_width=2.4,
        row_height=max(0.26, 1.6 / len(names)),
        xlabel="",
    )
    for column, ax in enumerate(np.atleast_1d(axes)):
        _tidy_intervals(ax, [bounds[name][:, column] for name in names], [looks[name] for name in names], kind)
    np.atleast_1d(axes)[0].set_yticklabels(map(_text, names), fontsize=9)
    return figure


def plot_profiles(comparison: Comparison, looks: Mapping[str, Style]) -> Figure | None:
    """Return the performance profiles of each phase, with bands.

    :param comparison: the comparison.
    :param looks: name -> style.
    :return: the figure, or None without single runs.
    """
    phases = [phase for phase in comparison.phases.values() if phase.profiles]
    if not phases:
        return None
    kind = comparison.kind
    shown = [phase.profiles for phase in phases]
    figure, axes = plt.subplots(1, len(phases), figsize=(4.6 * len(phases), 3.6), squeeze=False, sharey=True)
    for ax, phase in zip(axes[0], phases, strict=True):
        plot_utils.plot_performance_profiles(
            {name: curve.points for name, curve in phase.profiles.items()},
            phase.thresholds,
            {name: curve.bounds for name, curve in phase.profiles.items() if curve.bounds is not None},
            ax=ax,
            colors={name: looks[name].colour for name in phase.profiles},
            linestyles={name: looks[name].dash for name in phase.profiles},
            xticks=None,
            xlabel=rf"{'score' if kind is SUCCESS else kind.name} $\tau$",
            ylabel=r"fraction of runs above $\tau$" if ax is axes[0, 0] else "",
            labelsize=9,
            ticklabelsize=9,
            wrect=3,
            hrect=3,
        )
        for line, name in zip(ax.lines, phase.profiles, strict=True):  # rliable widens the first line only
            line.set_linewidth(looks[name].line["linewidth"])
        _thin_axes(ax)
        limits = (0, 1) if kind is SUCCESS else (phase.thresholds[0], phase.thresholds[-1])
        ax.set(title=_phase_title(phase) + kind.title, xlim=limits, ylim=(0, 1.01))
    _legend_below(figure, looks, [name for name in ranking(comparison) if any(name in part for part in shown)])
    return figure


def plot_improvement(comparison: Comparison, looks: Mapping[str, Style], baseline: str) -> Figure | None:
    """Return P(method > baseline) and the difference of means, for each phase.

    :param comparison: the comparison.
    :param looks: name -> style.
    :param baseline: whom to improve on.
    :return: the figure, or None if no method with single runs meets the baseline; without differences where scores of
        tasks cannot be averaged.
    """
    kind = comparison.kind
    names = [
        n for n in ranking(comparison)[::-1] if any((n, baseline) in p.improvements for p in comparison.phases.values())
    ]
    panels: list[tuple[str, str, dict[str, Estimate | None]]] = []
    for phase in comparison.phases.values():
        found = {name: phase.improvements.get((name, baseline)) for name in names}
        for quantity in ("probability", "difference"):
            estimates = {name: pair and getattr(pair, quantity) for name, pair in found.items()}
            if any(estimates.values()):
                panels.append((phase.name, quantity, estimates))
    if not panels:
        return None
    size = (max(2.6 * len(panels), 5.2), 1.5 + 0.24 * len(names))
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    unit = "points" if kind is SUCCESS else kind.unit
    for ax, (phase_name, quantity, estimates) in zip(axes[0], panels, strict=True):
        if quantity == "probability":
            _intervals(ax, estimates, looks, 1.0, 0.5)
            ax.set(xlim=(0, 1), xlabel="probability of a better run", title=phase_name)
        else:
            _intervals(ax, estimates, looks, kind.scale, 0.0)
            ax.set(xlabel=f"difference of means ({unit})", title=phase_name)
    axes[0, 0].set_yticks(range(len(names)), [_text(name) for name in names])
    figure.suptitle(_text(f"against {baseline}{kind.title}"), fontsize=10)
    figure.tight_layout()
    return figure


def plot_sample_efficiency(comparison: Comparison, looks: Mapping[str, Style]) -> Figure | None:
    """Return mean and IQM at every evaluation, offline and online shaded.

    :param comparison: the comparison.
    :param looks: name -> style.
    :return: the figure, or None without single runs.
    """
    if not any(phase.curves for phase in comparison.phases.values()):
        return None
    kind = comparison.kind
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.8), sharey=True)
    shown = [phase.curves for phase in comparison.phases.values()]
    low, high = _score_limits(kind, [curve for part in shown for c in part.values() for curve in (c.mean, c.iqm)])
    for ax, metric in zip(axes, ("mean", "iqm"), strict=True):
        _plot_phases(ax, shown, metric, looks, kind)
        ax.set_title(METRICS[metric] + kind.title, loc="left")
        border = _decorate_steps(ax, shown, (low, high))
        for name, side in (("offline ", "right"), (" online", "left")) if border else ():
            ax.text(border, high + (high - low) / 102, name, ha=side, va="bottom", fontsize=8, color="#555555")
    axes[0].set_ylabel(kind.unit)
    _legend_below(figure, looks, [name for name in ranking(comparison) if any(name in part for part in shown)])
    return figure


def plot_domains(comparison: Comparison, looks: Mapping[str, Style]) -> Figure | None:
    """Return one panel of mean learning curves for each domain.

    Returns have one panel for each environment, each with an axis of its own.

    :param comparison: the comparison.
    :param looks: name -> style.
    :return: the figure, or None without single runs.
    """
    kind = comparison.kind
    domains = sorted({d for phase in comparison.phases.values() for d, curves in phase.domain_curves.items() if curves})
    if not domains:
        return None
    shown = [curves for phase in comparison.phases.values() for curves in phase.domain_curves.values()]
    columns = min(5, len(domains))
    rows = -(-len(domains) // columns)
    size = (max(2.3 * columns, 4.5), 2.0 * rows + 0.4)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=kind is SUCCESS)
    for ax, domain in zip(axes.flat, domains, strict=False):
        parts = [phase.domain_curves.get(domain, {}) for phase in comparison.phases.values()]
        _plot_phases(ax, parts, "mean", looks, kind)
        ax.set_title(_text(domain), fontsize=8.5)
        _decorate_steps(ax, parts, _score_limits(kind, [curve.mean for part in parts for curve in part.values()]))
        ax.set_xlabel("")
    for ax in axes.flat[len(domains) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel(kind.unit)
    figure.tight_layout()
    _legend_below(figure, looks, [name for name in ranking(comparison) if any(name in part for part in shown)])
    return figure


def _phase_title(phase: Phase) -> str:
    """Return a phase's name and step."""
    step = phase.common_step
    return phase.name if step is None else f"{phase.name}, {step:,} steps"


def _tidy_intervals(ax: Axes, bounds: Sequence[np.ndarray], looks: Sequence[Style], kind: Kind) -> None:
    """Put right what rliable leaves: labels, limits, and which bars are own runs."""
    for bar, style in zip(ax.patches, looks, strict=True):
        bar.set_alpha(0.85)
        if style.is_own:
            bar.set(edgecolor="black", linewidth=1.0)
    finite = np.concatenate([*bounds, np.empty(0)])
    finite = finite[np.isfinite(finite)]
    if len(finite):
        margin = 0.06 * max(finite.max() - finite.min(), 0.01 * kind.scale, 0.01 * np.abs(finite).max())
        ax.set_xlim(finite.min() - margin, finite.max() + margin)
    ax.set_ylim(-0.6, len(bounds) - 0.4)
    _thin_axes(ax)
    ax.tick_params(axis="x", labelsize=9)
    ax.set_title(ax.get_title(), fontsize=10)
    ax.set_xlabel(kind.unit, fontsize=9)


def _thin_axes(ax: Axes) -> None:
    """Give rliable's heavy axes the width of all others."""
    for side in ("left", "bottom"):
        ax.spines[side].set_linewidth(0.8)


def _intervals(
    ax: Axes, estimates: Mapping[str, Estimate | None], looks: Mapping[str, Style], scale: float, zero: float
) -> None:
    """Draw one estimate a row, and the line of no difference."""
    for row, (name, estimate) in enumerate(estimates.items()):
        if estimate is None:
            continue
        if estimate.interval is not None:
            low, high = (scale * bound for bound in estimate.interval)
            edge = "black" if looks[name].is_own else "none"
            ax.barh(row, high - low, left=low, height=0.6, color=looks[name].colour, alpha=0.85, edgecolor=edge)
        ax.vlines(scale * estimate.point, row - 0.3, row + 0.3, color="black", linewidth=1.2)
    ax.axvline(zero, color="black", linewidth=0.8, linestyle=":")
    ax.use_sticky_edges = False  # bars keep a distance from the axes
    ax.margins(x=0.06)
    ax.grid(axis="x", alpha=0.25)
    ax.tick_params(axis="y", length=0)


def _plot_phases(
    ax: Axes, parts: Sequence[Mapping[str, LearningCurve]], metric: str, looks: Mapping[str, Style], kind: Kind
) -> None:
    """Draw the curves of all phases; a method's next phase starts where its last one ended."""
    ends: dict[str, tuple[np.ndarray, Curve]] = {}
    border = _end_of_offline(parts) or 0
    for part in parts:
        for name, curve in part.items():
            steps, values = curve.steps, getattr(curve, metric)
            if part is not parts[0] and name not in parts[0] and steps[0] < border:
                steps = steps + border  # a method that starts online begins where the others go online
            if name in ends:
                steps, values = _joined(*ends[name], steps, values)
            _plot_curve(ax, steps, values, looks[name], kind)
            ends[name] = (steps, values)


def _joined(before: np.ndarray, start: Curve, steps: np.ndarray, curve: Curve) -> tuple[np.ndarray, Curve]:
    """Return a curve with the last point of the one before it in front."""
    bounds = None
    if start.bounds is not None and curve.bounds is not None:
        bounds = np.concatenate([start.bounds[:, -1:], curve.bounds], axis=1)
    points = np.concatenate([start.points[-1:], curve.points])
    return np.concatenate([before[-1:], steps]), Curve(points, bounds, curve.kind)


def _plot_curve(ax: Axes, steps: np.ndarray, curve: Curve, style: Style, kind: Kind) -> None:
    """Draw one learning curve with its band."""
    single = len(steps) == 1
    marker = style.marker if single or style.is_own else None
    ax.plot(steps, kind.scale * curve.points, marker=marker, markersize=3, **style.line)
    if curve.bounds is None:
        return
    low, high = kind.scale * curve.bounds
    if single:
        ax.vlines(steps, low, high, color=style.colour, alpha=0.4)
    ax.fill_between(steps, low, high, color=style.colour, alpha=0.15, linewidth=0)


def _decorate_steps(ax: Axes, parts: Sequence[Mapping[str, LearningCurve]], limits: tuple[float, float]) -> int | None:
    """Shade the offline phase, label the axes, and return where online steps begin (None if methods differ)."""
    last = max((int(curve.steps[-1]) for part in parts for curve in part.values()), default=0)
    border = _end_of_offline(parts)
    if border is not None:
        ax.axvspan(0, border, color=_OFFLINE_SHADE, zorder=0)
    ax.set(xlim=(0, last * 1.01 or 1), ylim=limits, xlabel="steps")
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(_short_steps)
    ax.grid(alpha=0.25)
    return border


def _score_limits(kind: Kind, curves: Sequence[Curve | None]) -> tuple[float, float]:
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


def _end_of_offline(parts: Sequence[Mapping[str, LearningCurve]]) -> int | None:
    """Return the last offline step if an online phase follows and all methods share it."""
    ends = {int(curve.steps[-1]) for curve in parts[0].values()}
    return ends.pop() if len(parts) == 2 and len(ends) == 1 else None


def _text(name: str) -> str:
    """Return a name in which matplotlib sees no formula."""
    return name.replace("$", r"\$")


def _short_steps(value: float, _: int) -> str:
    """Return 1500000 as ``1.5M`` and 5000 as ``5k``."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _legend_below(figure: Figure, looks: Mapping[str, Style], names: Sequence[str]) -> None:
    """Put one legend of the methods that were drawn under all panels."""
    handles = [
        Line2D([], [], marker=looks[name].marker if looks[name].is_own else None, markersize=3, **looks[name].line)
        for name in names
    ]
    width = max(1, int(figure.get_figwidth() / (0.6 + 0.085 * max(map(len, names)))))
    figure.legend(
        handles,
        [_text(name) for name in names],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=min(width, len(names)),
        frameon=False,
        fontsize=8.5,
        handlelength=3,
    )
