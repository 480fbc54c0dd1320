"""Figures of a comparison: aggregates, performance profiles, improvement, all pairs, and methods by tasks."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from zoo.report.comparison import Comparison, Phase, ranking
from zoo.report.figures.curves import plot_domains, plot_sample_efficiency
from zoo.report.figures.drawing import (
    LETTER,
    PAGE,
    Panel,
    Sheet,
    draw_curve,
    legend_below,
    literal,
    panel_width,
    plot_panels,
)
from zoo.report.figures.styles import method_styles, ranked_styles
from zoo.report.significance import compared_methods, family_of
from zoo.report.statistics.estimates import Array
from zoo.runs.read import short_name, split_environment
from zoo.runs.scores import METRICS, RETURN, SUCCESS

_MOST_NAMED_TASKS = 12  # more are named by their domains
_ROOM_FOR_NUMBER = 2.8  # font sizes that a cell is wide
_DARK = 0.45  # luminance below which a colour needs white text


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


def plot_pairs(comparison: Comparison, sheet: Sheet = PAGE) -> Figure | None:
    """Return the probability of improvement of row over column for every pair, or None below three methods.

    Pairs that are not clearly different, or not tested, are white. There are numbers where they fit.
    """
    shown = [(phase, compared_methods(comparison, phase)) for phase in comparison.phases.values()]
    shown = [(phase, names) for phase, names in shown if names]
    if not shown:
        return None
    labels = _labels(comparison, sheet)
    most = max(len(names) for _, names in shown)
    beside = max(len(labels[name]) for _, names in shown for name in names) * LETTER * sheet.text / 72
    # a matrix needs room for the names of its columns, which are on their side
    narrow = replace(sheet, panel=most * sheet.lines(1) + beside)
    figure, axes = narrow.panels(len(shown), 1.0)
    columns = axes[0].get_subplotspec().get_gridspec().ncols
    cell = (sheet.width / columns - beside - 0.35) / most
    tall, wide = min(cell, 2 * sheet.lines(1)), min(cell, 5 * sheet.lines(1))
    height = tall * most + beside + sheet.lines(4)
    figure.set_figheight(height * axes[0].get_subplotspec().get_gridspec().nrows + sheet.lines(3))
    norm, colours = Normalize(0, 1), matplotlib.colormaps["RdBu"]
    for ax, (phase, names) in zip(axes, shown, strict=True):
        points = np.array([[_probability(phase, x, y) for y in names] for x in names])
        family = family_of(comparison, phase)
        is_shown = np.array([[family.is_clear(x, y) for y in names] for x in names])
        _draw_matrix(ax, np.where(is_shown, points, np.nan), norm, colours)
        if cell >= _ROOM_FOR_NUMBER * sheet.text / 72:
            _write(ax, points, is_shown, norm, colours, sheet)
        ax.set_yticks(np.arange(len(names)) + 0.5, [labels[name] for name in names])
        ax.set_xticks(np.arange(len(names)) + 0.5, [labels[name] for name in names], rotation=90)
        ax.set_title(phase.name + comparison.kind.title)
        if wide < cell:  # few methods do not need the whole width
            ax.set_box_aspect(tall / wide)
    _add_scale(figure, axes, norm, colours, "probability of improvement (row)")
    return figure


def plot_heat_map(comparison: Comparison, sheet: Sheet = PAGE) -> Figure | None:
    """Return the mean of each method on each task of each phase with several.

    None for returns, which share no scale.
    """
    phases = [phase for phase in comparison.phases.values() if len(phase.per_task) > 1]
    if comparison.kind is RETURN or not phases:
        return None
    labels = _labels(comparison, sheet)
    tasks = sorted({task for phase in phases for task in phase.per_task}, key=lambda task: split_environment(task)[1:])
    rows = {
        phase.name: [
            name for name in ranking(comparison, phase) if any(name in cells for cells in phase.per_task.values())
        ]
        for phase in phases
    }
    figure, axes = replace(sheet, panel=sheet.width).panels(len(phases), 1.0, sharex=True)
    groups = _groups(tasks, (sheet.width - max(map(len, labels.values())) * LETTER * sheet.text / 72) / sheet.lines(1))
    below = max(len(line) for name, _ in groups for line in name.splitlines()) * LETTER * sheet.text / 72
    heights = [max(0.65, len(rows[phase.name]) * (sheet.lines(1) + 0.02)) + sheet.lines(2.5) for phase in phases]
    axes[0].get_subplotspec().get_gridspec().set_height_ratios(heights)
    figure.set_figheight(sum(heights) + below + sheet.lines(4))
    values = [
        cell.estimates["mean"].point for phase in phases for cells in phase.per_task.values() for cell in cells.values()
    ]
    scale = comparison.kind.scale
    low, high = (0.0, 1.0) if comparison.kind is SUCCESS else (min(0.0, *values), max(1.0, *values))
    norm, colours = Normalize(scale * low, scale * high), matplotlib.colormaps["viridis"]
    for ax, phase in zip(axes, phases, strict=True):
        names = rows[phase.name]
        points = np.array([[_mean(phase, task, name) for task in tasks] for name in names])
        ax.set_facecolor("#e4e4e4")  # what a method lacks
        _draw_matrix(ax, scale * points, norm, colours)
        ax.set_yticks(np.arange(len(names)) + 0.5, [labels[name] for name in names])
        ax.set_title(phase.name + comparison.kind.title)
        _name_groups(ax, groups)
    _add_scale(figure, axes, norm, colours, comparison.kind.unit)
    return figure


def _draw_matrix(ax: Axes, points: Array, norm: Normalize, colours: Colormap) -> None:
    """Draw a matrix with its first row on top; what is not a number has no colour."""
    mesh = ax.pcolormesh(np.ma.masked_invalid(points), norm=norm, cmap=colours, linewidth=0.4)
    mesh.set_edgecolor("#e4e4e4")
    ax.invert_yaxis()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _add_scale(figure: Figure, axes: Sequence[Axes], norm: Normalize, colours: Colormap, label: str) -> None:
    """Add the scale of the colours below all matrices; of more shades matplotlib would make a picture."""
    shades = ScalarMappable(norm, colours.resampled(48))
    bar = figure.colorbar(shades, ax=axes, location="bottom", shrink=0.5, aspect=30, pad=0.02)
    bar.set_label(label)
    bar.outline.set_visible(False)


def _write(ax: Axes, points: Array, is_coloured: np.ndarray, norm: Normalize, colours: Colormap, sheet: Sheet) -> None:
    """Write probabilities into the cells of a matrix without their leading zero."""
    for row, column in zip(*np.nonzero(~np.isnan(points)), strict=True):
        value = points[row, column]
        red, green, blue, _ = colours(norm(value))
        is_dark = is_coloured[row, column] and 0.3 * red + 0.59 * green + 0.11 * blue < _DARK
        text = f"{value:.2f}".removeprefix("0")
        where = {"ha": "center", "va": "center", "fontsize": 0.9 * sheet.text, "in_layout": False}
        ax.text(column + 0.5, row + 0.5, text, color="white" if is_dark else "black", **where)


def _groups(tasks: Sequence[str], room: float) -> list[tuple[str, int]]:
    """Return the names below a heat map and how many columns each is for: domains where there are many tasks.

    :param room: how many lines of text stand beside one another below the whole map.
    """
    are_many = len(tasks) > _MOST_NAMED_TASKS
    labels = [split_environment(task)[1] if are_many else short_name(task) for task in tasks]
    found = [(name, len(list(group))) for name, group in groupby(labels)]
    letters = 16 if room >= 2.2 * len(found) else 80
    return [("\n".join(textwrap.wrap(name, letters)), size) for name, size in found]


def _name_groups(ax: Axes, groups: Sequence[tuple[str, int]]) -> None:
    """Name the columns of a heat map, and divide its domains."""
    edges = np.cumsum([0, *(size for _, size in groups)])
    if edges[-1] > len(groups):
        ax.vlines(edges[1:-1], *ax.get_ylim(), color="white", linewidth=1.5)
    ax.set_xticks((edges[1:] + edges[:-1]) / 2, [literal(name) for name, _ in groups], rotation=90, ma="right")


def _labels(comparison: Comparison, sheet: Sheet) -> dict[str, str]:
    """Return what each method is called in a figure, with its mark, on one line."""
    looks = method_styles(comparison.methods)
    return {name: sheet.name(name, looks[name].mark).replace("\n", " ") for name in comparison.methods}


def _probability(phase: Phase, x: str, y: str) -> float:
    return np.nan if x == y else phase.improvements[x, y].probability.point


def _mean(phase: Phase, task: str, name: str) -> float:
    cell = phase.per_task.get(task, {}).get(name)
    return np.nan if cell is None else cell.estimates["mean"].point
