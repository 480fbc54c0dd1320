"""What the figures of a comparison share: styles, texts in lines, and axes."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from zoo.report.comparison import Comparison, Phase
from zoo.report.figures.files import FigureSize
from zoo.report.figures.styles import Style, panel_styles
from zoo.report.statistics.estimates import Range
from zoo.runs.scores import SUCCESS, ScoreKind


@dataclass(frozen=True)
class Drawing:
    """One figure.

    :param title: what it shows.
    :param methods: those in it, in their order.
    :param notes: what its caption says of bands, shades and grey lines, where it has any.
    """

    figure: Figure
    title: str
    methods: Sequence[str]
    notes: Sequence[str] = ()


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

    def label(self, method: str, max_lines: int = 2) -> str:
        """Return what a method is called, in few lines."""
        about = self.comparison.methods[method]
        return in_lines(about.name, self.size.letters - len(about.mark), max_lines) + about.mark

    def wrap(self, text: str, width: float) -> str:
        """Return a text in lines of at most some inches."""
        return in_lines(text, int(width / self.size.letter))

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
        """Undo what rliable does to an axis for a slide: large texts, a faint grid, thick lines away from the panel."""
        # rliable sets all this itself, so that the settings of `rc_context` do not reach it
        ax.spines[:].set_linewidth(0.6)
        sns.despine(ax=ax, offset=3)
        ax.tick_params(length=2.5, width=0.6, labelsize=self.size.text)
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            text.set_fontsize(self.size.text)
        ax.grid(visible=True, alpha=1)

    def tidy_rows(self, ax: Axes, names: Sequence[str], limits: Range) -> None:
        """Do so for an axis with a row for each method, the first one on top."""
        self.tidy(ax)
        ax.grid(visible=False, axis="y")
        ax.tick_params("y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set(xlim=limits, ylim=(len(names) - 0.4, -0.6))

    def fit_rows(self, figure: Figure, names: Sequence[str], lines: int = 1) -> None:
        """Name the rows, and make a figure as high as they are, with room for the texts around them.

        :param lines: of text for which a row has room, in place of one.
        """
        labels = list(map(self.label, names))
        figure.axes[0].set_yticks(range(len(names)), labels)
        # titles and units are broken into lines, beside 3.5 lines of ticks and gaps
        around = most_lines(ax.get_title() + ax.get_xlabel() for ax in figure.axes)
        rows = max(0.6, lines * len(names) * self.size.inches(1.15 * most_lines(labels)))
        figure.set_layout_engine("constrained")  # rliable's figures have none
        figure.set_size_inches(self.size.width, rows + self.size.inches(3.5 + around))


def in_lines(text: str, letters: int, max_lines: int | None = None) -> str:
    """Return a text in lines; a long name is broken after an underscore."""
    # textwrap breaks at spaces and hyphens only
    lines = textwrap.wrap(text.replace("_", "_ "), letters, max_lines=max_lines, placeholder="…")
    return "\n".join(lines).replace("_ ", "_")


def most_lines(labels: Iterable[str]) -> int:
    """Return how many lines the highest of some labels has."""
    return max(label.count("\n") + 1 for label in labels)


def axis_limits(values: ArrayLike, ends: ArrayLike) -> Range:
    """Return the limits of an axis with all values `values`, and the `ends` of intervals that are not far from them."""
    low = np.nanmin(values)
    high = np.nanmax(values)
    if low == high:
        # equal values, such as one alone, have no spread that could be a scale; all may be 0
        span = 0.5 * abs(high) or 1.0
        return low - span, high + span
    span = high - low
    # half the span more on either side: a wide interval may not press the others together
    low = max(np.nanmin(ends), low - span / 2)
    high = min(np.nanmax(ends), high + span / 2)
    margin = 0.05 * (high - low)
    return low - margin, high + margin
