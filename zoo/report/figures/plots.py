"""The figures of a comparison: rliable and seaborn draw them, in the styles of the zoo.

What rliable draws is repaired where its plots mislead: labels stand at their axes whatever the number of methods, an
axis holds what it is about, and where methods are even there is a line.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
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
    OWN,
    ComparedMethod,
    Comparison,
    Outcome,
    Phase,
    baseline_of,
    joined,
    ranking,
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
from zoo.report.statistics.estimates import Estimate, Improvement, Range
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
    kind = comparison.kind
    of_all_phases = PlotContext(comparison, evaluations, size)
    makers: dict[str, Callable[[], Drawing | None]] = {}
    for phase in comparison.phases.values():
        for make in (_verdict, _aggregates, _profiles, _improvement, _heat_map, _runs):
            name = f"{make.__name__.removeprefix('_')}_{phase.name}"
            makers[name] = partial(make, replace(of_all_phases, phase=phase), phase)
    for metric in SHOWN_METRICS:
        makers[f"sample_efficiency_{metric}"] = partial(_sample_efficiency, of_all_phases, metric)
    makers["domains" if kind is SUCCESS else "environments"] = partial(_domains, of_all_phases)
    with matplotlib.rc_context(size.rc_params):
        drawings = {
            name + kind.suffix: make() for name, make in makers.items() if fnmatchcase(name, only)
        }
    return {name: drawing for name, drawing in drawings.items() if drawing is not None}


@dataclass(frozen=True)
class PlotContext:
    """What the figures about one phase, or about all of them, have in common."""

    comparison: Comparison
    evaluations: pd.DataFrame
    size: FigureSize
    phase: Phase | None = None

    @cached_property
    def styles(self) -> dict[str, Style]:
        """How each method is drawn, the best first."""
        return panel_styles(self.comparison, self.phase)

    @property
    def colours(self) -> dict[str, str]:
        """The colour of each method."""
        return {name: style.colour for name, style in self.styles.items()}

    def shown(self, names: Iterable[str]) -> list[str]:
        """Return methods in the order in which they are drawn."""
        present = set(names)
        return [name for name in self.styles if name in present]

    def label(self, method: str, most_lines: int = 2) -> str:
        """Return what a method is called, in few lines."""
        about = self.comparison.methods[method]
        return _lines(about.name, self.size.letters - len(about.mark), most_lines) + about.mark

    def wrap(self, text: str, width: float) -> str:
        """Return a text in lines of at most some inches."""
        return _lines(text, int(width / self.size.letter))

    @property
    def where(self) -> str:
        """The phase and the kind of scores."""
        return f"{self.phase.name if self.phase else ''}{self.comparison.kind.title}"

    def title(self, subject: str) -> str:
        """Return a title that names the phase and the kind of scores."""
        return f"{subject}{', ' if self.phase else ''}{self.where}"

    def empty(
        self, width: float, height: float, rows: int = 1, columns: int = 1
    ) -> tuple[Figure, list[Axes]]:
        """Return a figure with empty panels; sizes are in inches."""
        figure = Figure(figsize=(width, height), layout="constrained")
        share = columns > 1 and self.comparison.kind.is_comparable
        return figure, list(figure.subplots(rows, columns, squeeze=False, sharey=share).ravel())

    def tidy(self, ax: Axes) -> None:
        """Undo what rliable does to an axis for a slide: large texts, and thick lines away from the panel."""
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
        for bar, name in zip(ax.patches, names, strict=False):
            if self.comparison.methods[name].is_own:
                bar.set(edgecolor=INK[0], linewidth=0.8)

    def fit_rows(self, figure: Figure, names: Sequence[str]) -> None:
        """Make a figure as high as its rows, with room for the texts around them."""
        around = max((ax.get_title() + ax.get_xlabel()).count("\n") for ax in figure.axes)
        rows = max(0.6, len(names) * self.size.inches(1.15 * _height(map(self.label, names))))
        figure.set_layout_engine("constrained")
        figure.set_size_inches(self.size.width, rows + self.size.inches(4.5 + around))


def _lines(text: str, letters: int, max_lines: int | None = None) -> str:
    """Return a text in lines; a long name is broken after an underscore."""
    lines = textwrap.wrap(text.replace("_", "_ "), letters, max_lines=max_lines, placeholder="…")
    return "\n".join(lines).replace("_ ", "_")


def _height(labels: Iterable[str]) -> int:
    """Return how many lines the highest of some labels has."""
    return max(label.count("\n") + 1 for label in labels)


# -- estimates with their intervals, a row for each method ------------------------------------------------------------


@dataclass(frozen=True)
class _Panel:
    """Estimates of some methods on one axis.

    :param scale: the unit of the axis in that of the estimates.
    :param even: from where to where a method is neither better nor worse; None where there is no such place.
    :param holds: numbers that the axis holds beside the estimates.
    """

    title: str
    unit: str
    estimates: Mapping[str, Estimate]
    scale: float = 1.0
    even: Range | None = None
    holds: tuple[float, ...] = ()

    def table(self) -> pd.DataFrame:
        """Return the estimates on the axis, a row each: the ``point``, and the ``low`` and ``high`` end."""
        rows = {}
        for name, estimate in self.estimates.items():
            low, high = estimate.interval or (estimate.point, estimate.point)
            rows[name] = (estimate.point, low, high)
        return self.scale * pd.DataFrame.from_dict(rows, "index", columns=["point", "low", "high"])


def _verdict(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw how far the subject of a phase's verdict is ahead of each other method, and say it in words."""
    verdicts = phase.decision.verdicts
    if not verdicts:
        return None
    subject = context.comparison.methods[str(phase.decision.subject)].title
    words = {Outcome.BETTER: BETTER_COLOURS, Outcome.WORSE: WORSE_COLOURS}
    colours = {v.other: words.get(v.outcome, QUIET)[0] for v in verdicts}
    panel = _ahead(context, {v.other: v.improvement for v in verdicts}, f"{subject} against")[-1]
    figure, (ax,) = _intervals(context, [panel], colours)
    for place, v in enumerate(verdicts):
        ax.text(
            1.03,
            place,
            v.outcome,
            color=colours[v.other],
            va="center",
            transform=ax.get_yaxis_transform(),
        )
    return Drawing(figure, context.title(f"{subject} against each other method"), list(colours))


def _improvement(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw the probability of improvement over the baseline, with the difference of means beside it."""
    baseline = baseline_of(context.comparison)
    pairs = {
        name: phase.improvements[name, baseline]
        for name in context.styles
        if (name, baseline) in phase.improvements
    }
    if not pairs:
        return None
    figure, _ = _intervals(context, _ahead(context, pairs, f"over {baseline}"), context.colours)
    return Drawing(
        figure, context.title(f"Probability of improvement over {baseline}"), list(pairs)
    )


def _ahead(context: PlotContext, pairs: Mapping[str, Improvement], title: str) -> list[_Panel]:
    """Return panels of how methods compare with one: by probability, and where there are means by their difference."""
    kind = context.comparison.kind
    chances = {name: pair.probability for name, pair in pairs.items()}
    panels = [
        _Panel(title, "probability of improvement", chances, even=(0.5, 0.5), holds=(0.0, 1.0))
    ]
    differences = {
        name: pair.difference for name, pair in pairs.items() if pair.difference is not None
    }
    if differences:
        margin = kind.scale * context.comparison.resolve if kind.is_comparable else 0.0
        unit = f"difference of means, {'points' if kind is SUCCESS else kind.unit}"
        panels.append(_Panel(title, unit, differences, kind.scale, even=(-margin, margin)))
    return panels


def _aggregates(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw the mean and the IQM of each method; published means have no IQM."""
    kind = context.comparison.kind
    cells = phase.aggregates
    names = [name for name in ranking(context.comparison, phase) if name in cells]
    panels = []
    for metric in SHOWN_METRICS:
        estimates = {
            name: cells[name].estimates[metric] for name in names if metric in cells[name].estimates
        }
        if estimates:
            panels.append(
                _Panel(METRICS[metric], f"{kind.unit}\n{phase.tasks_label}", estimates, kind.scale)
            )
    if not panels:
        return None
    figure, _ = _intervals(context, panels, context.colours)
    return Drawing(figure, context.title("Mean and IQM"), list(panels[0].estimates))


def _intervals(
    context: PlotContext, panels: Sequence[_Panel], colours: Mapping[str, str]
) -> tuple[Figure, list[Axes]]:
    """Draw estimates in panels beside one another, the methods of the first panel from top to bottom."""
    names = list(panels[0].estimates)
    width = 0.6 / len(panels) * context.size.width
    tables = [panel.table().reindex(names) for panel in panels]
    figure, drawn = plot_utils.plot_interval_estimates(
        {name: [table.loc[name, "point"] for table in tables] for name in names},
        {
            name: np.array([table.loc[name, ["low", "high"]] for table in tables]).T
            for name in names
        },
        [context.wrap(f"{context.where}, {panel.title}", width) for panel in panels],
        algorithms=names,
        colors=colours,
        xlabel="",
    )
    plt.close(figure)  # pyplot forgets it; the figure stays
    axes = list(np.atleast_1d(drawn))
    for ax, panel, table in zip(axes, panels, tables, strict=True):
        values = table if len(names) == 1 and panel.even is None else table["point"]
        if panel.even is not None:
            values = np.append(values, [*panel.even, *panel.holds])
            ax.axvspan(*panel.even, color=SHADE[0], zorder=0)
            ax.axvline(float(np.mean(panel.even)), color=INK[0], linewidth=0.8, linestyle=":")
        context.tidy_rows(ax, names, _cut(values, np.append(values, table)))
        ax.set_xlabel("\n".join(context.wrap(line, width) for line in panel.unit.splitlines()))
    axes[0].set_yticks(range(len(names)), map(context.label, names))
    context.fit_rows(figure, names)
    return figure, axes


def _cut(values: ArrayLike, ends: ArrayLike) -> Range:
    """Return the limits of an axis with all values `values`, and the `ends` of intervals that are not far from them."""
    low = np.nanmin(values)
    high = np.nanmax(values)
    span = high - low or 0.1 * abs(high) or 1.0
    low = max(np.nanmin(ends), low - span / 2)
    high = min(np.nanmax(ends), high + span / 2)
    margin = 0.05 * (high - low or span)
    return low - margin, high + margin


# -- curves -----------------------------------------------------------------------------------------------------------


def _profiles(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw the performance profiles."""
    kind = context.comparison.kind
    size = context.size
    parts = dict(iter(phase.profiles.groupby("method")))
    names = context.shown(parts)
    if not names:
        return None
    thresholds = kind.scale * parts[names[0]]["tau"].to_numpy()
    figure, (ax,) = context.empty(size.width, 0.62 * size.width)
    plot_utils.plot_performance_profiles(
        {name: parts[name]["fraction"] for name in names},
        thresholds,
        {
            name: (parts[name]["low"], parts[name]["high"])
            for name in names
            if context.styles[name].is_named
        },
        ax=ax,
        colors=context.colours,
        xlabel=f"threshold τ, {kind.unit}",
        ylabel="fraction of runs above τ",
    )
    for line, name in zip(ax.lines, names, strict=True):
        line.set(**context.styles[name].line)
    context.tidy(ax)
    ax.set_xlim((0, 100) if kind is SUCCESS else (thresholds[0], thresholds[-1]))
    ax.set_ylim(0, 1.02)
    ax.set_title(f"{context.where}, {phase.tasks_label}")
    _add_legend(figure, context, names)
    return Drawing(figure, context.title("Performance profiles"), names)


def _sample_efficiency(context: PlotContext, metric: str) -> Drawing | None:
    """Draw the learning curves over all tasks."""
    comparison = context.comparison
    size = context.size
    curves = _curves_of(comparison, metric)
    curves = curves[curves["where"] == ALL_TASKS]
    if curves.empty:
        return None
    figure, (ax,) = context.empty(size.width, 0.62 * size.width)
    shown = _draw_curves(ax, context, curves)
    ax.set_title(f"{METRICS[metric]}{comparison.kind.title}, {comparison.curves_label}")
    ax.set(
        xlabel="steps (shaded: offline)" if _end_of_offline(curves) else "steps",
        ylabel=comparison.kind.unit,
    )
    _add_legend(figure, context, shown)
    return Drawing(figure, context.title(f"Sample efficiency, {METRICS[metric]}"), shown)


def _domains(context: PlotContext) -> Drawing | None:
    """Draw the learning curves over the tasks of each domain."""
    kind = context.comparison.kind
    size = context.size
    curves = _curves_of(context.comparison, "mean")
    curves = curves[curves["where"] != ALL_TASKS]
    domains = sorted(set(curves["where"]))
    if not domains:
        return None
    fitting = max(1, round(size.wide / 2.5))
    width = size.wide / fitting
    columns = min(len(domains), fitting)
    rows = math.ceil(len(domains) / columns)
    figure, axes = context.empty(width * columns, 0.75 * width * rows, rows, columns)
    for ax, domain in zip(axes, domains, strict=False):
        _draw_curves(ax, context, curves[curves["where"] == domain])
        ax.set_title(context.wrap(domain, 0.95 * width))
        ax.set_ylabel(kind.unit)
        ax.label_outer()
    for ax in axes[len(domains) :]:
        figure.delaxes(ax)
    ordered = context.shown(curves["method"])
    _add_legend(figure, context, ordered)
    place = "domain" if kind is SUCCESS else "environment"
    return Drawing(figure, context.title(f"Learning curves of each {place}"), ordered)


def _curves_of(comparison: Comparison, metric: str) -> pd.DataFrame:
    """Return the points of the learning curves of all phases."""
    curves = joined([phase.curves for phase in comparison.phases.values()], CURVE_COLUMNS)
    return curves[curves["metric"] == metric]


def _draw_curves(ax: Axes, context: PlotContext, curves: pd.DataFrame) -> list[str]:
    """Draw learning curves of one place over all phases; return the methods that have one.

    A method that starts online begins where the others go online. A band much wider than the curves are apart is cut by
    the axis.
    """
    scale = context.comparison.kind.scale
    border = _end_of_offline(curves)
    names = context.shown(curves["method"])
    last = 0
    if border:
        ax.axvspan(0, border, color=SHADE[0], zorder=0)
    for name in names:
        style = context.styles[name]
        part = curves[curves["method"] == name]
        steps = part["step"].to_numpy(int)
        points = scale * part["value"]
        if border and _counts_online_steps_alone(context.comparison.methods[name], part, border):
            steps = steps + border
        last = max(last, steps[-1])
        band = (scale * part["low"], scale * part["high"]) if style.is_named else (points, points)
        plot_utils.plot_sample_efficiency_curve(
            steps,
            {name: points},
            {name: band},
            colors={name: style.colour},
            xlabel="",
            ylabel="",
            ax=ax,
            marker="o" if len(steps) == 1 or style.is_own else "",
        )
        ax.lines[-1].set(**style.line, markersize=2.5)
        ax.collections[-1].set(zorder=style.layer - 1, linewidth=0)
    context.tidy(ax)
    limits = _cut(scale * curves["value"], scale * curves[["value", "low", "high"]])
    ax.set_ylim((0, 102) if context.comparison.kind is SUCCESS else limits)
    ax.set_xlim(0, 1.01 * last)
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 1.5M, 5k
    return names


def _counts_online_steps_alone(method: ComparedMethod, curve: pd.DataFrame, border: int) -> bool:
    """Return whether the steps of a method's curve begin with 0 at the end of the other methods' offline phase.

    Those of a method without an offline phase do, unless who published them put them behind that phase.

    :param border: the last offline step of the other methods.
    """
    if (curve["phase"] == PHASES[0]).any():
        return False
    planned = [protocol.get("online_steps") for protocol in method.protocols.values()]
    longest = max((steps for steps in planned if isinstance(steps, int)), default=0)
    if longest:
        return bool(curve["step"].max() <= longest)
    return bool(curve["step"].min() < border)


def _end_of_offline(curves: pd.DataFrame) -> int | None:
    """Return the last offline step if an online phase follows and all methods share it."""
    ends = curves[curves["phase"] == PHASES[0]].groupby("method")["step"].max()
    return int(ends.iloc[0]) if curves["phase"].nunique() == 2 and ends.nunique() == 1 else None


def _add_legend(figure: Figure, context: PlotContext, methods: Collection[str]) -> None:
    """Name the methods that are told apart below all panels, and say how many others there are."""
    size = context.size
    handles = []
    labels = []
    for name in methods:
        style = context.styles[name]
        if style.is_named:
            handles.append(
                Line2D([], [], marker="o" if style.is_own else None, markersize=3, **style.line)
            )
            labels.append(context.label(name))
    if unnamed := len(methods) - len(labels):
        handles.append(Line2D([], [], color=MUTED[0], linewidth=0.7))
        labels.append(f"{unnamed} others")
    longest = max(len(line) for label in labels for line in label.splitlines())
    columns = min(len(labels), max(1, int(figure.get_figwidth() / size.letter / (longest + 6))))
    lines = math.ceil(len(labels) / columns) * _height(labels) + 1
    figure.set_figheight(figure.get_figheight() + size.inches(lines))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        handlelength=2.2,
        columnspacing=1.2,
    )


# -- single tasks and single runs -------------------------------------------------------------------------------------


def _heat_map(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw the mean of each method on each task.

    Returns have no common scale, so a colour there lies between those of the worst and the best method of a task.
    """
    kind = context.comparison.kind
    size = context.size
    names = context.shown(phase.coverage)
    if len(phase.per_task) < 2:
        return None
    rows = {}
    for task, cells in phase.per_task.items():
        rows[short_name(task)] = {
            name: kind.scale * cell.mean.point for name, cell in cells.items()
        }
    means = shades = pd.DataFrame.from_dict(rows, "index").reindex(columns=names)
    if not kind.is_comparable:
        low = means.min(axis=1)
        high = means.max(axis=1)
        shades = means.sub(low, axis=0).div(np.maximum(high - low, 1e-9), axis=0)
    labels = [context.label(name, 1) for name in names]
    width = size.letter * (max(map(len, rows)) + _CELL * len(names) + 3)
    height = size.letter * max(map(len, labels)) + size.inches(3 + 1.2 * len(rows))
    figure, (ax,) = context.empty(min(size.wide, max(width, 0.75 * size.width)), height)
    has_room = width <= size.wide
    is_rate = kind.limits == FRACTION
    sns.heatmap(
        shades,
        ax=ax,
        cmap=ListedColormap([light for light, _ in scale_colours()]),
        vmin=0 if is_rate else None,
        vmax=100 if is_rate else None,
        linewidths=0.4,
        xticklabels=labels,
        yticklabels=True,
        annot=_cell_texts(means, kind) if has_room else None,
        fmt="",
        annot_kws={"size": 0.9 * size.text},
        cbar=not has_room,
        cbar_kws={"location": "bottom", "shrink": 0.5},
    )
    ax.set_facecolor(SHADE[0])  # of what is missing
    ax.xaxis.tick_top()
    ax.tick_params("x", rotation=90, length=0)
    ax.tick_params("y", rotation=0, length=0)
    ax.set_title(f"{phase.name}, {kind.unit}")
    return Drawing(figure, context.title("Mean of each method on each task"), names)


def _cell_texts(means: pd.DataFrame, kind: ScoreKind) -> pd.DataFrame:
    """Return the texts of a map's cells, with the decimals that tell the methods apart.

    Scores on one scale have equally many everywhere, others those of their row.
    """
    texts = means.astype(object)
    for task in means.index:
        side_by_side = means if kind.is_comparable else means.loc[[task]]
        digits = spread_digits(side_by_side.to_numpy().ravel())
        texts.loc[task] = [f"{mean:,.{digits}f}" for mean in means.loc[task]]
    return texts.where(means.notna(), "")


def _runs(context: PlotContext, phase: Phase) -> Drawing | None:
    """Draw the last score of each own run."""
    kind = context.comparison.kind
    runs = context.evaluations
    is_shown = (runs["source"] == OWN) & (runs["kind"] == kind.name) & (runs["phase"] == phase.name)
    last = last_evaluations(runs[is_shown])
    if last.empty or (not kind.is_comparable and last["environment"].nunique() > 1):
        return None
    names = context.shown(last["method"])
    scores = kind.scale * last["score"]
    figure, (ax,) = context.empty(1, 1)
    with seeded():  # seaborn draws the jitter from NumPy's own generator
        sns.stripplot(
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
            ax=ax,
        )
    context.tidy_rows(ax, names, (-2, 102) if kind is SUCCESS else _cut(scores, scores))
    ax.set_yticks(range(len(names)), map(context.label, names))
    ax.set(xlabel=kind.unit, ylabel="", title=f"{context.where}, single runs")
    context.fit_rows(figure, [*names, *names])
    return Drawing(figure, context.title("Last score of each own run"), names)
