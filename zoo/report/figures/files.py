"""Write figures as files: sizes and fonts, and SVGs for pages on light and on dark paper.

The texts of an SVG stay texts. It follows the colours of the page that it stands in, or of the reader's system where it
is opened on its own; a program that does not know ``light-dark()`` shows it on light paper.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import chain, product
from typing import Any

import matplotlib
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.text import Text

from zoo.report.figures.styles import FOCUS, MUTED, algorithm_styles, spare_styles

FORMATS = ("pdf", "svg", "png")
"""The kinds of files that a figure can be written as."""
Colours = tuple[str, str]
"""A colour on light and on dark paper."""
PAPER, INK, QUIET = ("#ffffff", "#15181d"), ("#262626", "#e4e6ea"), ("#595d66", "#a3a8b3")
RULE, SHADE = ("#d5d8de", "#3a404b"), ("#f1f2f4", "#22262d")
BETTER_COLOURS, WORSE_COLOURS = ("#0b5394", "#4f9fe8"), ("#b04a00", "#e08a3c")
"""The colours of a method that is better, or worse, than another."""
_SHADES = 25  # of a map: few, since each has its counterpart on dark paper
_RC_PARAMS: dict[Any, Any] = {
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same bytes on every machine
    "text.parse_math": False,  # names of runs hold no formulas
    "axes.grid.axis": "both",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET[0],
    "axes.linewidth": 0.6,
    "axes.titley": 1.0,  # else each drawing measures all labels to find room for a title above them
    "grid.color": RULE[0],
    "grid.linewidth": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "patch.linewidth": 0,  # bars and bands have no edges
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType: conferences refuse the Type 3 fonts that are matplotlib's default
    "ps.fonttype": 42,  # Matplotlib 3.11 divides fonts of a PDF by this one: at 3 a sign such as τ has a second font
    "svg.fonttype": "none",
}
_TEXT_SIZES = (
    "font.size", "axes.labelsize", "axes.titlesize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize",
)  # fmt: skip
_UNDATED = {
    "pdf": {"CreationDate": None},
    "svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),
}
_SHORTER = {
    r' id="[\w.]+_\d+"': "",  # matplotlib numbers its parts anew in each figure of a page
    r"(\.\d\d)\d+": r"\1",  # hundredths of a point are enough
    "; font-family: 'DejaVu Sans', sans-serif": "",  # the root has it
    r"\s+": " ",
    r' transform="rotate\(-?0 [^"]*"': "",
}
"""Pattern in a tag of an SVG -> its shorter replacement."""


@dataclass(frozen=True)
class FigureSize:
    """The size of figures for a page or a paper, where they stand unscaled, so that texts keep their size.

    :param width: of a figure, in inches.
    :param wide: of one with many panels.
    :param text: the size of texts, in points.
    :param letters: how many letters of a method's name fit on one line.
    """

    width: float
    wide: float
    text: float
    letters: int

    @property
    def rc_params(self) -> dict[Any, Any]:
        """The settings of matplotlib for a figure of this size."""
        return sns.axes_style("ticks") | _RC_PARAMS | dict.fromkeys(_TEXT_SIZES, self.text)

    @property
    def letter(self) -> float:
        """The width of a letter in inches, rather more than that of most."""
        return 0.62 * self.text / 72

    @property
    def panel(self) -> tuple[float, float]:
        """The width and height of a figure with one panel of lines, in inches."""
        return self.width, 0.62 * self.width

    def inches(self, lines: float) -> float:
        """Return the height of some lines of text in inches."""
        return lines * 1.25 * self.text / 72


FIGURE_SIZES = {
    "page": FigureSize(width=4.8, wide=10.4, text=9.0, letters=24),
    "column": FigureSize(width=3.25, wide=3.25, text=7.0, letters=15),
    "text": FigureSize(width=6.75, wide=6.75, text=7.5, letters=28),
}
"""Sizes by name: a page of the screen; one column, or the whole width of the text, of a paper."""


def scale_colours() -> list[Colours]:
    """Return the colours of a map of scores, from the lowest to the highest."""
    light = sns.blend_palette(["#f5f8fa", "#0b4f8a"], _SHADES).as_hex()
    dark = sns.blend_palette(["#1f242c", "#5fb0f5"], _SHADES).as_hex()
    return list(zip(light, dark, strict=True))


@cache
def dark_colours() -> Mapping[str, str]:
    """Return every colour of a figure on light paper -> its counterpart on dark paper."""
    methods = (colours for colours, _ in (*algorithm_styles().values(), *spare_styles()))
    neutral = (PAPER, INK, QUIET, RULE, SHADE, MUTED, FOCUS, BETTER_COLOURS, WORSE_COLOURS)
    return dict(chain(neutral, methods, scale_colours()))


def file_of(figure: Figure, kind: str, title: str, description: str) -> bytes:
    """Return a figure as one of `FORMATS`; the same figure gives the same bytes.

    :param title: what it shows, and `description` in more words, for readers who do not see it.
    """
    buffer = io.BytesIO()
    salt = {"svg.hashsalt": title}  # figures of one page share no names of their parts
    with matplotlib.rc_context(_RC_PARAMS | salt):
        layout = figure.get_layout_engine()
        if layout is not None:
            if hasattr(Text, "set_fontfeatures"):  # before Matplotlib 3.11 no letters are joined
                # the ligature of "offline" would embed a second font in each PDF, a sixth of a report's time
                for text in figure.findobj(Text):
                    text.set_fontfeatures(["-liga"])
            layout.execute(figure)  # once for all kinds of files
            figure.set_layout_engine(None)
        figure.savefig(buffer, format=kind, dpi=200, metadata=_UNDATED.get(kind))
    content = buffer.getvalue()
    return (
        _for_any_paper(content.decode(), title, description).encode() if kind == "svg" else content
    )


def _for_any_paper(drawn: str, title: str, description: str) -> str:
    """Return an SVG of matplotlib with a title, shorter, and with colours for dark paper."""
    drawn = re.sub("<[^>]*>", _shorter_tag, drawn[drawn.index("<svg") :])
    rules = ""
    for (light, dark), paint in product(dark_colours().items(), ("fill", "stroke")):
        if f"{paint}: {light}" in drawn:
            rules += f'[style*="{paint}: {light}"]{{{paint}:light-dark({light},{dark})!important}}'
    style = f"svg:root{{color-scheme:light dark}}@supports(color:light-dark(red,red)){{{rules}}}</style>"
    about = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    font = ' role="img" font-family="DejaVu Sans, Verdana, sans-serif">'
    return drawn.replace("</style>", style, 1).replace(">", font + about, 1)


def _shorter_tag(tag: re.Match[str]) -> str:
    text = tag[0]
    for pattern, replacement in _SHORTER.items():
        text = re.sub(pattern, replacement, text)
    return text
