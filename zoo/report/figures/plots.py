"""Figures of a comparison: aggregates, performance profiles, improvement, all pairs, and methods by tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from zoo.report.comparison import Comparison, Phase, baseline_of, ranking
from zoo.report.figures.curves import plot_domains, plot_sample_efficiency
from zoo.report.figures.drawing import (
    LETTER,
    PAGE,
    Panel,
    Sheet,
    draw_curve,
    label_ends,
    literal,
    panel_width,
    place_of,
    plot_panels,
)
from zoo.report.figures.styles import panel_styles
from zoo.report.significance import compared_methods, family_of, subject_of
from zoo.report.statistics.estimates import Array
from zoo.report.tables.entries import with_minus
from zoo.report.tables.verdict import BETTER, WORSE, verdicts
from zoo.runs.read import short_name, split_environment
from zoo.runs.scores import METRICS, RETURN, SUCCESS

_MOST_NAMED_TASKS = 12  # more are named by their domains
_ROOM_FOR_NUMBER = 2.2  # font sizes that a cell is wide
WORD_COLOURS = {BETTER: "#0b5394", WORSE: "#b04a00"}
QUIET = "#595d66"
_PALE = (38, 62)  # the colours of pairs that are not clearly different, as probabilities
_DARK = 0.52  # luminance below which a colour needs white text


def all_figures(comparison: Comparison, sheet: Sheet = PAGE) -> dict[str, Figure]:
    """Return every figure of a comparison under its name, without those that have nothing to show."""
    with matplotlib.rc_context(sheet.fonts):
        figures = {
            "verdict": plot_panels(verdict_panels(comparison), comparison, sheet),
            "aggregates": plot_panels(aggregate_panels(comparison), comparison, sheet),
            "profiles": plot_profiles(comparison, sheet),
            "improvement": plot_improvement(comparison, sheet),
            "pairs": plot_pairs(comparison, sheet),
            "sample_efficiency": plot_sample_efficiency(comparison, sheet),
            "domains" if comparison.kind is SUCCESS else "environments": plot_domains(comparison, sheet),
            "heat_map": plot_heat_map(comparison, sheet),
        }
    suffix = comparison.kind.suffix
    return {f"{name}{suffix}": figure for name, figure in figures.items() if figure is not None}


def verdict_panels(comparison: Comparison) -> list[Panel]:
    """Return a panel for each phase with a verdict: how far its subject is ahead of each other method, in words too."""
    kind, panels = comparison.kind, []
    for phase in comparison.phases.values():
        found = verdicts(comparison, phase)
        if not found:
            continue
        subject = comparison.methods[str(subject_of(comparison, phase))].title
        words = {v.other: (v.outcome, WORD_COLOURS.get(v.outcome, QUIET)) for v in found}
        about = dict[str, Any](title=f"{phase.name}{kind.title}: {subject} against", phase=phase.name, words=words)
        differences = {v.other: v.improvement.difference for v in found}
        if all(differences.values()):
            margin = 0.0 if kind is RETURN else kind.scale * comparison.resolve
            unit = "points" if kind is SUCCESS else kind.unit
            panels.append(Panel(label=f"difference of means ({unit})", estimates=differences, scale=kind.scale,
                                no_difference=0.0, margin=margin, **about))  # fmt: skip
        else:
            chances = {v.other: v.improvement.probability for v in found}
            panels.append(Panel(label="probability of improvement", estimates=chances, no_difference=0.5,
                                limits=(0, 1), **about))  # fmt: skip
    return panels


def aggregate_panels(comparison: Comparison) -> list[Panel]:
    """Return a panel for mean and IQM of each phase that has aggregates."""
    kind = comparison.kind
    return [
        Panel(
            title=f"{phase.name}, {METRICS[metric]}{kind.title}",
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
    kind, height = comparison.kind, 1.0 + 0.25 * sheet.width
    figure, axes = sheet.wider().panels(len(phases), height, sharey=True)
    for ax, phase in zip(axes, phases, strict=True):
        looks = panel_styles(comparison, phase, sheet.stroke)
        for name, curve in phase.profiles.items():
            draw_curve(ax, phase.thresholds, curve, looks[name])
        step = "" if phase.common_step is None else f", {phase.common_step:,} steps"
        limits = (0, 1) if kind is SUCCESS else (phase.thresholds[0], phase.thresholds[-1])
        ax.set(title=sheet.wrap(f"{phase.name}{step}{kind.title}", panel_width(ax)), xlim=limits, ylim=(0, 1.01))
        ax.set(xlabel=rf"{'score' if kind is SUCCESS else kind.name} $\tau$", yticks=[0, 0.25, 0.5, 0.75, 1])
        ax.spines[["left", "bottom"]].set_position(("outward", 3))  # curves at 0 and 1 stay visible
        ax.tick_params(length=0)
        ax.grid(alpha=0.25)
        label_ends(ax, {name: curve.points[-1] for name, curve in phase.profiles.items()}, looks, sheet, height - 0.8)
        if place_of(ax).is_first_col():
            ax.set_ylabel(r"fraction of runs above $\tau$")
    return figure


def plot_improvement(comparison: Comparison, sheet: Sheet = PAGE) -> Figure | None:
    """Return the probability of improvement over the baseline and the difference of means, for each phase.

    None if no method with single runs meets the baseline; without differences where scores of tasks cannot be averaged.
    """
    figure = plot_panels(improvement_panels(comparison), comparison, sheet)
    if figure is None:
        return None
    title = sheet.wrap(f"against {baseline_of(comparison)}{comparison.kind.title}", sheet.width - 0.3)
    figure.suptitle(literal(title), fontsize=sheet.text + 0.5)
    figure.set_figheight(figure.get_figheight() + sheet.lines(title.count("\n") + 1))
    return figure


def improvement_panels(comparison: Comparison) -> list[Panel]:
    """Return a panel for the probability and, where scores can be averaged, the difference of each phase."""
    kind, baseline = comparison.kind, baseline_of(comparison)
    unit = "points" if kind is SUCCESS else kind.unit
    panels = []
    for phase in comparison.phases.values():
        pairs = {name: phase.improvements.get((name, baseline)) for name in ranking(comparison, phase)}
        found = {name: pair for name, pair in pairs.items() if pair is not None}
        chances = {name: pair.probability for name, pair in found.items()}
        differences = {name: pair.difference for name, pair in found.items()}
        if found:
            title = f"{phase.name}, probability of improvement"
            panels.append(Panel(title, "probability", chances, 1, 0.5, (0, 1), phase=phase.name))
        if any(differences.values()):
            title = f"{phase.name}, difference of means"
            panels.append(Panel(title, unit, differences, kind.scale, 0.0, phase=phase.name))
    return panels


def plot_pairs(comparison: Comparison, sheet: Sheet = PAGE) -> Figure | None:
    """Return the probability of improvement of row over column for every pair, or None below three methods.

    Pairs that are not clearly different, or not tested, are pale. There are numbers, in %, where they fit.
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
    grid = place_of(axes[0]).get_gridspec()
    cell = (sheet.width / grid.ncols - beside - 0.35) / most
    tall, wide = min(cell, 2 * sheet.lines(1)), min(cell, 5 * sheet.lines(1))
    height = tall * most + beside + sheet.lines(4)
    figure.set_figheight(height * grid.nrows + sheet.lines(3))
    norm, colours = Normalize(0, 100), _colours(WORD_COLOURS[WORSE], "#ffffff", WORD_COLOURS[BETTER])
    for ax, (phase, names) in zip(axes, shown, strict=True):
        chances = {pair: found.probability.point for pair, found in phase.improvements.items()}
        points = 100 * np.array([[chances.get((x, y), np.nan) for y in names] for x in names])
        family = family_of(comparison, phase)
        is_clear = np.array([[family.is_clear(x, y) for y in names] for x in names])
        shades = np.where(is_clear, points, np.clip(points, *_PALE))
        _draw_matrix(ax, shades, norm, colours)
        if cell >= _ROOM_FOR_NUMBER * sheet.text / 72:
            _write(ax, points, colours(norm(shades)), sheet, is_clear)
        ax.set_yticks(np.arange(len(names)) + 0.5, [labels[name] for name in names])
        ax.set_xticks(np.arange(len(names)) + 0.5, [labels[name] for name in names], rotation=90)
        ax.set_title(phase.name + comparison.kind.title)
        if wide < cell:  # few methods do not need the whole width
            ax.set_box_aspect(tall / wide)
    _add_scale(figure, axes, norm, colours, "probability of improvement (row), in %")
    return figure


def plot_heat_map(comparison: Comparison, sheet: Sheet = PAGE) -> Figure | None:
    """Return the mean of each method on each task of each phase with several, with numbers where they fit.

    None for returns, which share no scale.
    """
    phases = [phase for phase in comparison.phases.values() if len(phase.per_task) > 1]
    if comparison.kind is RETURN or not phases:
        return None
    labels = _labels(comparison, sheet)
    figure, axes = replace(sheet, panel=sheet.width).panels(len(phases), 1.0)
    scale = comparison.kind.scale
    found = [cell.estimates["mean"].point for p in phases for cells in p.per_task.values() for cell in cells.values()]
    low, high = (0.0, 1.0) if comparison.kind is SUCCESS else (min(0.0, *found), max(1.0, *found))
    norm, colours = Normalize(scale * low, scale * high), _colours("#f5f8fa", "#0b4f8a")
    heights = []
    for ax, phase in zip(axes, phases, strict=True):
        tasks = sorted(phase.per_task, key=lambda task: split_environment(task)[1:])
        names = [name for name in ranking(comparison, phase) if any(name in cells for cells in phase.per_task.values())]
        points = scale * np.array([[_mean(phase, task, name) for name in names] for task in tasks])
        groups = _groups(tasks, sheet)
        is_thin = len(groups) < len(tasks)
        ax.set_facecolor("#e4e4e4")  # what a method lacks
        _draw_matrix(ax, points, norm, colours)
        across = [labels[name] for name in names]
        beside, above = (LETTER * sheet.text / 72 * max(map(len, texts)) for texts in (dict(groups), across))
        if not is_thin and sheet.width - beside - 0.4 >= len(names) * _ROOM_FOR_NUMBER * sheet.text / 72:
            _write(ax, points, colours(norm(points)), sheet)
        ax.xaxis.tick_top()
        ax.set_xticks(np.arange(len(names)) + 0.5, across, rotation=90)
        ax.set_title(phase.name + comparison.kind.title)
        _name_groups(ax, groups)
        heights.append(max(0.65, len(tasks) * sheet.lines(0.55 if is_thin else 1.15)) + above + sheet.lines(2.5))
    place_of(axes[0]).get_gridspec().set_height_ratios(heights)
    figure.set_figheight(sum(heights) + sheet.lines(4))
    _add_scale(figure, axes, norm, colours, comparison.kind.unit)
    return figure


def _colours(*colours: str) -> Colormap:
    """Return the colours of a matrix, as the page has them."""
    return LinearSegmentedColormap.from_list("matrix", colours)


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


def _write(ax: Axes, points: Array, colours: Array, sheet: Sheet, is_clear: np.ndarray | None = None) -> None:
    """Write whole numbers into the cells of a matrix; those that are not clear are grey."""
    for row, column in zip(*np.nonzero(~np.isnan(points)), strict=True):
        is_dark = colours[row, column, :3] @ [0.3, 0.59, 0.11] < _DARK
        ink = "white" if is_dark else "black" if is_clear is None or is_clear[row, column] else QUIET
        where: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 0.95 * sheet.text, "in_layout": False}
        ax.text(column + 0.5, row + 0.5, with_minus(f"{points[row, column]:.0f}"), color=ink, **where)


def _groups(tasks: Sequence[str], sheet: Sheet) -> list[tuple[str, int]]:
    """Return the names beside a heat map and how many rows each is for: domains where a paper has many tasks."""
    by_name = groupby(split_environment(task)[1] for task in tasks)
    domains = [(name, len(list(group))) for name, group in by_name]
    if sheet is PAGE or len(tasks) <= _MOST_NAMED_TASKS or min(size for _, size in domains) < 3:
        return [(short_name(task), 1) for task in tasks]
    return domains


def _name_groups(ax: Axes, groups: Sequence[tuple[str, int]]) -> None:
    """Name the rows of a heat map, and divide its domains."""
    edges = np.cumsum([0, *(size for _, size in groups)])
    if edges[-1] > len(groups):
        ax.hlines(edges[1:-1], *ax.get_xlim(), color="white", linewidth=1.5)
    ax.set_yticks((edges[1:] + edges[:-1]) / 2, [literal(name) for name, _ in groups])


def _labels(comparison: Comparison, sheet: Sheet) -> dict[str, str]:
    """Return what each method is called in a figure, with its mark, on one line."""
    return {name: sheet.name(name, m.mark).replace("\n", " ") for name, m in comparison.methods.items()}


def _mean(phase: Phase, task: str, name: str) -> float:
    cell = phase.per_task.get(task, {}).get(name)
    return np.nan if cell is None else cell.estimates["mean"].point
