"""Figures of a comparison: aggregates, performance profiles and improvement."""

from __future__ import annotations

import matplotlib
from matplotlib.figure import Figure

from zoo.report.comparison import Comparison, ranking
from zoo.report.figures.curves import plot_domains, plot_sample_efficiency
from zoo.report.figures.drawing import PAGE, Panel, Sheet, draw_curve, legend_below, literal, panel_width, plot_panels
from zoo.report.figures.matrices import plot_heat_map, plot_pairs
from zoo.report.figures.styles import ranked_styles
from zoo.runs.scores import METRICS, SUCCESS


def all_figures(comparison: Comparison, baseline: str, sheet: Sheet = PAGE) -> dict[str, Figure]:
    """Return every figure of a comparison under its name, without those that have nothing to show."""
    with matplotlib.rc_context(sheet.fonts):
        figures = {
            "aggregates": plot_aggregates(comparison, sheet),
            "profiles": plot_profiles(comparison, sheet),
            "improvement": plot_improvement(comparison, baseline, sheet),
            "pairs": plot_pairs(comparison, sheet),
            "sample_efficiency": plot_sample_efficiency(comparison, sheet),
            "domains" if comparison.kind is SUCCESS else "environments": plot_domains(comparison, sheet),
            "heat_map": plot_heat_map(comparison, sheet),
        }
    suffix = comparison.kind.suffix
    return {f"{name}{suffix}": figure for name, figure in figures.items() if figure is not None}


def plot_aggregates(comparison: Comparison, sheet: Sheet = PAGE) -> Figure | None:
    """Return mean and IQM with intervals for each method and phase, or None without aggregates.

    A method without an interval is a line; one that was not evaluated is empty.
    """
    panels = aggregate_panels(comparison)
    return plot_panels(panels, ranked_styles(comparison, sheet.stroke), sheet) if panels else None


def aggregate_panels(comparison: Comparison) -> list[Panel]:
    """Return a panel for mean and IQM of each phase that has aggregates."""
    kind = comparison.kind
    return [
        Panel(
            title=f"{phase.name} {METRICS[metric]}{kind.title.replace(', ', chr(10))}",
            label=kind.unit,
            note=phase.tasks_label,
            estimates={
                name: phase.aggregates[name].estimates.get(metric)
                for name in ranking(comparison, phase)
                if name in phase.aggregates
            },
            scale=kind.scale,
            phase=phase.name,
        )
        for phase in comparison.phases.values()
        if phase.aggregates
        for metric in ("mean", "iqm")
    ]


def plot_profiles(comparison: Comparison, sheet: Sheet = PAGE) -> Figure | None:
    """Return the performance profiles of each phase with bands, or None without single runs."""
    phases = [phase for phase in comparison.phases.values() if phase.profiles]
    if not phases:
        return None
    kind, looks = comparison.kind, ranked_styles(comparison, sheet.stroke)
    figure, axes = sheet.panels(len(phases), 1.0 + 0.25 * sheet.width, sharey=True)
    for ax, phase in zip(axes, phases, strict=True):
        for name, curve in phase.profiles.items():
            draw_curve(ax, phase.thresholds, curve, looks[name])
        step = "" if phase.common_step is None else f", {phase.common_step:,} steps"
        limits = (0, 1) if kind is SUCCESS else (phase.thresholds[0], phase.thresholds[-1])
        ax.set(title=sheet.wrap(f"{phase.name}{step}{kind.title}", panel_width(ax)), xlim=limits, ylim=(0, 1.01))
        ax.set(xlabel=rf"{'score' if kind is SUCCESS else kind.name} $\tau$", yticks=[0, 0.25, 0.5, 0.75, 1])
        ax.spines[["left", "bottom"]].set_position(("outward", 3))  # curves at 0 and 1 stay visible
        ax.tick_params(length=0)
        ax.grid(alpha=0.25)
    axes[0].set_ylabel(r"fraction of runs above $\tau$")
    legend_below(figure, looks, [phase.profiles for phase in phases], sheet)
    return figure


def plot_improvement(comparison: Comparison, baseline: str, sheet: Sheet = PAGE) -> Figure | None:
    """Return the probability of improvement over the baseline and the difference of means, for each phase.

    None if no method with single runs meets the baseline; without differences where scores of tasks cannot be averaged.
    """
    panels = improvement_panels(comparison, baseline)
    if not panels:
        return None
    figure = plot_panels(panels, ranked_styles(comparison, sheet.stroke), sheet)
    title = sheet.wrap(f"against {baseline}{comparison.kind.title}", sheet.width - 0.3)
    figure.suptitle(literal(title), fontsize=sheet.text + 0.5)
    figure.set_figheight(figure.get_figheight() + sheet.lines(title.count("\n") + 1))
    return figure


def improvement_panels(comparison: Comparison, baseline: str) -> list[Panel]:
    """Return a panel for the probability and, where scores can be averaged, the difference of each phase."""
    kind = comparison.kind
    unit = "points" if kind is SUCCESS else kind.unit
    panels = []
    for phase in comparison.phases.values():
        pairs = {name: phase.improvements.get((name, baseline)) for name in ranking(comparison, phase)}
        found = {name: pair for name, pair in pairs.items() if pair is not None}
        chances = {name: pair.probability for name, pair in found.items()}
        differences = {name: pair.difference for name, pair in found.items()}
        if found:
            label = "probability of improvement"
            panels.append(Panel(phase.name, label, chances, 1, 0.5, (0, 1), phase=phase.name))
        if any(differences.values()):
            label = f"difference of means ({unit})"
            panels.append(Panel(phase.name, label, differences, kind.scale, 0.0, phase=phase.name))
    return panels
