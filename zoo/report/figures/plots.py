"""The figures of a comparison: rliable and seaborn draw them, in the styles of the zoo.

What rliable draws is repaired where its plots mislead: labels stand at their axes whatever the number of methods, an
axis holds what it is about, and where methods are even there is a line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import filter as matching
from functools import partial

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from rliable import plot_utils

from zoo.report.comparison import OWN_RUNS, Comparison, Outcome, Phase, baseline_of
from zoo.report.figures.context import Drawing, PlotContext, axis_limits, most_lines
from zoo.report.figures.curves import domains_figure, profiles_figure, sample_efficiency_figure
from zoo.report.figures.files import (
    BETTER_COLOURS,
    FIGURE_SIZES,
    INK,
    PAPER,
    QUIET,
    SHADE,
    WORSE_COLOURS,
    FigureSize,
    scale_colours,
)
from zoo.report.figures.styles import FOCUS
from zoo.report.scores_file import last_evaluations
from zoo.report.statistics.bootstrap import seeded
from zoo.report.statistics.estimates import Array, Estimate, Improvement, Range
from zoo.report.statistics.means import FRACTION
from zoo.report.table_entries import number_text
from zoo.report.tables import SHOWN_METRICS, is_compared, only_task, shown_metrics
from zoo.runs.folder import short_name
from zoo.runs.scores import METRICS, SUCCESS, ScoreKind, spread_digits

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
    figure = Figure((min(size.wide, max(width, 0.75 * size.width)), height), layout="constrained")
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
        # seaborn would draw names of tasks upright, for which no layout may have room
        xticklabels=False,
        yticklabels=False,
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
    ax.set_xticks(np.arange(len(names)) + 0.5, labels, rotation=90)
    ax.set_yticks(np.arange(len(tasks)) + 0.5, tasks)
    ax.tick_params(length=0)
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


# -- estimates with their intervals, a row for each method ------------------------------------------------------------


@dataclass(frozen=True)
class _Panel:
    """Estimates of some methods on one axis.

    :param estimates: one for each method, in the order of the rows; None where a method has none.
    :param scale: the unit of the axis in that of the estimates.
    :param even: from where to where a method is neither better nor worse; None where there is no such place.
    :param holds: numbers that the axis holds beside the estimates.
    """

    title: str
    unit: str
    estimates: Sequence[Estimate | None]
    scale: float = 1.0
    even: Range | None = None
    holds: Range | None = None

    def values(self) -> Array:
        """Return the point, the low and the high end of each estimate on the axis: (methods, 3), NaN for None."""
        rows = np.full((len(self.estimates), 3), np.nan)
        for row, estimate in zip(rows, self.estimates, strict=True):
            if estimate is not None:
                row[:] = estimate.point, *(estimate.interval or (estimate.point, estimate.point))
        return self.scale * rows


def verdict_figure(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw how far the subject of a phase's verdict is ahead of each other method, and say it in words."""
    verdicts = phase.decision.verdicts
    if not is_compared(phase):
        return None
    subject = context.comparison.methods[str(phase.decision.subject)].title
    words = {Outcome.BETTER: BETTER_COLOURS, Outcome.WORSE: WORSE_COLOURS}
    colours = {}
    pairs = []
    for verdict in verdicts:
        colours[verdict.other] = words.get(verdict.outcome, QUIET)[0]
        pairs.append(verdict.improvement)
    # the last panel: differences, which verdicts are about, where there are any
    panels = _ahead(context, pairs, f"{subject} against")[-1:]
    title = f"{subject} against each other method"
    drawing = _intervals(context, list(colours), panels, title, colours)
    ax = drawing.figure.axes[0]
    for row, verdict in enumerate(verdicts):
        ax.text(
            1.03,
            row,
            verdict.outcome,
            color=colours[verdict.other],
            va="center",
            transform=ax.get_yaxis_transform(),  # x as a fraction of the panel
        )
    if drawing.notes and any(pair.difference for pair in pairs):
        return replace(drawing, notes=["Bars exclude 0 exactly where the difference is clear."])
    return drawing


def improvement_figure(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw the probability of improvement over the baseline, with the difference of means beside it."""
    baseline = baseline_of(context.comparison)
    names = context.shown([x for x, y in phase.improvements if y == baseline])
    if not names:
        return None
    pairs = [phase.improvements[name, baseline] for name in names]
    panels = _ahead(context, pairs, f"over {baseline}")
    return _intervals(context, names, panels, f"Probability of improvement over {baseline}")


def _ahead(context: PlotContext, pairs: Collection[Improvement], title: str) -> list[_Panel]:
    """Return panels of how methods compare with one: by probability, and where there are means by their difference."""
    kind = context.kind
    chances = _Panel(
        title,
        "probability of improvement",
        [pair.probability for pair in pairs],
        even=(0.5, 0.5),
        holds=(0.0, 1.0),
    )
    panels = [chances]
    differences = [pair.difference for pair in pairs]
    if any(differences):
        margin = 0.0
        if kind.is_comparable:
            margin = kind.scale * context.comparison.resolve
        unit = f"difference of means, {kind.unit}"
        if kind is SUCCESS:
            unit = "difference of means, points"
        even = (-margin, margin)
        panels.append(_Panel(title, unit, differences, kind.scale, even))
    return panels


def aggregates_figure(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw the mean and the IQM of each method; published means have no IQM."""
    kind = context.kind
    names = context.shown(phase.aggregates)
    metrics = shown_metrics(phase.aggregates)
    panels = []
    for metric in metrics:
        estimates = [phase.aggregates[name].estimates.get(metric) for name in names]
        unit = f"{kind.unit}\n{only_task(context.comparison) or phase.tasks_label}"
        panels.append(_Panel(METRICS[metric], unit, estimates, kind.scale))
    if not names or (len(names) == 1 and not np.ptp(panels[0].values())):
        return None  # a method alone without an interval would be one point
    title = " and ".join(METRICS[metric] for metric in metrics)
    drawing = _intervals(context, names, panels, title.replace("mean", "Mean", 1))
    if "iqm" in metrics:
        note = "IQM: the mean of the middle half of all runs; near 0 and 100% it saturates, so read the mean first."
        drawing = replace(drawing, notes=[*drawing.notes, note])
    return drawing


def _intervals(
    context: PlotContext,
    names: list[str],
    panels: Sequence[_Panel],
    subject: str,
    colours: Mapping[str, str] | None = None,
) -> Drawing:
    """Draw estimates in panels beside one another.

    :param names: of the methods, the first one on top.
    :param colours: of the methods, in place of those of their styles.
    """
    width = 0.6 / len(panels) * context.size.width
    colours = colours or context.colours
    values_by_panel = []
    titles = []
    for panel in panels:
        values_by_panel.append(panel.values())
        titles.append(context.wrap(f"{context.where}, {panel.title}", width))
    values = np.stack(values_by_panel, axis=-1)  # (methods, 3, panels)
    figure, _ = plot_utils.plot_interval_estimates(
        dict(zip(names, values[:, 0], strict=True)),
        dict(zip(names, values[:, 1:], strict=True)),
        titles,
        colors=colours,
        xlabel="",  # rliable has one for all panels, below the middle of the figure
    )
    plt.close(figure)  # pyplot forgets it; the figure stays
    for k, (ax, panel) in enumerate(zip(figure.axes, panels, strict=True)):
        for mean, bar, name in zip(ax.collections, ax.patches, names, strict=True):
            mean.set_color(INK[0])  # rliable's black has no counterpart on dark paper
            if context.comparison.methods[name].is_own:
                bar.set(edgecolor=INK[0], linewidth=0.8)
            # a dark line would not be seen on the dark bar of the focus
            if colours[name] == FOCUS[0] and bar.get_width() > 0:
                mean.set_color(PAPER[0])
        estimates = values[..., k]
        shown = estimates[:, 0]
        if panel.even is not None:
            shown = np.append(shown, panel.holds or panel.even)
            ax.axvspan(*panel.even, color=SHADE[0], zorder=0)
            ax.axvline(np.mean(panel.even), color=INK[0], linewidth=0.8, linestyle=":")
        elif len(names) == 1:
            # a point alone has no spread that an axis could show, so its whole interval counts
            shown = estimates
        context.tidy_rows(ax, names, axis_limits(shown, np.append(shown, estimates)))
        ax.set_xlabel("\n".join(context.wrap(line, width) for line in panel.unit.splitlines()))
    context.fit_rows(figure, names)
    notes = []
    if (values[:, 1] < values[:, 2]).any():
        notes.append("Bars: 95% intervals.")
    return Drawing(figure, context.title(subject), names, notes)


_FIGURES_OF_PHASES = {
    "verdict": verdict_figure,
    "aggregates": aggregates_figure,
    "profiles": profiles_figure,
    "improvement": improvement_figure,
    "heat_map": heat_map_figure,
    "runs": runs_figure,
}
"""Name -> function that draws this figure for one phase."""
