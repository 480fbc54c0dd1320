"""The figures of a comparison: rliable and seaborn draw them, in the styles of the zoo.

What rliable draws is repaired where its plots mislead: labels stand at their axes whatever the number of methods, an
axis holds what it is about, and where methods are even there is a line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fnmatch import filter as matching
from functools import partial

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from zoo.report.comparison import OWN_RUNS, Comparison, Phase
from zoo.report.figures.context import Drawing, PlotContext, axis_limits, most_lines
from zoo.report.figures.curves import domains_figure, profiles_figure, sample_efficiency_figure
from zoo.report.figures.files import FIGURE_SIZES, SHADE, FigureSize, scale_colours
from zoo.report.figures.intervals import aggregates_figure, improvement_figure, verdict_figure
from zoo.report.scores_file import last_evaluations
from zoo.report.statistics.bootstrap import seeded
from zoo.report.statistics.estimates import Array
from zoo.report.statistics.means import FRACTION
from zoo.report.table_entries import number_text
from zoo.report.tables import SHOWN_METRICS
from zoo.runs.folder import short_name
from zoo.runs.scores import SUCCESS, ScoreKind, spread_digits

matplotlib.use("agg")  # figures are files, not windows

_CELL = 5  # letters for which a cell of a map has room


def all_figures(
    comparison: Comparison,
    evaluations: pd.DataFrame,
    size: FigureSize = FIGURE_SIZES["page"],
    only: str = "*",
) -> dict[str, Drawing]:
    """Return every figure of a comparison that has something to show: name -> figure.

    :param evaluations: of all runs that count; those of own runs are drawn one by one.
    :param only: a pattern of the names of the figures to draw.
    """
    context = PlotContext(comparison, evaluations, size)
    makers: dict[str, Callable[[], Drawing | None]] = {}
    for phase in comparison.phases.values():
        for name, draw in _FIGURES_OF_PHASES.items():
            makers[f"{name}_{phase.name}"] = partial(draw, replace(context, phase=phase), phase)
    for metric in SHOWN_METRICS:
        makers[f"sample_efficiency_{metric}"] = partial(sample_efficiency_figure, context, metric)
    makers[f"{context.place}s"] = partial(domains_figure, context)
    drawings = {}
    with matplotlib.rc_context(size.rc_params):
        for name in matching(makers, only):
            drawing = makers[name]()
            if drawing is not None:
                drawings[name + context.kind.suffix] = drawing
    return drawings


def heat_map_figure(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw the mean of each method on each task.

    Returns have no common scale, so a colour there lies between those of the worst and the best method of a task.
    """
    kind = context.kind
    size = context.size
    names = context.shown(phase.coverage)
    if len(phase.per_task) < 2:
        return None
    cells = pd.DataFrame(phase.per_task, names).T.rename(short_name)
    means = cells.map(lambda cell: kind.scale * cell.mean.point, na_action="ignore").astype(float)
    shades = means
    if not kind.is_comparable:
        low = means.min(axis=1)
        span = np.maximum(means.max(axis=1) - low, 1e-9)  # all methods may be equal on a task
        shades = means.sub(low, axis=0).div(span, axis=0)
    labels = [context.label(name, 1) for name in names]
    tasks = [context.wrap(name, 0.6 * size.wide) for name in means.index]
    longest = max(map(len, "\n".join(tasks).splitlines()))
    width = size.letter * (longest + _CELL * len(names) + 3)
    rows = 3 + 1.2 * most_lines(tasks) * len(means)
    height = size.letter * max(map(len, labels)) + size.inches(rows)
    figure = Figure((min(size.wide, max(width, 0.75 * size.width)), height))
    # without it each label that seaborn measures gets, and leaves, a renderer of 2 MB
    FigureCanvasAgg(figure)
    colour_limits = {}
    if kind.limits == FRACTION:
        colour_limits = {"vmin": 0, "vmax": 100}
    texts = None  # numbers that would overlap: a scale stands in for them
    if width <= size.wide:
        texts = _cell_texts(means.to_numpy(), kind)
    ax = sns.heatmap(
        shades,
        ax=figure.subplots(),
        cmap=ListedColormap([light for light, _ in scale_colours()]),
        linewidths=0.4,
        xticklabels=labels,
        yticklabels=tasks,
        annot=texts,
        fmt="",
        # the layout need not look for room for texts inside the panel
        annot_kws={"size": 0.9 * size.text, "in_layout": False},
        cbar=texts is None,
        cbar_kws={"location": "bottom", "shrink": 0.5},
        **colour_limits,
    )
    ax.set(facecolor=SHADE[0], xlabel=f"{phase.name}, {kind.unit}")  # the face is what is missing
    ax.xaxis.set_label_position("top")
    ax.xaxis.tick_top()
    ax.tick_params("x", rotation=90, length=0)
    ax.tick_params("y", rotation=0, length=0)
    # not before: seaborn draws labels that still lie across the panel, for which no layout may have room
    figure.set_layout_engine("constrained")
    return Drawing(figure, context.title("Mean of each method on each task"), names)


def _cell_texts(means: Array, kind: ScoreKind) -> list[list[str]]:
    """Return the texts of a map's cells, with the decimals that tell the methods apart.

    Scores on one scale have equally many everywhere, others those of their row.
    """
    texts = []
    digits = spread_digits(means.ravel())
    for row in means:
        if not kind.is_comparable:
            digits = spread_digits(row)
        texts.append([number_text(mean, digits) for mean in row])
    return texts  # also of NaN, which seaborn leaves out


def runs_figure(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw the last score of each own run."""
    kind = context.kind
    runs = context.evaluations
    is_shown = (
        (runs["source"] == OWN_RUNS) & (runs["kind"] == kind.name) & (runs["phase"] == phase.name)
    )
    last = last_evaluations(runs[is_shown])
    if len(last) < 2 or (not kind.is_comparable and last["environment"].nunique() > 1):
        return None
    names = context.shown(set(last["method"]))
    scores = kind.scale * last["score"]
    figure = Figure()  # its size follows from the rows
    with seeded():  # seaborn draws the jitter from NumPy's own generator
        ax = sns.stripplot(
            x=scores,
            y=last["method"],
            hue=last["method"],
            palette=context.colours,
            order=names,
            hue_order=names,
            size=3.5,
            alpha=0.5,
            jitter=0.25,
            legend=False,
            ax=figure.subplots(),
        )
    limits = axis_limits(scores, scores)
    if kind is SUCCESS:
        limits = (-2, 102)  # all of a point at 0% and at 100% is seen
    context.tidy_rows(ax, names, limits)
    ax.set(xlabel=kind.unit, ylabel="", title=f"{context.where}, single runs")
    context.fit_rows(figure, names, lines=2)
    return Drawing(figure, context.title("Last score of each own run"), names)


_FIGURES_OF_PHASES = {
    "verdict": verdict_figure,
    "aggregates": aggregates_figure,
    "profiles": profiles_figure,
    "improvement": improvement_figure,
    "heat_map": heat_map_figure,
    "runs": runs_figure,
}
"""Name -> function that draws this figure for one phase."""
