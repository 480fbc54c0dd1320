"""The style of each method in figures.

An algorithm has one style everywhere: two colours, for light and dark paper, and a dash pattern, which
``results/published/styles.yml`` lists. The colours were found by search: any two can be told apart, by readers without
red or green cones too (simulated after Machado et al. 2009), and each has a contrast of at least 3 to its paper, which
a test checks. Colours of their own are kept for methods that have no fixed style. A panel draws at most `MAX_NAMED`
methods in their styles, the others thin and grey; the focus is black, or white on dark paper, and heaviest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle, product
from typing import Any

from zoo.report.comparison import Comparison, Methods, Phase, baseline_of, ranking
from zoo.report.published_scores import FOLDER
from zoo.settings.layers import read_yaml

Appearance = tuple[tuple[str, str], Any]
"""Colours on light and on dark paper, and a dash pattern."""
SOLID = "-"
_DASHES: dict[str, Any] = {
    "solid": SOLID,
    "dashed": (0, (4, 1.5)),
    "dotted": (0, (1, 1.2)),
    "dash-dotted": (0, (4, 1.5, 1, 1.5)),
}
MUTED = ("#8f8f8f", "#787d86")
"""The colours of methods that a panel is not about; they have a contrast of at least 3 to paper too."""
FOCUS = ("#010101", "#ffffff")
"""The colours of the focus: nothing drawn has more contrast to its paper.

matplotlib leaves pure black out of an SVG, where a rule for dark paper could not find it.
"""
MAX_NAMED = 6
_SPARE_DASHES = ((0, (5, 1.2, 1, 1.2, 1, 1.2)), (0, (9, 1.5)), (0, (2, 2.5)))


@dataclass(frozen=True)
class Style:
    """The style of a method; own runs are drawn heavier than published ones, and the focus heaviest.

    :param is_named: whether its panel tells it from the others.
    """

    colour: str
    dash: Any
    is_own: bool
    is_named: bool = True
    is_focus: bool = False

    @property
    def line(self) -> dict[str, Any]:
        """Keyword arguments of ``Axes.plot``."""
        width = 2.2 if self.is_own else 1.2
        layer = 2.0
        if self.is_focus:
            width = 2.8
            layer = 2.2
        elif not self.is_named:
            width = 0.7
            layer = 1.8  # below the named ones
        return {
            "color": self.colour,
            "linestyle": self.dash,
            "linewidth": width,
            "zorder": layer,
        }


def algorithm_styles() -> dict[str, Appearance]:
    """Return the fixed colours and dashes by published name."""
    styles: dict[str, Appearance] = {}
    for dash, entries in _read()["algorithms"].items():
        styles |= {name: (tuple(colours), _DASHES[dash]) for name, colours in entries.items()}
    return styles


def spare_styles() -> list[Appearance]:
    """Return the colours and dashes of methods without fixed ones, in the order in which they are given out."""
    return [(tuple(colours), dash) for dash, colours in product(_SPARE_DASHES, _read()["spare"])]


@cache
def _read() -> dict[str, Any]:
    return dict(read_yaml(FOLDER / "styles.yml", "styles"))


def method_styles(methods: Methods) -> dict[str, Style]:
    """Return the style of each method of a comparison where it is named.

    Own and published runs of one algorithm share its style, so that they meet in a figure. Further variants of it, and
    algorithms without a fixed style, take spare ones in alphabetical order, never the colour of another algorithm.
    """
    unused = algorithm_styles(), algorithm_styles()  # of published methods, and of own ones
    spare = cycle(spare_styles())  # from the first again where there are more methods than styles
    result = {}
    # by name: a method keeps its style whatever its scores
    for name, method in sorted(methods.items()):
        fixed = unused[method.is_own]
        is_fixed = method.algorithm in fixed
        colours, dash = fixed.pop(method.algorithm) if is_fixed else next(spare)
        result[name] = Style(colours[0], dash, method.is_own)
    return result


def panel_styles(comparison: Comparison, phase: Phase | None = None) -> dict[str, Style]:
    """Return the style of each method in a panel, in the order of tables and figures.

    It names the focus, the baseline and own methods; without a focus the best ones. The others are grey and thin.

    :param phase: what the panel is about; None for all phases, of which the last one says which methods are best.
    """
    # a legend for all phases names those that are best in the end
    last = list(comparison.phases.values())[-1]
    best = ranking(comparison, phase or last)
    if phase is not None:
        best = [name for name in best if name in phase.coverage]
    candidates: list[str | None] = [*best]
    if comparison.focus in best:
        candidates = [name for name in best if comparison.methods[name].is_own]
    candidates = [comparison.focus, baseline_of(comparison), *candidates]
    # in this order: with many own methods the baseline is still named
    named = [name for name in dict.fromkeys(candidates) if name in best][:MAX_NAMED]
    styles = method_styles(comparison.methods)
    result = {}
    for name in ranking(comparison, phase):
        result[name] = styles[name]
        if name == comparison.focus:
            result[name] = replace(styles[name], colour=FOCUS[0], is_focus=True)
        elif name not in named:
            result[name] = replace(styles[name], colour=MUTED[0], dash=SOLID, is_named=False)
    return result
