"""The figures of a comparison, drawn by rliable and seaborn."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import filter as matching
from functools import cached_property, partial
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

from zoo.report.comparison import (
    ALL_TASKS,
    CURVE_COLUMNS,
    Comparison,
    Outcome,
    Phase,
    joined,
    ranking,
)
from zoo.report.statistics import MIN_SEEDS, Estimate
from zoo.report.tables import LONGEST_NAME, only_task
from zoo.runs.folder import PHASES, short_name
from zoo.runs.scores import SUCCESS

MAX_LINES = 7
"""Largest number of lines in a figure: colours of seaborn's palette before its grey."""
WIDTH = 4.8
"""Width of a figure with one panel, in inches."""
DPI = 150
"""DPI of PNG figures."""
GREY = "#8f8f8f"
_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "font.sans-serif": ["DejaVu Sans"],  # part of matplotlib; other fonts may be missing
    "lines.markersize": 3,
    "legend.frameon": False,
    "text.parse_math": False,  # names of runs contain no formulas
    "pdf.fonttype": 42,  # TrueType: conferences reject Type 3 fonts, matplotlib's default
    "svg.fonttype": "none",
    "svg.hashsalt": "figure",
}
_UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
_BOOTSTRAP = f"bootstrap intervals from {MIN_SEEDS} seeds on"
_TEXTS = {"labelsize": "medium", "ticklabelsize": "medium"}


@dataclass(frozen=True)
class Drawing:
    """A figure and its caption."""

    figure: Figure
    caption: str


def all_figures(comparison: Comparison, only: str = "*") -> dict[str, Drawing]:
    """Return every non-empty figure of a comparison: name -> figure.

    :param only: a pattern of the names of the figures to draw.
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
        for name in matching(makers, only):
            drawing = makers[name]()
            if drawing is not None:
                drawings[name + comparison.suffix] = drawing
    return drawings


def _style() -> AbstractContextManager[None]:
    """Return the style of all figures, independent of the user's `matplotlibrc`: TeX may be missing."""
    return matplotlib.style.context(["default", sns.axes_style("ticks") | _STYLE])


def to_file(figure: Figure, kind: str) -> bytes:
    """Return a figure as a file, e.g. ``pdf`` or ``png``; the same figure gives the same bytes."""
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
        """The colour of each method in figures of lines: the focus, the user's methods, then the best."""
        about = self.comparison
        last = list(about.phases.values())[-1]
        best = ranking(about, last)
        own_methods = [name for name in best if about.methods[name].is_own]
        # these are the subject of the report, regardless of their scores
        first = [about.focus] if about.focus in best else []
        names = list(dict.fromkeys([*first, *own_methods, *best]))[:MAX_LINES]
        return dict(zip(names, sns.color_palette("colorblind"), strict=False))

    def lines_of(self, table: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], str]:
        """Return the parts of a table that lines show, by method, and the end of the caption."""
        parts = dict(iter(table.groupby("method")))
        shown = {name: parts[name] for name in self.colours if name in parts}
        if len(shown) < len(parts):
            return shown, f" {len(shown)} of {len(parts)} methods."
        return shown, ""

    def named(self, name: str) -> str:
        """Return the name of a method, on several lines if it has many settings."""
        return textwrap.fill(self.comparison.methods[name].title, LONGEST_NAME)

    def profiles(self, phase: Phase) -> Drawing | None:
        """Draw the performance profiles."""
        kind = self.comparison.kind
        if phase.profiles.empty:  # scores of several environments without one scale
            return None
        parts, end = self.lines_of(phase.profiles)
        if not parts:
            return None
        thresholds = kind.scale * next(iter(parts.values()))["tau"].to_numpy()
        figure = Figure((WIDTH, 0.62 * WIDTH))
        plot_utils.plot_performance_profiles(
            {self.named(name): part["fraction"].to_numpy() for name, part in parts.items()},
            thresholds,
            {self.named(name): part[["low", "high"]].to_numpy().T for name, part in parts.items()},
            ax=figure.subplots(),
            colors={self.named(name): colour for name, colour in self.colours.items()},
            xlabel=f"threshold τ, {kind.unit}",
            ylabel="fraction of runs above τ",
            legend=True,
            legendsize="small",
            **_TEXTS,
        )
        caption = f"Fraction of runs above a threshold, {phase.name}.{end} Bands: point-wise 95% {_BOOTSTRAP}."
        return Drawing(figure, caption)

    def sample_efficiency(self) -> Drawing | None:
        """Draw the learning curves over all tasks."""
        curves = self.curves()
        curves = curves[curves["where"] == ALL_TASKS]
        if curves.empty:
            return None
        figure = Figure((WIDTH, 0.62 * WIDTH))
        end = self.draw_curves(figure.subplots(), curves)
        tasks = only_task(self.comparison) or self.comparison.curves_label
        return Drawing(figure, f"Mean score against training steps, over {tasks}.{end}")

    def domains(self) -> Drawing | None:
        """Draw the learning curves of each domain; a single task has only the figure over all tasks."""
        curves = self.curves()
        curves = curves[curves["where"] != ALL_TASKS]
        if curves.empty or only_task(self.comparison):
            return None
        domains = dict(iter(curves.groupby("where")))
        columns = min(len(domains), 4)  # more would be unreadable across a page
        rows = -(-len(domains) // columns)
        figure = Figure((2.6 * columns, 2.1 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        end = ""
        names: dict[str, Any] = {}
        for ax, (domain, points) in zip(axes, domains.items(), strict=False):
            end = self.draw_curves(ax, points, legend=False)
            ax.set_title(short_name(domain))
            handles, labels = ax.get_legend_handles_labels()
            names |= dict(zip(labels, handles, strict=True))
        # hide unused axes of the last row
        for ax in axes[len(domains) :]:
            ax.set_axis_off()
        figure.legend(names.values(), names, loc="outside lower center", ncols=2 * columns)
        noun = "domain" if self.comparison.kind is SUCCESS else "environment"
        return Drawing(figure, f"Mean on each {noun}.{end}")

    def curves(self) -> pd.DataFrame:
        """Return the points of the learning curves of all phases, in the unit of the axis."""
        tables = [phase.curves for phase in self.comparison.phases.values()]
        curves = joined(tables, CURVE_COLUMNS)
        scale = self.comparison.kind.scale
        return curves.assign(**(scale * curves[["value", "low", "high"]].astype(float)))

    def draw_curves(self, ax: Axes, curves: pd.DataFrame, legend: bool = True) -> str:
        """Draw learning curves over all phases in one panel; return the end of the caption."""
        kind = self.comparison.kind
        parts, end = self.lines_of(curves)
        border = _end_of_offline(curves)
        # axes are prepared before rliable draws; its drawing is not changed afterwards
        if border:
            ax.axvspan(0, border, color="#f1f2f4", zorder=0)
            end = f" Shaded: the offline phase.{end}"
        if kind is SUCCESS:
            ax.set_ylim(0, 102)  # a curve at 100% is not cut in half
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 1.5M, 5k
        for name, curve in parts.items():
            steps = curve["step"].to_numpy(int)
            # without an offline phase, steps start at 0, unless the published steps include that phase
            if border and steps.min() < border and PHASES[0] not in set(curve["phase"]):
                steps = steps + border
            plot_utils.plot_sample_efficiency_curve(
                steps,
                {self.named(name): curve["value"].to_numpy()},
                {self.named(name): curve[["low", "high"]].to_numpy().T},
                colors={self.named(name): self.colours[name]},
                xlabel="steps",
                ylabel=kind.unit,
                ax=ax,
                legend=legend,
                legendsize="small",
                linewidth=1.5,
                **_TEXTS,
            )
        if curves["low"].notna().any():
            end += " Bands: point-wise 95% t-intervals."
        return end

    def heat_map(self, phase: Phase) -> Drawing | None:
        """Draw the mean of each method on each task; returns of several tasks have no common scale of colours."""
        kind = self.comparison.kind
        names = [name for name in ranking(self.comparison, phase) if name in phase.coverage]
        if len(phase.per_task) < 2 or not kind.is_comparable:
            return None
        cells = pd.DataFrame(phase.per_task, names).T.rename(short_name)
        means = cells.map(lambda cell: kind.scale * cell.mean.point, na_action="ignore")
        means = means.astype(float).rename(columns=self.named)
        figure = Figure((2.5 + 0.36 * len(names), 1 + 0.18 * len(means)))
        FigureCanvasAgg(
            figure
        )  # otherwise each label that seaborn measures leaks a renderer of 2 MB
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
        ax.set(xlabel="", ylabel="", facecolor="#f1f2f4")  # the face colour marks missing cells
        ax.tick_params("x", rotation=90)
        caption = (
            f"Mean on each task, {phase.name}, {kind.unit}; the stronger the colour, the higher."
        )
        return Drawing(figure, caption)

    # -- estimates with their intervals, a row for each method --------------------------------------------------------

    def verdict(self, phase: Phase) -> Drawing | None:
        """Draw the differences between the subject of the verdicts and the other methods."""
        palette = sns.color_palette("colorblind")
        words = {Outcome.BETTER: palette[0], Outcome.WORSE: palette[1]}
        colours = {}
        differences: dict[str, Estimate | None] = {}
        for verdict in phase.decision.verdicts:
            if verdict.difference:
                colours[verdict.method] = words.get(verdict.outcome, GREY)
                differences[verdict.method] = verdict.difference
        if not differences:
            return None
        unit = "points" if self.comparison.kind is SUCCESS else self.comparison.kind.unit
        figure = self.intervals({"": differences}, f"difference of means, {unit}", colours)
        # equality
        figure.axes[0].axvline(0, color="black", linewidth=0.8, linestyle=":")
        subject = self.named(str(phase.decision.subject))
        level = 100 * (1 - phase.decision.level)
        return Drawing(
            figure,
            f"{subject} minus the other methods, {phase.name}, with {level:.4g}% t-intervals. Blue: {subject} is "
            "better; orange: worse.",
        )

    def aggregates(self, phase: Phase) -> Drawing | None:
        """Draw the mean and the IQM of each method; published means have no IQM."""
        cells = phase.aggregates
        names = [name for name in ranking(self.comparison, phase) if name in cells]
        if len(names) < 2:  # a comparison needs two methods
            return None
        columns: dict[str, dict[str, Estimate | None]] = {}
        columns["mean"] = {name: cells[name].mean for name in names}
        if any(cells[name].iqm for name in names):
            columns["IQM"] = {name: cells[name].iqm for name in names}
        colours = {name: self.colours.get(name, GREY) for name in names}
        figure = self.intervals(columns, self.comparison.kind.unit, colours)
        tasks = only_task(self.comparison) or phase.tasks_label
        caption = f"{phase.name}, over {tasks}, with 95% intervals"
        if "IQM" in columns:
            caption += f": t for the mean, {_BOOTSTRAP} for the IQM"
        return Drawing(figure, f"{caption}.")

    def intervals(
        self,
        columns: Mapping[str, Mapping[str, Estimate | None]],
        unit: str,
        colours: Mapping[str, Any],
    ) -> Figure:
        """Draw estimates in adjacent panels.

        :param columns: title of a panel -> method, the first one on top -> its estimate.
        """
        names = list(colours)[::-1]  # rliable starts at the bottom
        scale = self.comparison.kind.scale
        rows = {}
        for name in names:
            ends = [_ends(estimates[name]) for estimates in columns.values()]
            rows[self.named(name)] = scale * np.transpose(ends)
        lines = _lines(rows)
        with matplotlib.rc_context({"font.size": 5}):  # rliable sets texts for slides
            figure, _ = plot_utils.plot_interval_estimates(
                {name: values[0] for name, values in rows.items()},
                {name: values[1:] for name, values in rows.items()},
                list(columns),
                colors={self.named(name): colour for name, colour in colours.items()},
                subfigure_width=0.6 * WIDTH,
                row_height=0.2 * lines,
                xlabel=unit,
                # constant distance below the rows: rliable's panels start at 0.11 of the height
                xlabel_y_coordinate=0.11 - 1.75 / (lines * len(names)),
            )
        plt.close(figure)  # pyplot forgets it; the figure stays
        return figure

    def improvement(self, phase: Phase) -> Drawing | None:
        """Draw the probability that a run of the subject is better than a run of another method."""
        verdicts = [v for v in phase.decision.verdicts[::-1] if v.probability]
        if not verdicts:
            return None
        separator = "\t"  # in no name
        subject = self.named(str(phase.decision.subject))
        points = {}
        intervals = {}
        for v in verdicts:
            pair = f"{subject}{separator}{self.named(v.method)}"
            point, *interval = _ends(v.probability)
            points[pair] = point
            intervals[pair] = interval
        lines = _lines(
            map(self.named, [str(phase.decision.subject), *(v.method for v in verdicts)])
        )
        figure = Figure((0.6 * WIDTH, 0.25 * lines * len(verdicts) + 0.3))
        ax = plot_utils.plot_probability_of_improvement(
            points,
            intervals,
            pair_separator=separator,
            ax=figure.subplots(),
            colors=[self.colours.get(v.method, GREY) for v in verdicts],
            **_TEXTS,
        )
        ax.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
        return Drawing(
            figure,
            f"Probability that a run of {subject} (X) beats one of the other (Y) on the same task, {phase.name}, with "
            f"95% {_BOOTSTRAP}.",
        )


def _lines(names: Iterable[str]) -> int:
    """Return the number of lines of the longest name."""
    return 1 + max(name.count("\n") for name in names)


def _ends(estimate: Estimate | None) -> tuple[float, float, float]:
    """Return the point, the low and the high end of an estimate, NaN for None."""
    if estimate is None:
        return (np.nan, np.nan, np.nan)
    return (estimate.point, *(estimate.interval or (estimate.point, estimate.point)))


def _end_of_offline(curves: pd.DataFrame) -> int | None:
    """Return the last offline step if an online phase follows and all methods share it."""
    ends = curves[curves["phase"] == PHASES[0]].groupby("method")["step"].max()
    if curves["phase"].nunique() == 2 and ends.nunique() == 1:
        return int(ends.iloc[0])
    return None
