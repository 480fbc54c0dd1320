"""The figures of a comparison as files: matplotlib draws what `zoo.report.figures.drawings` describes."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from zoo.report.comparison import BETTER, WORSE, Comparison
from zoo.report.figures.drawings import Drawing, Names, drawings_of
from zoo.report.figures.styles import MUTED, Style, panel_styles
from zoo.report.tables.entries import with_minus
from zoo.runs.scores import SUCCESS

FORMATS = ("pdf", "svg", "png")
"""The kinds of files that a figure can be written as."""
FONTS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that figures look the same on every machine
    "axes.axisbelow": True,
    "pdf.fonttype": 42,  # TrueType: conferences refuse the Type 3 fonts that are matplotlib's default
    "svg.hashsalt": "flow-rl-zoo",  # the same figure gives the same file
    "svg.fonttype": "path",  # text would be set in another font where DejaVu Sans is not installed
    "axes.spines.top": False,
    "axes.spines.right": False,
}
WORD_COLOURS = {BETTER: "#0b5394", WORSE: "#b04a00"}
QUIET = "#595d66"
_UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
_LETTER = 0.62  # the width of an average letter of DejaVu Sans, in font sizes
_LINE = 1.25  # the height of a line of text, in font sizes
_MOST_NAMED_TASKS = 12  # more are named by their domains in a paper
_ROOM_FOR_NUMBER = 2.2  # font sizes that a cell is wide
_PALE = (38, 62)  # the colours of pairs that are not clearly different, as probabilities
_DARK = 0.52  # luminance below which a colour needs white text


@dataclass(frozen=True)
class Sheet:
    """What figures are drawn for. They are placed at this width as they are, so that texts keep their size.

    :param width: of a figure, in inches.
    :param text: the size of texts, in points.
    :param panel: how wide a panel must be at least, in inches.
    :param letters: how many letters of a method's name fit on one line.
    :param stroke: what the widths of lines are multiplied by.
    """

    width: float
    text: float
    panel: float
    letters: int
    stroke: float

    @property
    def fonts(self) -> dict[Any, Any]:
        """The settings of matplotlib for a figure of this sheet."""
        sizes = dict.fromkeys(("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize"), self.text)
        return FONTS | sizes | {"axes.titlesize": self.text + 0.5}

    def lines(self, count: float) -> float:
        """Return the height of some lines of text in inches."""
        return count * _LINE * self.text / 72

    def letters_wide(self, count: float) -> float:
        """Return the width of some letters in inches."""
        return count * _LETTER * self.text / 72

    def wrap(self, text: str, inches: float) -> str:
        """Return a text in lines that are about so many inches long."""
        letters = max(8, int(inches / self.letters_wide(1)))
        return literal("\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, letters)))

    def name(self, method: str, mark: str = "", most_lines: int = 2) -> str:
        """Return the name of a method in few lines, escaped so that matplotlib reads no formula into it.

        :param mark: follows the name, however short that becomes.
        """
        lines = textwrap.wrap(method, self.letters, max_lines=most_lines, placeholder=" …") or [method]
        return literal("\n".join(lines) + mark)

    def columns(self, panels: int, beside: float = 0.0) -> int:
        """Return how many panels stand in a row: in as few rows as fit, each of them about as full.

        :param beside: what stands left of the panels, in inches.
        """
        most = max(1, int((self.width - beside) / self.panel))
        return math.ceil(panels / math.ceil(panels / most))

    def panels(
        self, heights: Sequence[float], columns: int, more: float = 0.0, **options: Any
    ) -> tuple[Figure, list[Axes]]:
        """Return a figure with panels, those of a row equally wide, and its axes row by row.

        :param heights: of each panel, in inches; a row is as high as its first one.
        :param more: what the figure is higher than its rows, in inches.
        :param options: of ``Figure.subplots``.
        """
        rows = heights[::columns]
        figure = Figure(figsize=(self.width, sum(rows) + more), layout="constrained")
        axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=rows, **options)
        for ax in axes.flat[len(heights) :]:
            ax.set_visible(False)
        for ax in axes.flat:
            ax.tick_params(labelsize=self.text)  # ticks are made when they are drawn, with the settings of that time
        return figure, list(axes.flat[: len(heights)])


PAGE = Sheet(width=9.6, text=9.0, panel=1.8, letters=40, stroke=1.0)
SHEETS = {
    "page": PAGE,
    "column": Sheet(width=3.25, text=7.0, panel=1.15, letters=15, stroke=0.7),
    "text": Sheet(width=6.75, text=7.5, panel=1.2, letters=28, stroke=0.8),
}
"""What figures can be drawn for: a page of the screen, or one column or the whole width of the text in a paper."""


def save(figure: Figure, path: Any, kind: str) -> None:
    """Write a figure as one of `FORMATS` to a path or an open binary file."""
    with matplotlib.rc_context(FONTS):
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()  # finds the layout, once for all kinds of files
            figure.set_layout_engine(None)
        figure.savefig(path, format=kind, dpi=200 if figure.get_figwidth() > 7 else 400, metadata=_UNDATED.get(kind))


def all_figures(comparison: Comparison, sheet: Sheet = PAGE) -> dict[str, Figure]:
    """Return every figure of a comparison under its name, without those that have nothing to show.

    There is no map of tasks of returns, which share no scale.
    """
    names = Names([comparison])
    drawn = {"intervals": _plot_intervals, "curves": _plot_curves, "matrix": _plot_matrices, "heat": _plot_matrices}
    with matplotlib.rc_context(sheet.fonts):
        return {
            drawing["name"]: drawn[drawing["type"]](drawing, comparison, names, sheet)
            for drawing in drawings_of(comparison, names)
            if drawing["type"] != "heat" or comparison.kind.is_comparable
        }


def literal(name: str) -> str:
    """Escape a name so that matplotlib does not read it as a formula."""
    return name.replace("$", r"\$")


def _labels(comparison: Comparison, names: Names, sheet: Sheet, most_lines: int = 2) -> list[str]:
    """Return what each method is called in a figure, with its mark."""
    return [sheet.name(name, comparison.methods[name].mark, most_lines) for name in names.methods]


def _looks(comparison: Comparison, panel: Mapping[str, Any], names: Names, sheet: Sheet) -> dict[int | None, Style]:
    """Return how a panel draws each method."""
    found = panel_styles(comparison, comparison.phases.get(panel.get("phase", "")), sheet.stroke)
    return {names.method(name): look for name, look in found.items()}


def _plot_intervals(drawing: Drawing, comparison: Comparison, names: Names, sheet: Sheet) -> Figure:
    """Draw panels, those of a phase in rows of their own, since each phase has its own order."""
    panels, labels = drawing["panels"], _labels(comparison, names, sheet)
    methods: dict[str, list[int]] = {}  # phase -> from top to bottom
    for panel in panels:
        known = methods.setdefault(panel["phase"], [])
        known += [row["m"] for row in panel["rows"] if row["m"] not in known]
    shown = [labels[m] for found in methods.values() for m in found]
    beside = sheet.letters_wide(max(len(line) for label in shown for line in label.splitlines()))
    tallest = max(label.count("\n") + 1 for label in shown)
    columns = sheet.columns(max(Counter(panel["phase"] for panel in panels).values()), beside)
    heights = [max(0.55, len(methods[panel["phase"]]) * (sheet.lines(tallest) + 0.04)) for panel in panels]
    figure, axes = sheet.panels(heights, columns, math.ceil(len(panels) / columns) * (0.25 + sheet.lines(6)))
    room = (sheet.width - beside) / columns - 0.15
    for k, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        order, looks = methods[panel["phase"]], _looks(comparison, panel, names, sheet)
        if panel["margin"]:
            ax.axvspan(-panel["margin"], panel["margin"], color="#ececec", zorder=0)
        for row in panel["rows"]:
            word = row.get("word", "")
            colour = WORD_COLOURS.get(word, QUIET) if word else looks[row["m"]].colour
            _draw_interval(ax, order.index(row["m"]), row, looks[row["m"]], colour, panel["limits"])
            ax.text(1.02, order.index(row["m"]), word, color=colour, va="center", transform=ax.get_yaxis_transform())
        ax.set_yticks(range(len(order)), ["" if k % columns else labels[m] for m in order])
        ax.set_ylim(len(order) - 0.4, -0.6)
        if panel["zero"] is not None:
            ax.axvline(panel["zero"], color="black", linewidth=0.8, linestyle=":")
        ax.set_title(sheet.wrap(panel["title"], room))
        ax.set_xlabel("\n".join(sheet.wrap(text, room) for text in (panel["label"], panel["note"]) if text))
        ax.set_xlim(panel["limits"])
        ax.xaxis.set_major_locator(MaxNLocator(5 if room > 1.5 else 3, steps=[1, 2, 5, 10]))
        ax.grid(axis="x", alpha=0.25)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    return figure


def _draw_interval(
    ax: Axes, place: int, row: Mapping[str, Any], style: Style, colour: str, limits: tuple[float, float]
) -> None:
    """Draw an estimate as a dot on its interval, or as an arrow with its value where it is outside of the axis."""
    point, size = row["value"], (5.0 if style.is_own else 4.0) * style.stroke
    if not limits[0] <= point <= limits[1]:
        is_right = point > limits[1]
        edge, offset, side = limits[is_right], (-6 if is_right else 6, 0), "right" if is_right else "left"
        ax.plot(edge, place, marker="<>"[is_right], color=colour, markersize=size, clip_on=False)
        where: dict[str, Any] = {"textcoords": "offset points", "va": "center", "ha": side}
        ax.annotate(f"{point:.1f}", (edge, place), offset, color=colour, **where)
        return
    if "interval" in row:
        ax.hlines(place, *row["interval"], color=colour, linewidth=1.8 * style.stroke)
    outline = "black" if style.is_own else colour
    ax.plot(point, place, marker="o", color=colour, markeredgecolor=outline, markersize=size)


def _plot_curves(drawing: Drawing, comparison: Comparison, names: Names, sheet: Sheet) -> Figure:
    """Draw panels of curves with their bands, the offline phase shaded, and one legend below."""
    panels = drawing["panels"]
    is_small, share = "domain" in panels[0], comparison.kind is SUCCESS or "domain" not in panels[0]
    height = (0.9 + 0.12 * sheet.width) if is_small else (1.0 + 0.25 * sheet.width)
    columns = sheet.columns(len(panels))
    figure, axes = sheet.panels([height] * len(panels), columns, sharey=share)
    named: dict[int | None, Style] = {}
    others: dict[int | None, Style] = {}
    for k, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        looks, is_profile = _looks(comparison, panel, names, sheet), panel["x"]["kind"] == "tau"
        for line in panel["lines"]:
            style = looks[line["m"]]
            (named if style.is_named else others)[line["m"]] = style
            has_marker = len(line["x"]) == 1 or (style.is_own and style.is_named and not is_profile)
            _draw_curve(ax, line, style, has_marker)
        if panel.get("border"):
            ax.axvspan(0, panel["border"], color="#f2f2f2", zorder=0)
        (left, right), (low, high) = panel["x"]["limits"], panel["y"]["limits"]
        ax.set_xlim(left, right + (0 if is_profile else 0.01 * (right - left) or 1))
        ax.set_ylim(low, high + 0.02 * (high - low))  # curves at the limit stay visible
        ax.set_title(sheet.wrap(panel["title"], (sheet.width - 0.6) / columns - 0.15))
        shaded = " (shaded: offline)" if panel.get("border") else ""
        ax.set_xlabel("" if is_small else panel["x"]["label"] + shaded)
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        if not is_profile:
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 1.5M, 5k
        ax.grid(alpha=0.25)
        if k % columns == 0:
            ax.set_ylabel(sheet.wrap(panel["y"]["label"], height - 0.6))
    _add_legend(figure, comparison, named, {m: look for m, look in others.items() if m not in named}, names, sheet)
    return figure


def _draw_curve(ax: Axes, line: Mapping[str, Any], style: Style, has_marker: bool) -> None:
    """Draw a curve with its band; a single point has a vertical line as its interval."""
    ax.plot(line["x"], line["y"], marker=style.marker if has_marker else None, markersize=3, **style.line)
    if "low" not in line:
        return
    if len(line["x"]) == 1:
        ax.vlines(line["x"], line["low"], line["high"], color=style.colour, alpha=0.4, zorder=style.layer)
    if style.is_named:  # many grey bands on one another would hide the curves that matter
        band: dict[str, Any] = {"alpha": 0.1 if style.colour == MUTED[0] else 0.2, "linewidth": 0}
        ax.fill_between(line["x"], line["low"], line["high"], color=style.colour, zorder=style.layer - 1, **band)


def _add_legend(
    figure: Figure,
    comparison: Comparison,
    named: Mapping[int | None, Style],
    others: Mapping[int | None, Style],
    names: Names,
    sheet: Sheet,
) -> None:
    """Put the methods that a panel names below all panels, in as many columns as fit, and how many others there are."""
    every = _labels(comparison, names, sheet)
    shown = [m for m in range(len(every)) if m in named]
    markers = [named[m].marker if named[m].is_own else None for m in shown]
    handles = [Line2D([], [], marker=k, markersize=3, **named[m].line) for m, k in zip(shown, markers, strict=True)]
    labels = [every[m] for m in shown]
    if others:
        handles.append(Line2D([], [], **next(iter(others.values())).line))
        labels.append(f"{len(others)} others")
    longest = max(len(line) for label in labels for line in label.splitlines())
    columns = min(len(labels), max(1, int(sheet.width / sheet.letters_wide(7.5 + longest))))
    tallest = max(label.count("\n") + 1 for label in labels)
    figure.set_figheight(figure.get_figheight() + sheet.lines(math.ceil(len(labels) / columns) * tallest + 1))
    looks: dict[str, Any] = {"frameon": False, "handlelength": 2.5, "columnspacing": 1.0, "labelspacing": 0.25}
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=sheet.text, **looks)


def _plot_matrices(drawing: Drawing, comparison: Comparison, names: Names, sheet: Sheet) -> Figure:
    """Draw methods against methods, or tasks by methods, with numbers where they fit.

    Pairs that are not clearly different, or not tested, are pale.
    """
    panels, is_pairs = drawing["panels"], drawing["type"] == "matrix"
    labels = _labels(comparison, names, sheet, most_lines=1)
    unit, colours = comparison.kind.unit, ["#f5f8fa", "#0b4f8a"]
    if is_pairs:
        unit, colours = "probability of improvement (row), in %", [WORD_COLOURS[WORSE], "#ffffff", WORD_COLOURS[BETTER]]
    shades = LinearSegmentedColormap.from_list("matrix", colours)
    limits = [0, 100] if is_pairs else [end for panel in panels for end in panel["limits"]]
    norm = Normalize(min(limits), max(limits))
    figure, axes = sheet.panels([1.0] * len(panels), 1)
    heights = []
    for ax, panel in zip(axes, panels, strict=True):
        columns = [m for m in panel["methods"] if any(cell["m"] == m for cell in panel["cells"])]
        groups = [(labels[m], 1) for m in columns] if is_pairs else _groups(panel["tasks"], names, sheet)
        rows = columns if is_pairs else range(len(panel["tasks"]))
        points, is_clear = np.full((len(rows), len(columns)), np.nan), np.ones((len(rows), len(columns)), bool)
        for cell in panel["cells"]:
            row, column = (cell["m"], cell["other"]) if is_pairs else (cell["task"], cell["m"])
            place = rows.index(row), columns.index(column)
            points[place], is_clear[place] = cell["value"] * (100 if is_pairs else 1), cell.get("isClear", True)
        shown = np.where(is_clear, points, np.clip(points, *_PALE))
        across = [labels[m] for m in columns]
        beside, above = (sheet.letters_wide(max(map(len, texts))) for texts in (dict(groups), across))
        is_thin = len(groups) < len(rows)
        ax.set_facecolor("#e4e4e4")  # what a method lacks
        mesh = ax.pcolormesh(np.ma.masked_invalid(shown), norm=norm, cmap=shades, linewidth=0.4)
        mesh.set_edgecolor("#e4e4e4")
        if not is_thin and sheet.width - beside - 0.4 >= len(columns) * _ROOM_FOR_NUMBER * sheet.text / 72:
            _write(ax, points, shades(norm(shown)), is_clear, sheet)
        ax.set_xticks(np.arange(len(columns)) + 0.5, across, rotation=90)
        edges = np.cumsum([0, *(size for _, size in groups)])
        ax.hlines(edges[1:-1] if is_thin else [], *ax.get_xlim(), color="white", linewidth=1.5)
        ax.set_yticks((edges[1:] + edges[:-1]) / 2, [name for name, _ in groups])
        ax.invert_yaxis()
        ax.xaxis.tick_top()
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_title(panel["title"])
        heights.append(max(0.65, len(rows) * sheet.lines(0.55 if is_thin else 1.15)) + above + sheet.lines(2.5))
    grid = axes[0].get_gridspec()
    assert grid is not None
    grid.set_height_ratios(heights)
    figure.set_figheight(sum(heights) + sheet.lines(4))
    scale = ScalarMappable(norm, shades.resampled(48))  # of more shades matplotlib would make a picture
    bar = figure.colorbar(scale, ax=axes, location="bottom", shrink=0.5, aspect=30, pad=0.02)
    bar.set_label(unit)
    bar.outline.set_visible(False)
    return figure


def _groups(tasks: list[dict[str, Any]], names: Names, sheet: Sheet) -> list[tuple[str, int]]:
    """Return the names beside a map of tasks and how many rows each is for: domains where a paper has many tasks."""
    domains = [(names.domains[k], len(list(found))) for k, found in groupby(task["domain"] for task in tasks)]
    if sheet is PAGE or len(tasks) <= _MOST_NAMED_TASKS or min(size for _, size in domains) < 3:
        return [(literal(task["name"]), 1) for task in tasks]
    return [(literal(name), size) for name, size in domains]


def _write(ax: Axes, points: np.ndarray, colours: np.ndarray, is_clear: np.ndarray, sheet: Sheet) -> None:
    """Write whole numbers into the cells of a matrix; those that are not clear are grey."""
    where: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 0.95 * sheet.text, "in_layout": False}
    for row, column in zip(*np.nonzero(~np.isnan(points)), strict=True):
        is_dark = colours[row, column, :3] @ [0.3, 0.59, 0.11] < _DARK
        ink = "white" if is_dark else "black" if is_clear[row, column] else QUIET
        ax.text(column + 0.5, row + 0.5, with_minus(f"{points[row, column]:.0f}"), color=ink, **where)
