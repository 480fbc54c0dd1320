"""Figures with a line for each method: learning curves and performance profiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator
from rliable import plot_utils
from scipy.optimize import isotonic_regression

from zoo.report.comparison import ALL_TASKS, CURVE_COLUMNS, ComparedMethod, Phase, joined
from zoo.report.figures.context import Drawing, PlotContext, axis_limits, in_lines, most_lines
from zoo.report.figures.files import SHADE
from zoo.report.figures.styles import MUTED
from zoo.report.tables import only_task
from zoo.runs.folder import PHASES
from zoo.runs.scores import METRICS, SUCCESS


def profiles_figure(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw the performance profiles."""
    kind = context.kind
    size = context.size
    parts = dict(iter(phase.profiles.groupby("method")))
    names = context.shown(parts)
    runs = len(names) * len(phase.tasks) * phase.profiles["seeds"].max()
    if not names or runs == 1:
        return None  # a single run has a score, and no distribution
    thresholds = kind.scale * parts[names[0]]["tau"].to_numpy()
    fractions = {}
    bands = {}  # those of all methods would cover each other
    for name in names:
        profile = parts[name]
        fractions[name] = profile["fraction"]
        if context.styles[name].is_named:
            bands[name] = (profile["low"], profile["high"])
    figure = Figure(size.panel, layout="constrained")
    ax = figure.subplots()
    plot_utils.plot_performance_profiles(
        fractions,
        thresholds,
        bands,
        ax=ax,
        colors=context.colours,
        xlabel=f"threshold τ, {kind.unit}",
        ylabel="fraction of runs above τ",
    )
    for line, name in zip(ax.lines, names, strict=True):
        line.set(**context.styles[name].line)
    context.tidy(ax)
    ax.set_xlim(thresholds[0], thresholds[-1])
    if kind is SUCCESS:
        ax.set_xlim(0, 100)
    ax.set_ylim(0, 1.02)
    ax.set_title(f"{context.where}, {phase.tasks_label}")
    # all lines end at 0, so that they are not named there
    _add_legend(context, figure, names)
    title = context.title("Performance profiles")
    return Drawing(figure, title, names, _notes(context, phase.profiles))


def sample_efficiency_figure(context: PlotContext, metric: str) -> Drawing | None:
    """Draw the learning curves over all tasks; none of an IQM that is the mean, as that of fewer than four runs is."""
    size = context.size
    curves = _curves_of(context, metric, of_all=True)
    means = _curves_of(context, "mean", of_all=True)
    if curves.empty or (metric != "mean" and np.allclose(curves["value"], means["value"])):
        return None
    figure = Figure(size.panel, layout="constrained")
    ax = figure.subplots()
    names = _draw_curves(ax, context, curves)
    tasks = only_task(context.comparison) or context.comparison.curves_label
    ax.set_title(f"{METRICS[metric]}{context.kind.title}, {tasks}")
    is_shaded = _end_of_offline(curves) is not None
    ax.set_xlabel("steps (shaded: offline)" if is_shaded else "steps")
    ax.set_ylabel(context.kind.unit)
    _name_lines(ax, context, names)
    title = context.title(f"Sample efficiency, {METRICS[metric]}")
    return Drawing(figure, title, names, _notes(context, curves, is_shaded))


def _name_lines(ax: Axes, context: PlotContext, names: Sequence[str]) -> None:
    """Name the lines that are told apart at their ends, right of the panel; no two names cover each other.

    :param names: of the lines, in the order in which they were drawn.
    """
    low, high = ax.get_ylim()
    ends = {}
    for line, name in zip(ax.lines, names, strict=True):
        if context.styles[name].is_named:
            ends[name] = (np.clip(np.asarray(line.get_ydata())[-1], low, high) - low) / (high - low)
    if not ends:  # the focus and the baseline may be published without curves
        return
    order = sorted(ends, key=ends.__getitem__)
    labels = {name: in_lines(context.comparison.methods[name].title, 14, 2) for name in order}
    # the height of a line of text, in that of the panel, which is about three quarters of the figure
    line_height = context.size.inches(1) / (0.75 * context.size.panel[1])
    halves = np.array([line_height * most_lines([labels[name]]) / 2 for name in order])
    # the lowest places of names that stand close upon each other from the bottom of the panel
    lowest = np.cumsum(2 * halves) - halves - halves[0]
    # names keep their order and their height, and move as little as possible: a regression in which
    # what is above the lowest places may not fall
    above = isotonic_regression(np.array([ends[name] for name in order]) - lowest).x
    places = np.clip(above, 0, max(0, 1 - lowest[-1])) + lowest
    for name, place in zip(order, places, strict=True):
        ax.text(
            1.03,
            place,
            labels[name],
            color=context.styles[name].colour,
            va="center",
            transform=ax.transAxes,
        )


def domains_figure(context: PlotContext) -> Drawing | None:
    """Draw the learning curves over the tasks of each domain; of one task alone it is that over all tasks."""
    kind = context.kind
    size = context.size
    curves = _curves_of(context, "mean", of_all=False)
    domains = dict(iter(curves.groupby("where")))
    if not domains or only_task(context.comparison):
        return None
    fitting = max(1, round(size.wide / 2.5))  # panels of 2.5 inches have readable ticks
    width = size.wide / fitting
    columns = min(len(domains), fitting)
    rows = math.ceil(len(domains) / columns)
    figure = Figure((width * columns, 0.75 * width * rows), layout="constrained")
    share = columns > 1 and kind.is_comparable  # returns of two environments have no common axis
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=share).flat)
    for ax, (domain, points) in zip(axes, domains.items(), strict=False):
        _draw_curves(ax, context, points)
        ax.set_title(context.wrap(domain, 0.95 * width))
        ax.set_ylabel(kind.unit)
        ax.label_outer()
    # panels above an empty place are the last of their columns
    for ax in axes[len(domains) - columns : len(domains)]:
        ax.tick_params(labelbottom=True)
    names = context.shown(set(curves["method"]))
    for ax in axes[len(domains) :]:  # the last row may have room left
        ax.set_axis_off()
    _add_legend(context, figure, names, axes[len(domains) :])
    is_shaded = any(_end_of_offline(points) for points in domains.values())
    title = context.title(f"Learning curves of each {context.place}")
    return Drawing(figure, title, names, _notes(context, curves, is_shaded))


def _notes(context: PlotContext, table: pd.DataFrame, is_shaded: bool = False) -> list[str]:
    """Return what a caption says of bands, shades and grey lines; nothing of what is not drawn.

    :param table: the points of the lines, with the ends ``low`` and ``high`` of their intervals.
    """
    is_named = table["method"].map({name: style.is_named for name, style in context.styles.items()})
    banded = table[is_named]
    notes = []
    if (banded["low"] < banded["high"]).any():
        notes.append("Bands: point-wise 95% intervals.")
    if is_shaded:
        notes.append("Shaded: the offline phase.")
    if not is_named.all():
        notes.append("Grey: the other methods.")
    return notes


def _curves_of(context: PlotContext, metric: str, of_all: bool) -> pd.DataFrame:
    """Return the points of the learning curves of all phases, in the unit of the axis.

    :param of_all: whether over all tasks, or else over those of each domain.
    """
    tables = [phase.curves for phase in context.comparison.phases.values()]
    curves = joined(tables, CURVE_COLUMNS)
    curves = curves[(curves["metric"] == metric) & ((curves["where"] == ALL_TASKS) == of_all)]
    return curves.assign(**(context.kind.scale * curves[["value", "low", "high"]]))


def _draw_curves(ax: Axes, context: PlotContext, curves: pd.DataFrame) -> list[str]:
    """Draw learning curves of one place over all phases; return the methods that have one.

    A method that starts online begins where the others go online. A band much wider than the curves are apart is cut by
    the axis.
    """
    border = _end_of_offline(curves)
    parts = dict(iter(curves.groupby("method")))
    names = context.shown(parts)
    if border:
        ax.axvspan(0, border, color=SHADE[0], zorder=0)
    steps_of = {}
    bands = {}
    for name in names:
        curve = parts[name]
        steps = curve["step"].to_numpy(int)
        if border and _counts_online_steps_alone(context.comparison.methods[name], curve, border):
            steps = steps + border
        steps_of[name] = tuple(steps)
        ends = ["low", "high"]
        if not context.styles[name].is_named:
            # bands of all methods would cover each other: those of the grey ones have no width
            ends = ["value", "value"]
        bands[name] = curve[ends].to_numpy().T
    # methods of equal steps together: at each call rliable decorates the axis anew, which takes longer than their lines
    for steps, methods in groupby(names, steps_of.__getitem__):
        plot_utils.plot_sample_efficiency_curve(
            np.array(steps),
            {name: parts[name]["value"] for name in methods},
            bands,
            colors=context.colours,
            xlabel="",
            ylabel="",
            ax=ax,
        )
    for line, band, name in zip(ax.lines, ax.collections, names, strict=True):
        style = context.styles[name]
        marker = ""
        if len(steps_of[name]) == 1 or style.is_own:
            marker = "o"  # a curve of one point would not be seen
        line.set(**style.line, marker=marker, markersize=2.5)
        # rliable draws bands above earlier curves, and knows neither dashes nor layers
        band.set_zorder(style.line["zorder"] - 1)
    context.tidy(ax)
    ax.set_ylim(axis_limits(curves["value"], curves[["value", "low", "high"]]))
    if context.kind is SUCCESS:
        ax.set_ylim(0, 102)  # a curve at 100% is not cut in half
    ax.set_xlim(0, 1.01 * ax.dataLim.x1)
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 1.5M, 5k
    return names


def _counts_online_steps_alone(method: ComparedMethod, curve: pd.DataFrame, border: int) -> bool:
    """Return whether the steps of a method's curve begin with 0 at the end of the other methods' offline phase.

    Those of a method without an offline phase do, unless who published them put them behind that phase.

    :param border: the last offline step of the other methods.
    """
    steps = curve["step"]
    if (curve["phase"] == PHASES[0]).any():
        return False
    planned = [protocol.get("online_steps") for protocol in method.protocols.values()]
    # runs of several numbers of steps have them as text
    longest = max([number for number in planned if isinstance(number, int)], default=0)
    if not longest:
        return steps.min() < border
    return steps.max() <= longest


def _end_of_offline(curves: pd.DataFrame) -> int | None:
    """Return the last offline step if an online phase follows and all methods share it."""
    ends = curves[curves["phase"] == PHASES[0]].groupby("method")["step"].max()
    if curves["phase"].nunique() == 2 and ends.nunique() == 1:
        return ends.iloc[0]
    return None


def _add_legend(
    context: PlotContext, figure: Figure, methods: Sequence[str], free: Sequence[Axes] = ()
) -> None:
    """Name the methods that are told apart, and say how many others there are.

    :param free: panels without a line; the names stand in the first one, or else outside of the panels.
    """
    size = context.size
    handles = []  # made here: lines of a panel lack methods that only other panels have
    labels = []
    for name in methods:
        style = context.styles[name]
        if style.is_named:
            handle = Line2D([], [], markersize=3, **style.line)
            if style.is_own:
                handle.set_marker("o")
            handles.append(handle)
            labels.append(context.label(name))
    unnamed = len(methods) - len(labels)
    if unnamed:
        handles.append(Line2D([], [], color=MUTED[0], linewidth=0.7))
        labels.append(f"{unnamed} others")
    if free:
        free[0].legend(handles, labels, loc="center left", handlelength=2.2)
        return
    longest = max(map(len, "\n".join(labels).splitlines()))
    # 6: the letters' width of a handle and of the gap to the next column
    fitting = int(figure.get_figwidth() / size.letter / (longest + 6))
    columns = min(len(labels), max(1, fitting))
    lines = math.ceil(len(labels) / columns) * most_lines(labels) + 1
    # the panels keep their height: the figure grows by the legend
    figure.set_figheight(figure.get_figheight() + size.inches(lines))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        handlelength=2.2,
        columnspacing=1.2,
    )
