"""The figures of a comparison: rliable and seaborn draw them, in the styles of the zoo.

What rliable draws is repaired where its plots mislead: labels stand at their axes whatever the number of methods, an
axis holds what it is about, and where methods are even there is a line.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
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
from rliable import plot_utils

from zoo.report.comparison import OWN, Comparison, LearningCurve, Phase, Standing, baseline_of, ranking
from zoo.report.figures.files import (
    BETTER_COLOURS,
    INK,
    PAPER,
    QUIET,
    SHADE,
    SHEETS,
    WORSE_COLOURS,
    Sheet,
    scale_colours,
)
from zoo.report.figures.styles import MUTED, Style, panel_styles
from zoo.report.scores_file import last_evaluations
from zoo.report.statistics.bootstrap import seeded
from zoo.report.statistics.estimates import Array, Curve, Estimate, Improvement
from zoo.report.tables import SHOWN_METRICS
from zoo.runs.folder import short_name
from zoo.runs.scores import METRICS, SUCCESS

_DARK = 0.2  # the luminance of a cell below which its number is white
_COLUMNS = 4  # panels in a row


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
    comparison: Comparison, evaluations: pd.DataFrame, sheet: Sheet = SHEETS["page"], only: str = "*"
) -> dict[str, Drawing]:
    """Return every figure of a comparison that has something to show: name -> figure.

    :param evaluations: of all runs that count; those of own runs are drawn one by one.
    :param only: a pattern of the names of the figures to draw.
    """
    kind, whole = comparison.kind, _Pen(comparison, sheet)
    makers: dict[str, Callable[[], Drawing | None]] = {}
    for phase in comparison.phases.values():
        pen = _Pen(comparison, sheet, phase)
        for make in (_verdict, _aggregates, _profiles, _improvement, _heat_map):
            makers[f"{make.__name__[1:]}_{phase.name}"] = partial(make, pen, phase)
        makers[f"runs_{phase.name}"] = partial(_runs, pen, phase, evaluations)
    for metric in SHOWN_METRICS:
        makers[f"sample_efficiency_{metric}"] = partial(_sample_efficiency, whole, metric)
    makers["domains" if kind is SUCCESS else "environments"] = partial(_domains, whole)
    with matplotlib.rc_context(sheet.looks):
        found = {name + kind.suffix: make() for name, make in makers.items() if fnmatchcase(name, only)}
    return {name: drawing for name, drawing in found.items() if drawing is not None}


@dataclass(frozen=True)
class _Pen:
    """What the figures about one phase, or about all of them, have in common."""

    comparison: Comparison
    sheet: Sheet
    phase: Phase | None = None

    @cached_property
    def looks(self) -> dict[str, Style]:
        """How each method is drawn, the best first."""
        return panel_styles(self.comparison, self.phase)

    def label(self, method: str, most_lines: int = 2) -> str:
        """Return what a method is called, in few lines."""
        about = self.comparison.methods[method]
        return _lines(about.name, self.sheet.letters - len(about.mark), most_lines) + about.mark

    def wrap(self, text: str, share: float) -> str:
        """Return a text in lines that take a share of a figure's width."""
        return _lines(text, int(share * self.sheet.width * 72 / self.sheet.text / 0.6))

    @property
    def colours(self) -> dict[str, str]:
        """The colour of each method."""
        return {name: look.colour for name, look in self.looks.items()}

    @property
    def where(self) -> str:
        """The phase and the kind of scores."""
        return f"{self.phase.name if self.phase else ''}{self.comparison.kind.title}"

    def title(self, what: str) -> str:
        """Return a title that names the phase and the kind of scores."""
        return f"{what}{', ' if self.phase else ''}{self.where}"

    def empty(self, width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
        """Return a figure with empty panels; sizes are in inches."""
        figure = Figure(figsize=(width, height), layout="constrained")
        share = columns > 1 and self.comparison.kind.is_comparable
        return figure, list(figure.subplots(rows, columns, squeeze=False, sharey=share).ravel())

    def tidy(self, ax: Axes) -> None:
        """Undo what rliable does to an axis for a slide: large texts, and thick lines away from the panel."""
        for side in ("left", "bottom"):
            ax.spines[side].set(linewidth=0.6, position=("outward", 3))
        ax.tick_params(length=2.5, width=0.6, labelsize=self.sheet.text)
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            text.set_fontsize(self.sheet.text)
        ax.grid(visible=True)
        ax.set_axisbelow(True)

    def tidy_rows(self, ax: Axes, names: Sequence[str], limits: tuple[float, float]) -> None:
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
        lines = max(self.label(name).count("\n") + 1 for name in names)
        around = max((ax.get_title() + ax.get_xlabel()).count("\n") for ax in figure.axes)
        rows = max(0.6, len(names) * self.sheet.inches(1.15 * lines))
        figure.set_layout_engine("constrained")
        figure.set_size_inches(self.sheet.width, rows + self.sheet.inches(4.5 + around))


def _lines(text: str, letters: int, most: int | None = None) -> str:
    """Return a text in lines; a long name is broken after an underscore."""
    lines = textwrap.wrap(text.replace("_", "_ "), letters, max_lines=most, placeholder="…")
    return "\n".join(lines).replace("_ ", "_")


# -- estimates with their intervals, a row for each method ------------------------------------------------------------


@dataclass(frozen=True)
class _Panel:
    """Estimates of some methods on one axis.

    :param scale: the unit of the axis in that of the estimates.
    :param zero: where a method is neither better nor worse; None where there is no such place.
    :param margin: how far from there that is so, too.
    :param holds: numbers that the axis holds beside the estimates.
    """

    title: str
    unit: str
    estimates: Mapping[str, Estimate | None]
    scale: float = 1.0
    zero: float | None = None
    margin: float = 0.0
    holds: tuple[float, ...] = ()

    def bounds(self, name: str) -> tuple[float, float, float]:
        """Return an estimate, and the ends of its interval; NaN where there is none."""
        found = self.estimates.get(name) or Estimate(math.nan)
        low, high = found.interval or (found.point, found.point)
        return self.scale * found.point, self.scale * low, self.scale * high


def _verdict(pen: _Pen, phase: Phase) -> Drawing | None:
    """Draw how far the subject of a phase's verdict is ahead of each other method, and say it in words."""
    comparison, found = pen.comparison, phase.decision.verdicts
    if not found:
        return None
    subject = comparison.methods[str(phase.decision.subject)].title
    words = {Standing.BETTER: BETTER_COLOURS, Standing.WORSE: WORSE_COLOURS}
    colours = {v.other: words.get(v.outcome, QUIET)[0] for v in found}
    panel = _ahead(pen, {v.other: v.improvement for v in found}, f"{subject} against")[-1]
    figure, (ax,) = _intervals(pen, [panel], colours)
    for place, v in enumerate(found):
        ax.text(1.03, place, v.outcome, color=colours[v.other], va="center", transform=ax.get_yaxis_transform())
    return Drawing(figure, pen.title(f"{subject} against each other method"), list(colours))


def _improvement(pen: _Pen, phase: Phase) -> Drawing | None:
    """Draw the probability of improvement over the baseline, with the difference of means beside it."""
    baseline = baseline_of(pen.comparison)
    pairs = {name: phase.improvements[name, baseline] for name in pen.looks if (name, baseline) in phase.improvements}
    if not pairs:
        return None
    panels = _ahead(pen, pairs, f"over {baseline}")
    return Drawing(
        _intervals(pen, panels, pen.colours)[0], pen.title(f"Probability of improvement over {baseline}"), list(pairs)
    )


def _ahead(pen: _Pen, pairs: Mapping[str, Improvement], title: str) -> list[_Panel]:
    """Return panels of how methods compare with one: by probability, and where there are means by their difference."""
    kind, differences = pen.comparison.kind, {name: pair.difference for name, pair in pairs.items()}
    chances = {name: pair.probability for name, pair in pairs.items()}
    panels = [_Panel(title, "probability of improvement", chances, zero=0.5, holds=(0.0, 1.0))]
    if all(differences.values()):
        margin = kind.scale * pen.comparison.resolve if kind.is_comparable else 0.0
        unit = f"difference of means, {'points' if kind is SUCCESS else kind.unit}"
        panels.append(_Panel(title, unit, differences, kind.scale, zero=0.0, margin=margin))
    return panels


def _aggregates(pen: _Pen, phase: Phase) -> Drawing | None:
    """Draw the mean and the IQM of each method."""
    kind, cells = pen.comparison.kind, phase.aggregates
    order = [name for name in ranking(pen.comparison, phase) if name in cells]
    if not order:
        return None
    panels = [
        _Panel(
            METRICS[metric],
            f"{kind.unit}\n{phase.tasks_label}",
            {name: cells[name].estimates.get(metric) for name in order},
            kind.scale,
        )
        for metric in SHOWN_METRICS
    ]
    return Drawing(_intervals(pen, panels, pen.colours)[0], pen.title("Mean and IQM"), order)


def _intervals(pen: _Pen, panels: Sequence[_Panel], colours: Mapping[str, str]) -> tuple[Figure, list[Axes]]:
    """Draw estimates of the same methods in panels beside one another, the first method on top."""
    names, share = list(panels[0].estimates), 0.6 / len(panels)
    found = {name: np.array([panel.bounds(name) for panel in panels]) for name in names}
    figure, drawn = plot_utils.plot_interval_estimates(
        {name: bounds[:, 0] for name, bounds in found.items()},
        {name: bounds[:, 1:].T for name, bounds in found.items()},
        [pen.wrap(f"{pen.where}, {panel.title}", share) for panel in panels],
        algorithms=names,
        colors=colours,
        xlabel="",
    )
    plt.close(figure)  # pyplot forgets it; the figure stays
    axes = list(np.atleast_1d(drawn))
    for k, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        points, ends = (np.array([bounds[k, part] for bounds in found.values()]) for part in (0, [1, 2]))
        inside = ends if len(names) == 1 and panel.zero is None else points
        if panel.zero is not None:
            band = panel.zero - panel.margin, panel.zero + panel.margin
            inside = np.append(inside, [*band, *panel.holds])
            ax.axvspan(*band, color=SHADE[0], zorder=0)
            ax.axvline(panel.zero, color=INK[0], linewidth=0.8, linestyle=":")
        pen.tidy_rows(ax, names, _cut(inside, np.append(inside, ends)))
        ax.set_xlabel("\n".join(pen.wrap(line, share) for line in panel.unit.splitlines()))
    axes[0].set_yticks(range(len(names)), map(pen.label, names))
    pen.fit_rows(figure, names)
    return figure, axes


def _cut(inside: Array, ends: Array) -> tuple[float, float]:
    """Return the limits of an axis with all values `inside`, and the `ends` of intervals that are not far from them."""
    low, high = np.nanmin(inside), np.nanmax(inside)
    span = high - low or 0.1 * abs(high) or 1.0
    low, high = max(np.nanmin(ends), low - span / 2), min(np.nanmax(ends), high + span / 2)
    margin = 0.05 * (high - low or span)
    return float(low - margin), float(high + margin)


# -- curves -----------------------------------------------------------------------------------------------------------


def _profiles(pen: _Pen, phase: Phase) -> Drawing | None:
    """Draw the performance profiles."""
    kind, looks, sheet = pen.comparison.kind, pen.looks, pen.sheet
    shown = {name: phase.profiles[name] for name in looks if name in phase.profiles}
    if not shown:
        return None
    figure, (ax,) = pen.empty(sheet.width, 0.62 * sheet.width)
    plot_utils.plot_performance_profiles(
        {name: curve.points for name, curve in shown.items()},
        kind.scale * phase.thresholds,
        {name: curve.bounds for name, curve in shown.items() if curve.bounds is not None and looks[name].is_named},
        ax=ax,
        colors=pen.colours,
        linestyles={name: looks[name].dash for name in shown},
        xlabel=f"threshold τ, {kind.unit}",
        ylabel="fraction of runs above τ",
    )
    for line, name in zip(ax.lines, shown, strict=True):
        line.set(**looks[name].line)
    pen.tidy(ax)
    ax.set(xlim=(0, 100) if kind is SUCCESS else tuple(kind.scale * phase.thresholds[[0, -1]]), ylim=(0, 1.02))
    ax.set_title(f"{phase.name}{kind.title}, {phase.tasks_label}", fontsize=sheet.text)
    _add_legend(figure, pen, shown)
    return Drawing(figure, pen.title("Performance profiles"), list(shown))


def _sample_efficiency(pen: _Pen, metric: str) -> Drawing | None:
    """Draw the learning curves over all tasks."""
    comparison, sheet = pen.comparison, pen.sheet
    parts = [phase.curves for phase in comparison.phases.values()]
    if not any(parts):
        return None
    figure, (ax,) = pen.empty(sheet.width, 0.62 * sheet.width)
    shown = _draw_curves(ax, pen, parts, metric)
    ax.set_title(f"{METRICS[metric]}{comparison.kind.title}, {comparison.curves_label}")
    ax.set(xlabel="steps (shaded: offline)" if _end_of_offline(parts) else "steps", ylabel=comparison.kind.unit)
    _add_legend(figure, pen, shown)
    return Drawing(figure, pen.title(f"Sample efficiency, {METRICS[metric]}"), shown)


def _domains(pen: _Pen) -> Drawing | None:
    """Draw the learning curves over the tasks of each domain."""
    kind, phases, sheet = pen.comparison.kind, pen.comparison.phases.values(), pen.sheet
    domains = sorted({domain for phase in phases for domain, curves in phase.domain_curves.items() if curves})
    if not domains:
        return None
    columns = min(len(domains), _COLUMNS, max(2, int(sheet.wide / 2.2)))
    rows = math.ceil(len(domains) / columns)
    width = min(sheet.wide / columns, max(0.6 * sheet.width, sheet.width / columns))
    figure, axes = pen.empty(width * columns, 0.75 * width * rows, rows, columns)
    methods: dict[str, None] = {}
    for ax, domain in zip(axes, domains, strict=False):
        shown = _draw_curves(ax, pen, [phase.domain_curves.get(domain, {}) for phase in phases], "mean")
        methods |= dict.fromkeys(shown)
        ax.set_title("\n".join(textwrap.wrap(domain, int(width * 72 / sheet.text / 0.65))))
    for ax in axes[len(domains) :]:
        ax.set_visible(False)
    for ax in axes[: len(domains) : columns]:
        ax.set_ylabel(kind.unit)
    what = "domain" if kind is SUCCESS else "environment"
    ordered = [name for name in pen.looks if name in methods]
    _add_legend(figure, pen, ordered)
    return Drawing(figure, pen.title(f"Learning curves of each {what}"), ordered)


def _draw_curves(ax: Axes, pen: _Pen, parts: Sequence[Mapping[str, LearningCurve]], metric: str) -> list[str]:
    """Draw the learning curves of all phases; return the methods that have one.

    A band much wider than the curves are apart is cut by the axis.
    """
    scale, border = pen.comparison.kind.scale, _end_of_offline(parts)
    present = [name for name in pen.looks if any(name in part for part in parts)]
    curves = {name: _whole_curve(name, parts, metric) for name in present}
    if border:
        ax.axvspan(0, border, color=SHADE[0], zorder=0)
    for name, (steps, points, bounds) in curves.items():
        look = pen.looks[name]
        plot_utils.plot_sample_efficiency_curve(
            steps, {name: scale * points}, {name: scale * bounds if look.is_named else (scale * points,) * 2},
            colors={name: look.colour}, ax=ax, marker="o" if len(steps) == 1 or look.is_own else "",
            xlabel="", ylabel="",
        )  # fmt: skip
        ax.lines[-1].set(**look.line, markersize=2.5)
        ax.collections[-1].set(zorder=look.layer - 1, linewidth=0)
    pen.tidy(ax)
    inside, ends = (np.concatenate([curve[k].ravel() for curve in curves.values()]) for k in (1, 2))
    ax.set_ylim((0, 102) if pen.comparison.kind is SUCCESS else _cut(scale * inside, scale * ends))
    ax.set_xlim(0, 1.01 * max(steps[-1] for steps, _, _ in curves.values()))
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 1.5M, 5k
    return present


def _whole_curve(name: str, parts: Sequence[Mapping[str, LearningCurve]], metric: str) -> tuple[Array, Array, Array]:
    """Return the steps, points (K,) and bounds (2, K) of a method's curve over all phases.

    A method that starts online begins where the others go online.
    """
    found = [part[name] for part in parts if name in part]
    curves: list[Curve] = [getattr(each, metric) for each in found]
    steps = np.concatenate([each.steps for each in found])
    border = _end_of_offline(parts) or 0
    if name not in parts[0] and steps[0] < border:
        steps = steps + border
    bounds = [np.stack([c.points, c.points]) if c.bounds is None else c.bounds for c in curves]
    return steps, np.concatenate([curve.points for curve in curves]), np.concatenate(bounds, axis=1)


def _end_of_offline(parts: Sequence[Mapping[str, LearningCurve]]) -> int | None:
    """Return the last offline step if an online phase follows and all methods share it."""
    ends = {int(curve.steps[-1]) for curve in parts[0].values()}
    return ends.pop() if len(parts) == 2 and len(ends) == 1 else None


def _add_legend(figure: Figure, pen: _Pen, methods: Collection[str]) -> None:
    """Name the methods that are told apart below all panels, and say how many others there are."""
    looks, sheet = pen.looks, pen.sheet
    named = [name for name in methods if looks[name].is_named]
    handles = [Line2D([], [], marker="o" if looks[n].is_own else None, markersize=3, **looks[n].line) for n in named]
    labels = [pen.label(name) for name in named]
    if others := len(methods) - len(named):
        handles.append(Line2D([], [], color=MUTED[0], linewidth=0.7))
        labels.append(f"{others} others")
    longest = max(len(line) for label in labels for line in label.splitlines())
    columns = min(len(labels), max(1, int(figure.get_figwidth() * 72 / sheet.text / 0.62 / (longest + 6))))
    lines = math.ceil(len(labels) / columns) * max(label.count("\n") + 1 for label in labels) + 1
    figure.set_figheight(figure.get_figheight() + sheet.inches(lines))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=2.2, columnspacing=1.2)


# -- single tasks and single runs -------------------------------------------------------------------------------------


def _heat_map(pen: _Pen, phase: Phase) -> Drawing | None:
    """Draw the mean of each method on each task.

    Returns have no common scale, so a colour there lies between those of the worst and the best method of a task.
    """
    kind, names = pen.comparison.kind, [name for name in pen.looks if name in phase.coverage]
    if len(phase.per_task) < 2:
        return None
    points = {
        task: {n: cell.estimates["mean"].point for n, cell in cells.items()} for task, cells in phase.per_task.items()
    }
    means = pd.DataFrame.from_dict(points, "index").reindex(columns=names)
    low, high, ends = 0.0, 1.0, ("0", "100")
    if kind.is_comparable and kind is not SUCCESS:
        low, high = np.nanmin(means), np.nanmax(means)
        ends = (f"{kind.scale * low:.0f}", f"{kind.scale * high:.0f}")
    elif not kind.is_comparable:
        low, high, ends = means.min(axis=1), means.max(axis=1), ("worst", "best")
    shades = means.sub(low, axis=0).div(np.maximum(high - low, 1e-9), axis=0)
    shades.index, shades.columns = map(short_name, means.index), [pen.label(name, 1) for name in names]
    texts = (kind.scale * means).map("{:,.0f}".format)
    if len(names) > len(means):  # a page is higher than wide
        shades, texts = shades.T, texts.T
    sheet, (rows, columns) = pen.sheet, shades.shape
    letter = 0.62 * sheet.text / 72
    beside, above = (letter * max(map(len, labels)) for labels in (shades.index, shades.columns))
    cell = letter * (1.4 + max(map(len, texts.to_numpy().ravel())))
    width = min(sheet.wide, max(beside + columns * cell + 0.2, 0.75 * sheet.width))
    figure, (ax,) = pen.empty(width, above + rows * sheet.inches(1.2) + sheet.inches(3))
    scale, has_room = ListedColormap([light for light, _ in scale_colours()]), width - beside >= columns * cell
    sns.heatmap(
        shades, ax=ax, cmap=scale, vmin=0, vmax=1, linewidths=0.4, xticklabels=True, yticklabels=True,
        annot=texts if has_room else None, fmt="", annot_kws={"size": 0.9 * sheet.text}, cbar=not has_room,
        cbar_kws={"location": "bottom", "shrink": 0.5, "aspect": 30, "pad": 0.02, "ticks": [0, 1]},
    )  # fmt: skip
    if bar := ax.collections[0].colorbar:
        bar.set_ticklabels(ends)
    for text in ax.texts:
        column, row = map(int, text.get_position())
        is_dark = sns.utils.relative_luminance(scale(shades.iat[row, column])) < _DARK
        text.set_color(PAPER[0] if is_dark else INK[0])
    ax.set_facecolor(SHADE[0])  # of what is missing
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.tick_params("x", rotation=90)
    ax.tick_params("y", rotation=0)
    ax.set_title(f"{phase.name}, {kind.unit}")
    return Drawing(figure, pen.title("Mean of each method on each task"), names)


def _runs(pen: _Pen, phase: Phase, evaluations: pd.DataFrame) -> Drawing | None:
    """Draw the last score of each own run."""
    kind = pen.comparison.kind
    is_shown = (evaluations[["source", "kind", "phase"]] == [OWN, kind.name, phase.name]).all(axis=1)
    last = last_evaluations(evaluations[is_shown])
    if not len(last) or (not kind.is_comparable and last["environment"].nunique() > 1):
        return None
    names = [name for name in pen.looks if name in set(last["method"])]
    scores = kind.scale * last["score"]
    figure, (ax,) = pen.empty(1, 1)
    with seeded():  # seaborn draws the jitter from NumPy's own generator
        sns.stripplot(
            x=scores, y=last["method"], hue=last["method"], palette=pen.colours, order=names, hue_order=names, size=3.5,
            alpha=0.5, jitter=0.25, legend=False, ax=ax,
        )  # fmt: skip
    pen.tidy_rows(ax, names, (-2, 102) if kind is SUCCESS else _cut(scores, scores))
    ax.set_yticks(range(len(names)), map(pen.label, names))
    ax.set(xlabel=kind.unit, ylabel="", title=f"{phase.name}{kind.title}, single runs")
    pen.fit_rows(figure, [*names, *names])
    return Drawing(figure, pen.title("Last score of each own run"), names)
