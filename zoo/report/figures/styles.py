"""How each method is drawn.

An algorithm has one style everywhere: a colour, a dash pattern and a marker. The colours were found by search. Those
that share a dash pattern stay far apart even for readers without red or green cones (simulated after Machado et al.
2009), all of them differ clearly for everyone else, and each has a contrast of at least 3 to white paper, which
a test checks. Colours of their own are kept for methods that have no fixed style.
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
        "QAM": "#a51eff",
        "QAM-F": "#9687b4",
        "QAM-E": "#003c69",
        "FQL": "#3c783c",
        "TRQAM": "#874bc3",
        "RQL": "#2d4b4b",
    },
    DASHED: {
        "IFQL": "#7800a5",
        "DSRL": "#0fa51e",
        "ReBRAC": "#b43c69",
        "CGQL": "#3c003c",
        "SQAM": "#1e1e0f",
        "FAN": "#f648d8",
        "Value Flows": "#544800",
    },
    DOTTED: {
        "QSM": "#69963c",
        "DAC": "#000fff",
        "RLPD": "#5a2d0f",
        "BAM": "#0f0096",
        "BC": "#5a3c87",
        "QGF": "#ff0fff",
        "MeanFlowQL": "#0fa596",
        "GFP": "#000024",
    },
    DASH_DOTTED: {
        "FEdit": "#d27896",
        "FBRAC": "#3c4bd2",
        "CGQL-L": "#5a691e",
        "CGQL-M": "#b43ca5",
        "FAWAC": "#000f69",
    },
}
MUTED = "#8f8f8f"
"""The colour of methods that a figure is not about; it has a contrast of at least 3 to white paper too."""
_SPARE_COLOURS = ("#f05a0f", "#2d87ff", "#4b1e2d", "#789669", "#1e00d2", "#4b7878", "#5a96d2", "#1e1e5a")
_SPARE_DASHES = ((0, (5, 1.2, 1, 1.2, 1, 1.2)), (0, (9, 1.5)), (0, (2, 2.5)))
_MARKERS = {SOLID: "o", DASHED: "s", DOTTED: "^", DASH_DOTTED: "D"} | dict(zip(_SPARE_DASHES, "vPX", strict=True))


@dataclass(frozen=True)
class Style:
    """How a method is drawn; own runs are drawn heavier than published ones.

    :param stroke: what the width of its line is multiplied by.
    """

    colour: str
    dash: Any
    marker: str
    is_own: bool
    mark: str = ""  # follows the name where runs failed
    stroke: float = 1.0
    is_muted: bool = False  # it is not what the figure is about

    @property
    def line(self) -> dict[str, Any]:
        """Keyword arguments of ``Axes.plot``."""
        width = 2.2 if self.is_own else 1.2
        return {"color": self.colour, "linestyle": self.dash, "linewidth": self.stroke * width, "zorder": self.layer}

    @property
    def layer(self) -> float:
        """The order of drawing: muted lines lie below the others."""
        return 1.9 if self.is_muted else 2.0


def algorithm_styles() -> dict[str, tuple[str, Any]]:
    """Return the fixed styles: published name -> (colour, dash)."""
    return {name: (colour, dash) for dash, colours in _COLOURS.items() for name, colour in colours.items()}


def spare_styles() -> list[tuple[str, Any]]:
    """Return the (colour, dash) of methods without a fixed style, in the order in which they are given out."""
    return [(colour, dash) for dash in _SPARE_DASHES for colour in _SPARE_COLOURS]


def method_styles(methods: Mapping[str, Method], focus: str | None = None) -> dict[str, Style]:
    """Return the style of each method of a comparison; beside a focus the others are grey.

    Own and published runs of one algorithm share its style, so that they meet in a figure. Further variants of it, and
    algorithms without a fixed style, take spare ones in alphabetical order, never the colour of another algorithm.
    """
    fixed, spare = algorithm_styles(), cycle(spare_styles())
    taken: set[tuple[str, bool]] = set()
    result = {}
    for name, method in sorted(methods.items()):
        key = (method.algorithm, method.is_own)
        colour, dash = fixed[method.algorithm] if method.algorithm in fixed and key not in taken else next(spare)
        taken.add(key)
        result[name] = Style(colour, dash, _MARKERS[dash], method.is_own, method.mark)
        if focus in methods and name != focus:
            result[name] = replace(result[name], colour=MUTED, is_muted=True)
    return result


def ranked_styles(comparison: Comparison, stroke: float = 1.0) -> dict[str, Style]:
    """Return the style of each method of a comparison, in the order in which tables and figures show them."""
    looks = method_styles(comparison.methods, comparison.focus)
    return {name: replace(looks[name], stroke=stroke) for name in ranking(comparison)}


def on_dark(colour: str) -> str:
    """Return a colour (``#rrggbb``) for a dark page: mixed with white, so far that it is seen and still itself."""
    return "#" + "".join(f"{round(255 - 0.55 * (255 - int(colour[k : k + 2], 16))):02x}" for k in (1, 3, 5))
