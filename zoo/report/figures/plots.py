"""The figures of a comparison: rliable and seaborn draw them, in the styles of the zoo.

What rliable draws is repaired where its plots mislead: labels stand at their axes whatever the number of methods, an
axis holds what it is about, and where methods are even there is a line.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import filter as matching
from functools import cached_property, partial

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import ArrayLike
from rliable import plot_utils

from zoo.report.comparison import (
    ALL_TASKS,
    CURVE_COLUMNS,
    OWN_RUNS,
    ComparedMethod,
    Comparison,
    Outcome,
    Phase,
    baseline_of,
    joined,
)
from zoo.report.figures.files import (
    BETTER_COLOURS,
    FIGURE_SIZES,
    INK,
    QUIET,
    SHADE,
    WORSE_COLOURS,
    FigureSize,
    scale_colours,
)
from zoo.report.figures.styles import MUTED, Style, panel_styles
from zoo.report.scores_file import last_evaluations
from zoo.report.statistics.bootstrap import seeded
from zoo.report.statistics.estimates import Array, Estimate, Improvement, Range
from zoo.report.statistics.means import FRACTION
from zoo.report.tables import SHOWN_METRICS
from zoo.runs.folder import PHASES, short_name
from zoo.runs.scores import METRICS, SUCCESS, ScoreKind, spread_digits

matplotlib.use("agg")  # figures are files, not windows

_CELL = 5  # letters for which a cell of a map has room


@dataclass(frozen=True)
class Drawing:
    """One figure.

    :param title: what it shows.
    :param methods: those in it, in their order.
    """

    figure: Figure
    title: str
    methods: Sequence[str]


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
    makers = {}
    for phase in comparison.phases.values():
        for make in (_verdict, _aggregates, _profiles, _improvement, _heat_map, _runs):
            name = f"{make.__name__.removeprefix('_')}_{phase.name}"
            makers[name] = partial(make, replace(context, phase=phase), phase)
    for metric in SHOWN_METRICS:
        makers[f"sample_efficiency_{metric}"] = partial(_sample_efficiency, context, metric)
    makers[f"{context.place}s"] = partial(_domains, context)
    drawings = {}
    with matplotlib.rc_context(size.rc_params):
        for name in matching(makers, only):
            drawing = makers[name]()
            if drawing is not None:
                drawings[name + context.kind.suffix] = drawing
    return drawings


@dataclass(frozen=True)
class PlotContext:
    """What the figures about one phase, or about all of them, have in common."""

    comparison: Comparison
    evaluations: pd.DataFrame
    size: FigureSize
    phase: Phase | None = None

    @property
    def kind(self) -> ScoreKind:
        """The kind of scores."""
        return self.comparison.kind

    @cached_property
    def styles(self) -> dict[str, Style]:
        """How each method is drawn, the best first."""
        return panel_styles(self.comparison, self.phase)

    @property
    def colours(self) -> dict[str, str]:
        """The colour of each method."""
        return {name: style.colour for name, style in self.styles.items()}

    def shown(self, names: Collection[str]) -> list[str]:
        """Return methods in the order in which they are drawn."""
        return [name for name in self.styles if name in names]

    def label(self, method: str, most_lines: int = 2) -> str:
        """Return what a method is called, in few lines."""
        about = self.comparison.methods[method]
        return _lines(about.name, self.size.letters - len(about.mark), most_lines) + about.mark

    def wrap(self, text: str, width: float) -> str:
        """Return a text in lines of at most some inches."""
        return _lines(text, int(width / self.size.letter))

    @property
    def place(self) -> str:
        """What has a panel of its own among the learning curves."""
        if self.kind is SUCCESS:
            return "domain"
        return "environment"

    @property
    def where(self) -> str:
        """The phase and the kind of scores."""
        if self.phase is None:
            return self.kind.title
        return f"{self.phase.name}{self.kind.title}"

    def title(self, subject: str) -> str:
        """Return a title that names the phase and the kind of scores."""
        if self.phase is None:
            return f"{subject}{self.where}"
        return f"{subject}, {self.where}"

    def tidy(self, ax: Axes) -> None:
        """Undo what rliable does to an axis for a slide: large texts, and thick lines away from the panel."""
        # rliable sets all this itself, so that the settings of `rc_context` do not reach it
        ax.spines[:].set_linewidth(0.6)
        sns.despine(ax=ax, offset=3)
        ax.tick_params(length=2.5, width=0.6, labelsize=self.size.text)
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            text.set_fontsize(self.size.text)
        ax.grid(visible=True)

    def tidy_rows(self, ax: Axes, names: Sequence[str], limits: Range) -> None:
        """Do so for an axis with a row for each method, the first one on top; bars of own ones are outlined."""
        self.tidy(ax)
        ax.grid(visible=False, axis="y")
        ax.tick_params("y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set(xlim=limits, ylim=(len(names) - 0.4, -0.6))
        for point in ax.findobj(LineCollection):  # the vertical lines of estimates
            point.set_color(INK[0])
        # there are no bars of single runs, and more patches than bars where a band says what is even
        for bar, name in zip(ax.patches, names, strict=False):
            if self.comparison.methods[name].is_own:
                bar.set(edgecolor=INK[0], linewidth=0.8)

    def fit_rows(self, figure: Figure, names: Sequence[str], lines: int = 1) -> None:
        """Name the rows, and make a figure as high as they are, with room for the texts around them.

        :param lines: of text for which a row has room, in place of one.
        """
        labels = list(map(self.label, names))
        figure.axes[0].set_yticks(range(len(names)), labels)
        # titles and units are broken into lines, beside 3.5 lines of ticks and gaps
        around = _height(ax.get_title() + ax.get_xlabel() for ax in figure.axes)
        rows = max(0.6, lines * len(names) * self.size.inches(1.15 * _height(labels)))
        figure.set_layout_engine("constrained")  # rliable's figures have none
        figure.set_size_inches(self.size.width, rows + self.size.inches(3.5 + around))


def _lines(text: str, letters: int, max_lines: int | None = None) -> str:
    """Return a text in lines; a long name is broken after an underscore."""
    # textwrap breaks at spaces and hyphens only
    lines = textwrap.wrap(text.replace("_", "_ "), letters, max_lines=max_lines, placeholder="…")
    return "\n".join(lines).replace("_ ", "_")


def _height(labels: Iterable[str]) -> int:
    """Return how many lines the highest of some labels has."""
    return max(label.count("\n") + 1 for label in labels)


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


def _verdict(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw how far the subject of a phase's verdict is ahead of each other method, and say it in words."""
    verdicts = phase.decision.verdicts
    if not verdicts:
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
    return drawing


def _improvement(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw the probability of improvement over the baseline, with the difference of means beside it."""
    baseline = baseline_of(context.comparison)
    pairs = {}
    for name in context.styles:  # in the order in which they are drawn
        if (name, baseline) in phase.improvements:
            pairs[name] = phase.improvements[name, baseline]
    if not pairs:
        return None
    panels = _ahead(context, pairs.values(), f"over {baseline}")
    return _intervals(
        context,
        list(pairs),
        panels,
        f"Probability of improvement over {baseline}",
    )


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


def _aggregates(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw the mean and the IQM of each method; published means have no IQM."""
    kind = context.kind
    names = context.shown(phase.aggregates)
    panels = []
    for metric in SHOWN_METRICS:
        estimates = [phase.aggregates[name].estimates.get(metric) for name in names]
        if any(estimates):
            unit = f"{kind.unit}\n{phase.tasks_label}"
            panels.append(_Panel(METRICS[metric], unit, estimates, kind.scale))
    if not panels:
        return None
    return _intervals(context, names, panels, "Mean and IQM")


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
        colors=colours or context.colours,
        xlabel="",  # rliable has one for all panels, below the middle of the figure
    )
    plt.close(figure)  # pyplot forgets it; the figure stays
    for k, (ax, panel) in enumerate(zip(figure.axes, panels, strict=True)):
        estimates = values[..., k]
        shown = estimates[:, 0]
        if panel.even is not None:
            shown = np.append(shown, panel.holds or panel.even)
            ax.axvspan(*panel.even, color=SHADE[0], zorder=0)
            ax.axvline(np.mean(panel.even), color=INK[0], linewidth=0.8, linestyle=":")
        elif len(names) == 1:
            # a point alone has no spread that an axis could show, so its whole interval counts
            shown = estimates
        context.tidy_rows(ax, names, _cut(shown, np.append(shown, estimates)))
        ax.set_xlabel("\n".join(context.wrap(line, width) for line in panel.unit.splitlines()))
    context.fit_rows(figure, names)
    return Drawing(figure, context.title(subject), names)


def _cut(values: ArrayLike, ends: ArrayLike) -> Range:
    """Return the limits of an axis with all values `values`, and the `ends` of intervals that are not far from them."""
    low = np.nanmin(values)
    high = np.nanmax(values)
    span = high - low or 0.1 * abs(high) or 1.0  # equal values need an axis too, also if all are 0
    # half the span more on either side: a wide interval may not press the others together
    low = max(np.nanmin(ends), low - span / 2)
    high = min(np.nanmax(ends), high + span / 2)
    margin = 0.05 * (high - low or span)
    return low - margin, high + margin


# -- curves -----------------------------------------------------------------------------------------------------------


def _profiles(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw the performance profiles."""
    kind = context.kind
    size = context.size
    parts = dict(iter(phase.profiles.groupby("method")))
    names = context.shown(parts)
    if not names:
        return None
    thresholds = kind.scale * parts[names[0]]["tau"].to_numpy()
    fractions = {}
    bands = {}  # those of all methods would cover each other
    for name in names:
        profile = parts[name]
        fractions[name] = profile["fraction"]
        if context.styles[name].is_named:
            bands[name] = (profile["low"], profile["high"])
    figure = Figure((size.width, 0.62 * size.width), layout="constrained")
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
    return _with_legend(context, figure, names, "Performance profiles")


def _sample_efficiency(context: PlotContext, metric: str) -> Drawing | None:
    """Draw the learning curves over all tasks."""
    size = context.size
    curves = _curves_of(context, metric)
    curves = curves[curves["where"] == ALL_TASKS]
    if curves.empty:
        return None
    figure = Figure((size.width, 0.62 * size.width), layout="constrained")
    ax = figure.subplots()
    names = _draw_curves(ax, context, curves)
    ax.set_title(f"{METRICS[metric]}{context.kind.title}, {context.comparison.curves_label}")
    ax.set_xlabel("steps")
    if _end_of_offline(curves):
        ax.set_xlabel("steps (shaded: offline)")
    ax.set_ylabel(context.kind.unit)
    return _with_legend(context, figure, names, f"Sample efficiency, {METRICS[metric]}")


def _domains(context: PlotContext) -> Drawing | None:
    """Draw the learning curves over the tasks of each domain."""
    kind = context.kind
    curves = _curves_of(context, "mean")
    curves = curves[curves["where"] != ALL_TASKS]
    domains = dict(iter(curves.groupby("where")))
    if not domains:
        return None
    fitting = max(1, round(context.size.wide / 2.5))  # panels of 2.5 inches have readable ticks
    width = context.size.wide / fitting
    columns = min(len(domains), fitting)
    rows = math.ceil(len(domains) / columns)
    figure = Figure((width * columns, 0.75 * width * rows), layout="constrained")
    share = columns > 1 and kind.is_comparable  # returns of two environments have no common axis
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share).ravel()
    for ax, (domain, points) in zip(axes, domains.items(), strict=False):
        _draw_curves(ax, context, points)
        ax.set_title(context.wrap(domain, 0.95 * width))
        ax.set_ylabel(kind.unit)
        ax.label_outer()
    for ax in axes[len(domains) :]:  # the last row may have room left
        figure.delaxes(ax)
    names = context.shown(set(curves["method"]))
    return _with_legend(context, figure, names, f"Learning curves of each {context.place}")


def _curves_of(context: PlotContext, metric: str) -> pd.DataFrame:
    """Return the points of the learning curves of all phases, in the unit of the axis."""
    tables = [phase.curves for phase in context.comparison.phases.values()]
    curves = joined(tables, CURVE_COLUMNS)
    curves = curves[curves["metric"] == metric]
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
    for name in names:
        style = context.styles[name]
        curve = parts[name]
        steps = curve["step"].to_numpy(int)
        if border and _counts_online_steps_alone(context.comparison.methods[name], curve, border):
            steps = steps + border
        ends = ["low", "high"]
        if not style.is_named:
            # bands of all methods would cover each other: those of the grey ones have no width
            ends = ["value", "value"]
        marker = ""
        if len(steps) == 1 or style.is_own:
            marker = "o"  # a curve of one point would not be seen
        plot_utils.plot_sample_efficiency_curve(
            steps,
            {name: curve["value"]},
            {name: curve[ends].to_numpy().T},
            colors={name: style.colour},
            xlabel="",
            ylabel="",
            ax=ax,
            marker=marker,
        )
        ax.lines[-1].set(**style.line, markersize=2.5)
        # rliable draws bands above earlier curves, and knows neither dashes nor layers
        ax.collections[-1].set(zorder=style.line["zorder"] - 1, linewidth=0)
    context.tidy(ax)
    ax.set_ylim(_cut(curves["value"], curves[["value", "low", "high"]]))
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
    longest = 0
    for protocol in method.protocols.values():
        planned = protocol.get("online_steps")
        if isinstance(planned, int):  # runs of several numbers of steps have them as text
            longest = max(longest, planned)
    if not longest:
        return steps.min() < border
    return steps.max() <= longest


def _end_of_offline(curves: pd.DataFrame) -> int | None:
    """Return the last offline step if an online phase follows and all methods share it."""
    ends = curves[curves["phase"] == PHASES[0]].groupby("method")["step"].max()
    if curves["phase"].nunique() == 2 and ends.nunique() == 1:
        return ends.iloc[0]
    return None


def _with_legend(
    context: PlotContext, figure: Figure, methods: Sequence[str], subject: str
) -> Drawing:
    """Name the methods that are told apart below all panels, and say how many others there are."""
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
    longest = max(map(len, "\n".join(labels).splitlines()))
    # 6: the letters' width of a handle and of the gap to the next column
    fitting = int(figure.get_figwidth() / size.letter / (longest + 6))
    columns = min(len(labels), max(1, fitting))
    lines = math.ceil(len(labels) / columns) * _height(labels) + 1
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
    return Drawing(figure, context.title(subject), methods)


# -- single tasks and single runs -------------------------------------------------------------------------------------


def _heat_map(context: PlotContext, phase: Phase) -> Drawing | None:
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
    width = size.letter * (max(map(len, means.index)) + _CELL * len(names) + 3)
    height = size.letter * max(map(len, labels)) + size.inches(3 + 1.2 * len(means))
    figure = Figure((min(size.wide, max(width, 0.75 * size.width)), height), layout="constrained")
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
        yticklabels=True,
        annot=texts,
        fmt="",
        annot_kws={"size": 0.9 * size.text},
        cbar=texts is None,
        cbar_kws={"location": "bottom", "shrink": 0.5},
        **colour_limits,
    )
    ax.set(facecolor=SHADE[0], title=f"{phase.name}, {kind.unit}")  # the face is what is missing
    ax.xaxis.tick_top()
    ax.tick_params("x", rotation=90, length=0)
    ax.tick_params("y", rotation=0, length=0)
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
        texts.append([f"{mean:,.{digits}f}" for mean in row])
    return texts  # also of NaN, which seaborn leaves out


def _runs(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw the last score of each own run."""
    kind = context.kind
    runs = context.evaluations
    is_shown = (
        (runs["source"] == OWN_RUNS) & (runs["kind"] == kind.name) & (runs["phase"] == phase.name)
    )
    last = last_evaluations(runs[is_shown])
    if last.empty or (not kind.is_comparable and last["environment"].nunique() > 1):
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
    limits = _cut(scores, scores)
    if kind is SUCCESS:
        limits = (-2, 102)  # all of a point at 0% and at 100% is seen
    context.tidy_rows(ax, names, limits)
    ax.set(xlabel=kind.unit, ylabel="", title=f"{context.where}, single runs")
    context.fit_rows(figure, names, lines=2)
    return Drawing(figure, context.title("Last score of each own run"), names)
