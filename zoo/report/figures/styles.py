"""How each method is drawn.

An algorithm has one style everywhere: two colours, for light and dark paper, and a dash pattern, which
``results/published/styles.yml`` lists. The colours were found by search: any two can be told apart, by readers without
red or green cones too (simulated after Machado et al. 2009), and each has a contrast of at least 3 to its paper, which
a test checks. Colours of their own are kept for methods that have no fixed style. A panel draws at most `MOST_NAMED`
methods in their styles, the others thin and grey.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle
from typing import Any

from zoo.report.comparison import Comparison, Methods, Phase, baseline_of, ranking
from zoo.report.published_scores import FOLDER
from zoo.settings.layers import read_yaml

SOLID = "-"
_DASHES: dict[str, Any] = {
    "solid": SOLID,
    "dashed": (0, (4, 1.5)),
    "dotted": (0, (1, 1.2)),
    "dash-dotted": (0, (4, 1.5, 1, 1.5)),
}
MUTED = ("#8f8f8f", "#787d86")
"""The colours of methods that a panel is not about; they have a contrast of at least 3 to paper too."""
MOST_NAMED = 6
_SPARE_DASHES = ((0, (5, 1.2, 1, 1.2, 1, 1.2)), (0, (9, 1.5)), (0, (2, 2.5)))


@dataclass(frozen=True)
class Style:
    """How a method is drawn; own runs are drawn heavier than published ones.

    :param is_named: whether its panel tells it from the others.
    """

    colour: str
    dash: Any
    is_own: bool
    is_named: bool = True

    @property
    def line(self) -> dict[str, Any]:
        """Keyword arguments of ``Axes.plot``."""
        width = 0.7 if not self.is_named else 2.2 if self.is_own else 1.2
        return {
            "color": self.colour,
            "linestyle": self.dash,
            "linewidth": width,
            "zorder": self.layer,
        }

    @property
    def layer(self) -> float:
        """The order of drawing: what is not named lies below the others."""
        return 2.0 if self.is_named else 1.8


def algorithm_styles() -> dict[str, tuple[tuple[str, str], Any]]:
    """Return the fixed styles: published name -> (colours, dash)."""
    entries = _read()["algorithms"].items()
    return {
        name: (tuple(colours), _DASHES[dash])
        for dash, names in entries
        for name, colours in names.items()
    }


def spare_styles() -> list[tuple[tuple[str, str], Any]]:
    """Return the (colours, dash) of methods without a fixed style, in the order in which they are given out."""
    return [(tuple(colours), dash) for dash in _SPARE_DASHES for colours in _read()["spare"]]


@cache
def _read() -> dict[str, Any]:
    return dict(read_yaml(FOLDER / "styles.yml", "styles"))


def method_styles(methods: Methods) -> dict[str, Style]:
    """Return the style of each method of a comparison where it is named.

    Own and published runs of one algorithm share its style, so that they meet in a figure. Further variants of it, and
    algorithms without a fixed style, take spare ones in alphabetical order, never the colour of another algorithm.
    """
    fixed = algorithm_styles()
    spare = cycle(spare_styles())
    used: set[tuple[str, bool]] = set()
    result = {}
    for name, method in sorted(methods.items()):
        key = (method.algorithm, method.is_own)
        is_first = method.algorithm in fixed and key not in used
        colours, dash = fixed[method.algorithm] if is_first else next(spare)
        used.add(key)
        result[name] = Style(colours[0], dash, method.is_own)
    return result


def named_methods(comparison: Comparison, phase: Phase | None = None) -> list[str]:
    """Return the methods that a panel tells apart: the focus, the baseline and own ones, without a focus the best ones.

    :param phase: what the panel is about; None for all phases, of which the last one counts.
    """
    shown = phase or list(comparison.phases.values())[-1]
    names = [name for name in ranking(comparison, shown) if phase is None or name in phase.coverage]
    special = [name for name in (comparison.focus, baseline_of(comparison)) if name in names]
    unfocused = [
        name for name in names if comparison.focus not in names or comparison.methods[name].is_own
    ]
    named = list(dict.fromkeys([*special, *unfocused]))[:MOST_NAMED]
    return [name for name in names if name in named]


def panel_styles(comparison: Comparison, phase: Phase | None = None) -> dict[str, Style]:
    """Return how a panel draws each method, in the order in which tables and figures show them.

    Those that are not named are grey, thin and solid.

    :param phase: as in `named_methods`.
    """
    styles = method_styles(comparison.methods)
    named = named_methods(comparison, phase)
    result = {}
    for name in ranking(comparison, phase):
        result[name] = styles[name]
        if name not in named:
            result[name] = replace(styles[name], colour=MUTED[0], dash=SOLID, is_named=False)
    return result
