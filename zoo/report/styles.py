"""How each method is drawn.

An algorithm has one style everywhere: a colour, a dash pattern and a marker. The colours were found by search. Those
that share a dash pattern stay far apart even for readers without red or green cones (simulated after Machado et al.
2009), all of them differ clearly for everyone else, and each is dark enough for white paper. The tests check this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

from zoo.report.comparison import Comparison, Method, ranking

SOLID, DASHED, DOTTED, DASH_DOTTED = "-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.5, 1, 1.5))
_COLOURS = {
    SOLID: {
        "QAM": "#5a3cb4",
        "QAM-F": "#87780f",
        "QAM-E": "#0fc35a",
        "TRQAM": "#5a0f00",
        "SQAM": "#ff78e1",
        "BAM": "#9678ff",
        "FQL": "#1e784b",
    },
    DASHED: {
        "IFQL": "#0069e1",
        "DSRL": "#ff694b",
        "ReBRAC": "#78005a",
        "CGQL": "#874b0f",
        "CGQL-M": "#96a5e1",
        "CGQL-L": "#e17878",
        "FEdit": "#b46996",
    },
    DOTTED: {
        "QSM": "#d28700",
        "DAC": "#e11e4b",
        "FBRAC": "#3c78c3",
        "FAWAC": "#694b78",
        "RLPD": "#870000",
        "BC": "#3c1e69",
        "RQL": "#870f3c",
    },
}
_MARKERS = {SOLID: "o", DASHED: "s", DOTTED: "^", DASH_DOTTED: "D"}


@dataclass(frozen=True)
class Style:
    """How a method is drawn; own runs are drawn heavier than published ones.

    :param stroke: what the width of its line is multiplied by.
    """

    colour: str
    dash: Any
    marker: str
    is_own: bool
    stroke: float = 1.0

    @property
    def line(self) -> dict[str, Any]:
        """Keyword arguments of ``Axes.plot``."""
        width = 2.2 if self.is_own else 1.2
        return {"color": self.colour, "linestyle": self.dash, "linewidth": self.stroke * width}


def algorithm_styles() -> dict[str, tuple[str, Any]]:
    """Return the fixed styles: published name -> (colour, dash)."""
    return {name: (colour, dash) for dash, colours in _COLOURS.items() for name, colour in colours.items()}


def method_styles(methods: Mapping[str, Method]) -> dict[str, Style]:
    """Return the style of each method of a comparison.

    Own and published runs of one algorithm share its style, so that they meet in a figure. Further variants of it, and
    algorithms without a fixed style, take spare ones in alphabetical order: first colours that nobody here has.
    """
    fixed = algorithm_styles()
    present = {fixed[method.algorithm][0] for method in methods.values() if method.algorithm in fixed}
    spare = cycle(sorted((colour for colour, _ in fixed.values()), key=lambda colour: colour in present))
    taken: set[tuple[str, bool]] = set()
    result = {}
    for name, method in sorted(methods.items()):
        key = (method.algorithm, method.is_own)
        if method.algorithm in fixed and key not in taken:
            colour, dash = fixed[method.algorithm]
        else:
            colour, dash = next(spare), DASH_DOTTED
        taken.add(key)
        result[name] = Style(colour, dash, _MARKERS[dash], method.is_own)
    return result


def ranked_styles(comparison: Comparison, stroke: float = 1.0) -> dict[str, Style]:
    """Return the style of each method of a comparison, in the order in which tables and figures show them."""
    looks = method_styles(comparison.methods)
    return {name: replace(looks[name], stroke=stroke) for name in ranking(comparison)}
