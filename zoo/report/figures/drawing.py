"""What the figures of a report share: sizes, fonts, curves with bands, panels of intervals, the legend, and files."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from zoo.report.comparison import Comparison
from zoo.report.figures.styles import MUTED, Style, panel_styles
from zoo.report.statistics.estimates import Curve, Estimate

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
_UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
LETTER = 0.62  # the width of an average letter of DejaVu Sans, in font sizes
_FEWEST_FENCED = 8  # methods, fewer than which are all inside of an axis
_LINE = 1.25  # the height of a line of text, in font sizes


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
        sizes = {"font.size": self.text, "axes.titlesize": self.text + 0.5, "axes.labelsize": self.text}
        return FONTS | sizes | {"xtick.labelsize": self.text, "ytick.labelsize": self.text}

    def lines(self, count: float) -> float:
        """Return the height of some lines of text in inches."""
        return count * _LINE * self.text / 72

    def wrap(self, text: str, inches: float) -> str:
        """Return a text in lines that are about so many inches long."""
        letters = max(8, int(inches * 72 / (LETTER * self.text)))
        return "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, letters))

    def name(self, method: str, mark: str = "") -> str:
        """Return the name of a method in at most two lines, escaped so that matplotlib reads no formula into it.

        :param mark: follows the name, however short that becomes.
        """
        lines = textwrap.wrap(method, self.letters, max_lines=2, placeholder=" …") or [method]
        return literal("\n".join(lines) + mark)

    def wider(self) -> Sheet:
        """Return a sheet whose panels have room for the names of methods at their right."""
        return replace(self, panel=self.panel + (self.letters + 2) * LETTER * self.text / 72 / 2)

    def panels(
        self, count: int, height: float, beside: float = 0.0, most: int = 100, **options: Any
    ) -> tuple[Figure, list[Axes]]:
        """Return a figure with panels in as few rows as fit, those of a row equally wide, and its axes row by row.

        :param height: of a row, in inches.
        :param beside: what stands left of the panels, in inches.
        :param most: the most panels of a row.
        :param options: of ``Figure.subplots``.
        """
        most = min(most, max(1, int((self.width - beside) / self.panel)))
        rows = math.ceil(count / most)
        columns = math.ceil(count / rows)
        figure = Figure(figsize=(self.width, rows * height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **options)
        for ax in axes.flat[count:]:
            ax.set_visible(False)
        for ax in axes.flat:
            ax.tick_params(labelsize=self.text)  # ticks are made when they are drawn, with the settings of that time
        return figure, list(axes.flat[:count])


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


def panel_width(ax: Axes, beside: float = 0.0) -> float:
    """Return about how many inches of text fit above or below a panel."""
    assert isinstance(ax.figure, Figure)
    return float((ax.figure.get_figwidth() - beside) / place_of(ax).get_gridspec().ncols - 0.15)


def place_of(ax: Axes) -> SubplotSpec:
    """Return the place of a panel in its figure."""
    place = ax.get_subplotspec()
    assert place is not None
    return place


def literal(name: str) -> str:
    """Escape a name so that matplotlib does not read it as a formula."""
    return name.replace("$", r"\$")


def draw_curve(
    ax: Axes, x: np.ndarray, curve: Curve, style: Style, scale: float = 1.0, marker: str | None = None
) -> None:
    """Draw a curve with its band; a single point has a vertical line as its interval."""
    ax.plot(x, scale * curve.points, marker=marker, markersize=3, **style.line)
    if curve.bounds is None:
        return
    low, high = scale * curve.bounds
    if len(x) == 1:
        ax.vlines(x, low, high, color=style.colour, alpha=0.4, zorder=style.layer)
    if style.is_named:  # many grey bands on one another would hide the curves that matter
        alpha = 0.1 if style.colour == MUTED[0] else 0.2
        ax.fill_between(x, low, high, color=style.colour, alpha=alpha, linewidth=0, zorder=style.layer - 1)


@dataclass(frozen=True)
class Panel:
    """Estimates of several methods on one axis, the first one on top; panels of a phase and unit share their limits.

    :param note: a second line below the label.
    :param phase: what the estimates are about.
    :param scale: what an estimate is multiplied by before it is drawn.
    :param no_difference: where to draw a dotted line, or None.
    :param limits: of the axis; None fits them to the intervals.
    :param margin: half the width of a shaded band around `no_difference`.
    :param words: what is said of each method at the other side, and its colour.
    """

    title: str
    label: str
    estimates: Mapping[str, Estimate | None]
    scale: float = 1.0
    no_difference: float | None = None
    limits: tuple[float, float] | None = None
    note: str = ""
    phase: str = ""
    margin: float = 0.0
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def plot_panels(panels: Sequence[Panel], comparison: Comparison, sheet: Sheet = PAGE) -> Figure | None:
    """Return panels, those of a phase in rows of their own, since each phase has its own order; None without panels."""
    if not panels:
        return None
    methods = comparison.methods
    labels = {name: sheet.name(name, methods[name].mark) for panel in panels for name in panel.estimates}
    lines = [line for label in labels.values() for line in label.splitlines()]
    beside = LETTER * sheet.text / 72 * max(map(len, lines))
    tallest = max(label.count("\n") + 1 for label in labels.values())
    together = max(Counter(panel.phase for panel in panels).values())
    figure, axes = sheet.panels(len(panels), 1.0, beside, together)
    grid = place_of(axes[0]).get_gridspec()
    most = [max(len(p.estimates) for p in panels[k : k + grid.ncols]) for k in range(0, len(panels), grid.ncols)]
    heights = [max(0.55, rows * (sheet.lines(tallest) + 0.04)) for rows in most]
    grid.set_height_ratios(heights)
    figure.set_figheight(sum(heights) + len(heights) * (0.25 + sheet.lines(6)))
    for ax, panel in zip(axes, panels, strict=True):
        limits = limits_of(panel, panels)
        looks = panel_styles(comparison, comparison.phases[panel.phase], sheet.stroke)
        if panel.margin:
            ax.axvspan(-panel.margin, panel.margin, color="#ececec", zorder=0)
        for row, (name, estimate) in enumerate(panel.estimates.items()):
            word, colour = panel.words.get(name, ("", looks[name].colour))
            _draw_interval(ax, row, estimate, replace(looks[name], colour=colour), panel.scale, limits)
            ax.text(1.02, row, word, color=colour, va="center", transform=ax.get_yaxis_transform())
        is_first = place_of(ax).is_first_col()
        ax.set_yticks(range(len(panel.estimates)), [labels[name] if is_first else "" for name in panel.estimates])
        ax.set_ylim(len(panel.estimates) - 0.4, -0.6)
        if panel.no_difference is not None:
            ax.axvline(panel.no_difference, color="black", linewidth=0.8, linestyle=":")
        room = panel_width(ax, beside)
        ax.set_title(literal(sheet.wrap(panel.title, room)))
        ax.set_xlabel("\n".join(sheet.wrap(text, room) for text in (panel.label, panel.note) if text))
        ax.set_xlim(limits)
        ax.xaxis.set_major_locator(MaxNLocator(5 if room > 1.5 else 3, steps=[1, 2, 5, 10]))
        ax.grid(axis="x", alpha=0.25)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    return figure


def limits_of(panel: Panel, panels: Sequence[Panel]) -> tuple[float, float]:
    """Return the limits of a panel's axis, by default those that hold the intervals of its phase and unit.

    Methods that are far worse than most (outside of Tukey's fence) would press these together, so they are left out.
    """
    if panel.limits is not None:
        return panel.limits
    same = [other for other in panels if (other.label, other.phase) == (panel.label, panel.phase)]
    found = [(other.scale, e) for other in same for e in other.estimates.values() if e is not None]
    low, high = np.percentile([scale * estimate.point for scale, estimate in found], [25, 75])
    reach = 1.5 * (high - low) if len(panel.estimates) >= _FEWEST_FENCED else math.inf
    first = low - reach if panel.no_difference is None else -math.inf
    last = high + reach if panel.words else math.inf  # how far others are behind
    ends = [
        scale * value
        for scale, estimate in found
        if first <= scale * estimate.point <= last
        for value in (estimate.point, *(estimate.interval or ()))
    ]
    if panel.no_difference is not None:
        ends += [panel.no_difference - panel.margin, panel.no_difference + panel.margin]
    low, high = min(ends), max(ends)
    margin = 0.06 * (high - low or abs(high) or 1.0)
    return (low - margin, high + margin)


def _draw_interval(
    ax: Axes, row: int, estimate: Estimate | None, style: Style, scale: float, limits: tuple[float, float]
) -> None:
    """Draw an estimate as a dot on its interval, or as an arrow with its value where it is outside of the axis."""
    if estimate is None:
        return
    point, size = scale * estimate.point, (5.0 if style.is_own else 4.0) * style.stroke
    if not limits[0] <= point <= limits[1]:
        is_right = point > limits[1]
        edge, marker = limits[is_right], "<>"[is_right]
        ax.plot(edge, row, marker=marker, color=style.colour, markersize=size, clip_on=False)
        ax.annotate(
            f"{point:.1f}", (edge, row), ((-6, 6)[not is_right], 0), textcoords="offset points", va="center",
            ha=("left", "right")[is_right], color=style.colour,
        )  # fmt: skip
        return
    if estimate.interval is not None:
        low, high = (scale * bound for bound in estimate.interval)
        ax.hlines(row, low, high, color=style.colour, linewidth=1.8 * style.stroke)
    outline = "black" if style.is_own else style.colour
    ax.plot(point, row, marker="o", color=style.colour, markeredgecolor=outline, markersize=size)


def label_ends(ax: Axes, ends: Mapping[str, float], looks: Mapping[str, Style], sheet: Sheet, height: float) -> None:
    """Write the names of methods beside the ends of their curves, apart from each other.

    :param ends: method -> where its curve ends; those that are not named are counted together.
    :param height: of the panel, in inches.
    """
    places = {name: end for name, end in ends.items() if looks[name].is_named}
    texts = {name: f"{name[: sheet.letters - 1]}…" if len(name) > sheet.letters else name for name in places}
    colours = {name: looks[name].colour for name in places}
    if others := [end for name, end in ends.items() if name not in places]:
        places[""], texts[""], colours[""] = float(np.median(others)), f"{len(others)} others", MUTED[0]
    low, high = ax.get_ylim()
    gap = 1.1 * sheet.lines(1) / height * (high - low)
    order = sorted(places, key=lambda name: places[name])
    place, last = np.array([places[name] for name in order]), len(order) - 1
    for k in range(1, last + 1):
        place[k] = max(place[k], place[k - 1] + gap)
    for k in range(last, -1, -1):
        place[k] = min(place[k], high - gap / 2 - (last - k) * gap)
    for name, y in zip(order, place, strict=True):
        mark = looks[name].mark if name else ""
        ax.text(
            1.02, y, literal(texts[name]) + mark, color=colours[name], va="center", transform=ax.get_yaxis_transform()
        )


def legend_below(figure: Figure, looks: Mapping[str, Style], drawn: Sequence[Iterable[str]], sheet: Sheet) -> None:
    """Put one legend of the named methods that were drawn under all panels, in as many columns as fit."""
    names = [name for name in looks if any(name in part for part in drawn)]
    shown = [name for name in names if looks[name].is_named]
    handles = [
        Line2D([], [], marker=looks[name].marker if looks[name].is_own else None, markersize=3, **looks[name].line)
        for name in shown
    ]
    labels = [sheet.name(name, looks[name].mark) for name in shown]
    if len(names) > len(shown):
        handles.append(Line2D([], [], **next(looks[name] for name in names if name not in shown).line))
        labels.append(f"{len(names) - len(shown)} others")
    longest = max(len(line) for label in labels for line in label.splitlines())
    column = (4.5 + LETTER * longest) * sheet.text / 72  # the handle, the gaps and the name
    columns = min(len(labels), max(1, int(sheet.width / column)))
    tallest = max(label.count("\n") + 1 for label in labels)
    figure.set_figheight(figure.get_figheight() + sheet.lines(math.ceil(len(labels) / columns) * tallest + 1))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=sheet.text,
        handlelength=2.5,
        columnspacing=1.0,
        labelspacing=0.25,
    )
