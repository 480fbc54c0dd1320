"""The figures of a comparison, drawn by rliable and seaborn."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, zip_longest
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import matplotlib.style
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from rliable import plot_utils

from agents.common.validation import count
from zoo.report.comparison import (
    ALL_TASKS,
    CURVE_COLUMNS,
    Comparison,
    Phase,
    joined,
    ranking,
)
from zoo.report.statistics import MIN_SEEDS, Estimate
from zoo.report.tables import LONGEST_NAME
from zoo.runs.folder import PHASES, short_name
from zoo.runs.scores import SUCCESS

COLOURS: list[Any] = sns.color_palette("colorblind")
"""Colours of methods."""
COLOURS[7] = "#882255"  # replaces grey, which marks methods without a colour of their own
GREY = "#8f8f8f"
MIN_BAND = 3
"""Smallest number of seeds for which learning curves have bands."""
WIDTH = 3.4
"""Width of a figure with one panel, in inches, as wide as a column of a paper."""
DPI = 200
"""DPI of PNG figures."""
_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "font.sans-serif": ["DejaVu Sans"],  # part of matplotlib; other fonts may be missing
    "axes.titlesize": "medium",
    "lines.markersize": 3,
    "legend.frameon": False,
    "text.parse_math": False,  # names of methods contain no formulas
    "pdf.fonttype": 42,  # TrueType: conferences reject Type 3 fonts, matplotlib's default
    "svg.fonttype": "none",
    "svg.hashsalt": "figure",
}
_UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
_BOOTSTRAP = f"bootstrap intervals (with at least {MIN_SEEDS} seeds)"
_TEXTS = {"labelsize": "medium", "ticklabelsize": "medium"}


@dataclass(frozen=True)
class Drawing:
    """A figure and its caption."""

    figure: Figure
    caption: str


def all_figures(comparison: Comparison, only: str = "") -> dict[str, Drawing]:
    """Return name -> figure, for every non-empty figure of a comparison.

    :param only: name of the only figure to draw; empty for all figures.
    """
    artist = _Artist(comparison)
    makers: dict[str, Callable[[], Drawing | None]] = {}
    for phase in comparison.phases.values():
        for name in ("verdict", "aggregates", "improvement", "profiles", "heat_map"):
            makers[f"{name}_{phase.name}"] = partial(getattr(artist, name), phase)
    makers["sample_efficiency"] = artist.sample_efficiency
    makers["domains" if comparison.kind is SUCCESS else "environments"] = artist.domains
    drawings = {}
    with _style():
        for name in [only] if only else makers:
            drawing = makers[name]()
            if drawing is not None:
                drawings[name + comparison.suffix] = drawing
    return drawings


def _style() -> AbstractContextManager[None]:
    """Return the style of all figures; it ignores the user's `matplotlibrc`, which may require TeX."""
    return matplotlib.style.context(["default", sns.axes_style("ticks") | _STYLE])


def to_file(figure: Figure, kind: str) -> bytes:
    """Return the bytes of a figure's file, of a kind such as ``pdf``; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with _style():
        figure.savefig(
            buffer, format=kind, dpi=DPI, bbox_inches="tight", metadata=_UNDATED.get(kind)
        )
    return buffer.getvalue()


@dataclass(frozen=True)
class _Artist:
    """Draws the figures of one comparison."""

    comparison: Comparison

    @cached_property
    def colours(self) -> dict[str, Any]:
        """Method -> its colour in all figures, for up to ten methods: the focus, the user's methods, then the best."""
        about = self.comparison
        rankings = [ranking(phase) for phase in about.phases.values()]
        turns = zip_longest(*rankings[::-1])  # the best of each phase take turns
        # methods whose single runs are unknown have no lines, so they come last
        tables = [
            table for phase in about.phases.values() for table in (phase.curves, phase.profiles)
        ]
        lined = {*joined(tables, ["method"])["method"]}
        best = sorted(filter(None, chain.from_iterable(turns)), key=lambda name: name not in lined)
        own_methods = [name for name in best if about.methods[name].is_own]
        # the report is about the focus and the user's methods, whatever their scores
        first = [about.focus] if about.focus in best else []
        names = dict.fromkeys([*first, *own_methods, *best])
        return dict(zip(names, COLOURS, strict=False))

    def lines_of(self, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Return method -> the points of its line, for methods with a colour."""
        parts = dict(iter(table.groupby("method")))
        return {name: parts[name] for name in self.colours if name in parts}

    def about_lines(self, table: pd.DataFrame) -> str:
        """Return the end of a caption, about the methods with lines and their seeds."""
        shown = self.lines_of(table)
        # tasks may have more seeds
        seeds = count(min(points["seeds"].min() for points in shown.values()), "seed")
        total = table["method"].nunique()
        if len(shown) < total:
            return f" {len(shown)} of {total} methods, at least {seeds} per task."
        return f" At least {seeds} per task."

    def profiles(self, phase: Phase) -> Drawing | None:
        """Draw the performance profiles."""
        kind = self.comparison.kind
        parts = self.lines_of(phase.profiles)
        if not parts:  # environments without a common scale, or only methods without a colour
            return None
        end = self.about_lines(phase.profiles)
        thresholds = kind.scale * next(iter(parts.values()))["tau"].to_numpy()
        figure = Figure((WIDTH, 0.8 * WIDTH), layout="constrained")
        plot_utils.plot_performance_profiles(
            {_wrapped(name): part["fraction"].to_numpy() for name, part in parts.items()},
            thresholds,
            {_wrapped(name): part[["low", "high"]].to_numpy().T for name, part in parts.items()},
            ax=figure.subplots(),
            colors={_wrapped(name): colour for name, colour in self.colours.items()},
            xlabel=f"threshold τ, {kind.unit}",
            ylabel="fraction of runs above τ",
            **_TEXTS,
        )
        _add_legend(figure)
        caption = f"Fraction of runs above a threshold, {phase.name}.{end} Bands: point-wise 95% {_BOOTSTRAP}."
        return Drawing(figure, caption)

    def sample_efficiency(self) -> Drawing | None:
        """Draw the learning curves over all tasks."""
        curves = self.curves()
        curves = curves[curves["where"] == ALL_TASKS]
        if not self.lines_of(curves):
            return None
        figure = Figure((WIDTH, 0.8 * WIDTH), layout="constrained")
        self.draw_curves(figure.subplots(), curves)
        _add_legend(figure)
        tasks = self.comparison.curves_label
        end = self.about_curves(curves)
        return Drawing(figure, f"Mean score over {tasks}, against training steps.{end}")

    def domains(self) -> Drawing | None:
        """Draw the learning curves of each domain; for a single task, `sample_efficiency` shows the same curve."""
        curves = self.curves()
        curves = curves[curves["where"] != ALL_TASKS]
        domains = {}
        for domain, points in curves.groupby("where"):
            if self.lines_of(points):
                domains[domain] = points
        if not domains or self.comparison.has_one_task:
            return None
        columns = min(len(domains), 3)  # more panels would be unreadable across a page
        rows = -(-len(domains) // columns)
        figure = Figure((2.2 * columns, 1.9 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, (domain, points) in zip(axes, domains.items(), strict=False):
            self.draw_curves(ax, points)
            ax.set_title(short_name(domain))
        # hide unused axes of the last row
        for ax in axes[len(domains) :]:
            ax.set_axis_off()
        _add_legend(figure)
        noun = "domain" if self.comparison.kind is SUCCESS else "environment"
        return Drawing(figure, f"Mean on each {noun}.{self.about_curves(curves)}")

    def curves(self) -> pd.DataFrame:
        """Return the points of all phases' learning curves, in the unit of the axis."""
        tables = [phase.curves for phase in self.comparison.phases.values()]
        curves = joined(tables, CURVE_COLUMNS)
        scale = self.comparison.kind.scale
        curves = curves.assign(**(scale * curves[["value", "low", "high"]]))
        # a band of two seeds would cover all lines
        curves.loc[curves["seeds"] < MIN_BAND, ["low", "high"]] = np.nan
        return curves

    def about_curves(self, curves: pd.DataFrame) -> str:
        """Return the end of a caption, about the curves of all panels."""
        end = self.about_lines(curves)
        if any(_end_of_offline(points) for _, points in curves.groupby("where")):
            end = f" Shaded: the offline phase.{end}"
        if curves["low"].notna().any():
            end += f" Bands: point-wise 95% t-intervals (with at least {MIN_BAND} seeds)."
        return end

    def draw_curves(self, ax: Axes, curves: pd.DataFrame) -> None:
        """Draw learning curves over all phases in one panel."""
        kind = self.comparison.kind
        border = _end_of_offline(curves)
        # set up the axes before rliable draws on them
        if border:
            ax.axvspan(0, border, color="#f1f2f4", zorder=0)
        if kind is SUCCESS:
            ax.set_ylim(0, 102)  # so that a line at 100% is not clipped to half its thickness
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 1.5M, 5k
        # lines are dashed except the first, so that two lines that coincide are both visible
        ax.set_prop_cycle(linestyle=[(0, (3, gap)) for gap in range(len(COLOURS))])
        for name, curve in self.lines_of(curves).items():
            steps = curve["step"].to_numpy(int)
            # shift online steps of a method without offline phase; published steps may include offline steps already
            is_late = PHASES[0] not in set(curve["phase"])
            is_own = self.comparison.methods[name].is_own
            if border and is_late and (is_own or steps.min() < border):
                steps = steps + border
            plot_utils.plot_sample_efficiency_curve(
                steps,
                {_wrapped(name): curve["value"].to_numpy()},
                {_wrapped(name): curve[["low", "high"]].to_numpy().T},
                colors={_wrapped(name): self.colours[name]},
                xlabel="steps",
                ylabel=kind.unit,
                ax=ax,
                linewidth=1.5,
                **_TEXTS,
            )

    def heat_map(self, phase: Phase) -> Drawing | None:
        """Draw the mean of each method on each task, if several tasks have a common scale."""
        kind = self.comparison.kind
        if len(phase.per_task) < 2 or not kind.is_comparable:
            return None
        names = ranking(phase)
        cells = pd.DataFrame(phase.per_task, names).T.rename(short_name)
        # leave out methods without a mean on any task
        cells = cells.dropna(axis="columns", how="all").rename(columns=_wrapped)
        means = cells.map(lambda cell: kind.scale * cell.mean.point, na_action="ignore")
        # a name of up to two lines fits into the width of a number
        figure = Figure((0.175 * max(2, _lines(means)) * len(means.columns), 0.24 * len(means)))
        # without a canvas, each label that seaborn measures leaks a renderer of 2 MB
        FigureCanvasAgg(figure)
        ax = sns.heatmap(
            means,
            ax=figure.subplots(),
            cmap="Blues",
            annot=True,
            fmt=".0f",
            annot_kws={"size": 6},
            cbar=False,
            xticklabels=True,
            yticklabels=True,
        )
        ax.set(xlabel="", ylabel="", facecolor="#f1f2f4")  # the face colour fills missing cells
        ax.tick_params("x", rotation=90)
        caption = (
            f"Mean on each task, {phase.name}, {kind.unit}. Darker colours mean higher scores."
        )
        return Drawing(figure, caption)

    # -- estimates with their intervals, one row for each method ------------------------------------------------------

    def verdict(self, phase: Phase) -> Drawing | None:
        """Draw the differences between the subject of the verdicts and the other methods."""
        verdicts = phase.decision.verdicts
        differences = {v.method: v.difference for v in verdicts if v.difference}
        if not differences:
            return None
        unit = "points" if self.comparison.kind is SUCCESS else self.comparison.kind.unit
        figure = self.intervals({"": differences}, f"difference of means, {unit}")
        # the line of equal means
        figure.axes[0].axvline(0, color="black", linewidth=0.8, linestyle=":")
        subject = str(phase.decision.subject)
        seeds = self.seeds(phase, [subject, *differences])
        level = 100 * (1 - phase.decision.level)
        return Drawing(
            figure,
            f"Mean of {subject} minus mean of the other method, {phase.name}, {seeds}, with {level:.4g}% "
            f"t-intervals. Right of 0, {subject} is better.{self.about_grey(differences)}",
        )

    def aggregates(self, phase: Phase) -> Drawing | None:
        """Draw the mean and the IQM of each method; a method whose single runs are unknown has no IQM."""
        cells = phase.aggregates
        names = [name for name in ranking(phase) if name in cells]
        if len(names) < 2:  # a comparison needs two methods
            return None
        columns: dict[str, dict[str, Estimate | None]] = {}
        columns["mean"] = {name: cells[name].mean for name in names}
        if any(cells[name].iqm for name in names):
            columns["IQM"] = {name: cells[name].iqm for name in names}
        figure = self.intervals(columns, self.comparison.kind.unit)
        seeds = self.seeds(phase, names)
        caption = f"Scores, {phase.name}, over {phase.tasks_label}, {seeds}. Bars: 95% intervals."
        return Drawing(figure, f"{caption}{self.about_grey(names)}")

    def intervals(self, columns: Mapping[str, Mapping[str, Estimate | None]], unit: str) -> Figure:
        """Draw estimates in adjacent panels.

        :param columns: title of a panel -> method -> its estimate; all panels have the same methods, from top to
            bottom.
        """
        names = [*next(iter(columns.values()))][::-1]  # rliable draws from bottom to top
        scale = self.comparison.kind.scale
        rows = {}
        for name in names:
            ends = [_ends(estimates[name]) for estimates in columns.values()]
            rows[_wrapped(name)] = scale * np.transpose(ends)
        lines = _lines(rows)
        with matplotlib.rc_context({"font.size": 5}):  # rliable's font sizes are meant for slides
            figure, _ = plot_utils.plot_interval_estimates(
                {name: values[0] for name, values in rows.items()},
                {name: values[1:] for name, values in rows.items()},
                list(columns),
                colors={_wrapped(name): self.colours.get(name, GREY) for name in names},
                subfigure_width=0.7 * WIDTH,
                row_height=0.2 * lines,
                xlabel=unit,
                # keep the label at a constant distance below the rows; rliable's panels start at 0.11 of the height
                xlabel_y_coordinate=0.11 - 1.75 / (lines * len(names)),
            )
        for ax in figure.axes:
            # a panel without an estimate for a method at its end would have lower rows than the first panel
            ax.set_ylim(figure.axes[0].get_ylim())
            # write large returns as 1.5M, because matplotlib's factor `1e6` would overlap the label of the axis
            if max(np.abs(ax.get_xlim())) >= 100_000:
                ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        plt.close(figure)  # only removes the figure from pyplot; the figure remains usable
        return figure

    def improvement(self, phase: Phase) -> Drawing | None:
        """Draw the probability that a run of the subject is better than a run of another method."""
        verdicts = [v for v in phase.decision.verdicts[::-1] if v.probability]
        if not verdicts:
            return None
        separator = "\t"  # names do not contain tabs
        subject = str(phase.decision.subject)
        points = {}
        intervals = {}
        for v in verdicts:
            pair = f"{_wrapped(subject)}{separator}{_wrapped(v.method)}"
            point, *interval = _ends(v.probability)
            points[pair] = point
            intervals[pair] = interval
        lines = _lines(map(_wrapped, [subject, *(v.method for v in verdicts)]))
        figure = Figure((0.7 * WIDTH, 0.25 * lines * len(verdicts) + 0.3))
        ax = plot_utils.plot_probability_of_improvement(
            points,
            intervals,
            pair_separator=separator,
            ax=figure.subplots(),
            colors=[self.colours.get(v.method, GREY) for v in verdicts],
            **_TEXTS,
        )
        ax.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
        # a point without an interval would touch the names
        ax.use_sticky_edges = False
        ax.autoscale_view(scaley=False)
        names = [v.method for v in verdicts]
        seeds = self.seeds(phase, [subject, *names])
        return Drawing(
            figure,
            f"Probability that a run of {subject} (X) beats a run of the other method (Y) on the same task, "
            f"{phase.name}, {seeds}, with 95% {_BOOTSTRAP}.{self.about_grey(names)}",
        )

    def about_grey(self, names: Iterable[str]) -> str:
        """Return the last sentence of a caption, which explains grey; empty if no method is grey."""
        return "" if {*names} <= {*self.colours} else " Grey: methods left out of line plots."

    def seeds(self, phase: Phase, names: Collection[str]) -> str:
        """Return the range of some methods' numbers of seeds on the common tasks, e.g. ``"3 to 12 seeds"``."""
        rows = [phase.aggregates]
        if not phase.aggregates:  # the tasks have no common scale
            rows = [phase.per_task[task] for task in phase.tasks]
        ends = sorted(chain.from_iterable(row[name].seeds for row in rows for name in names))
        largest = count(ends[-1], "seed")
        return largest if ends[0] == ends[-1] else f"{ends[0]} to {largest}"


def _add_legend(figure: Figure) -> None:
    """Add one legend for all panels, below the figure; inside it, ten long names would leave no space for lines."""
    handles: dict[str, Any] = {}
    for ax in figure.axes:
        # not `get_legend_handles_labels`, which leaves out names that start with an underscore
        handles |= {str(line.get_label()): line for line in ax.get_lines()}
    longest = max(map(len, handles))
    columns = int(20 * figure.get_figwidth() / (longest + 8))
    figure.legend(
        handles.values(),
        handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        ncols=max(columns, 1),
        fontsize="small",
    )
    # fix the layout; otherwise each drawing would change it slightly, and files would differ
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _wrapped(name: str) -> str:
    """Return a method's name, wrapped onto several lines if it lists many settings."""
    return textwrap.fill(name, LONGEST_NAME)


def _lines(names: Iterable[str]) -> int:
    """Return the largest number of lines of any name."""
    return 1 + max(name.count("\n") for name in names)


def _ends(estimate: Estimate | None) -> tuple[float, float, float]:
    """Return the point, the lower and the upper end of an estimate; NaN for None."""
    if estimate is None:
        return (np.nan, np.nan, np.nan)
    return (estimate.point, *(estimate.interval or (estimate.point, estimate.point)))


def _end_of_offline(curves: pd.DataFrame) -> int | None:
    """Return the last offline step, or None if it differs between methods or no online phase follows."""
    ends = curves[curves["phase"] == PHASES[0]].groupby("method")["step"].max()
    if curves["phase"].nunique() == 2 and ends.nunique() == 1:
        return int(ends.iloc[0])
    return None
