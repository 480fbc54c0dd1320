"""Figures of estimates with their intervals, a row for each method."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
import numpy as np
from rliable import plot_utils

from zoo.report.comparison import Outcome, Phase, baseline_of
from zoo.report.figures.context import Drawing, PlotContext, axis_limits
from zoo.report.figures.files import BETTER_COLOURS, INK, PAPER, QUIET, SHADE, WORSE_COLOURS
from zoo.report.figures.styles import FOCUS
from zoo.report.statistics.estimates import Array, Estimate, Improvement, Range
from zoo.report.tables import is_compared, only_task, shown_metrics
from zoo.runs.scores import METRICS, SUCCESS


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
