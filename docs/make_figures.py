"""Draw the pages' figures of published scores.

``python docs/make_figures.py`` writes the figures; a test fails if one does not match its scores.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from zoo.report.compute import compare_kinds
from zoo.report.figures import all_figures, to_file
from zoo.report.inputs import collect
from zoo.report.request import CompareRequest
from zoo.report.scores import published_names

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"


def of_set(published: str, name: str) -> bytes:
    """Return a figure of a published set as SVG, without its bootstrap intervals."""
    inputs = collect(CompareRequest(published=[published]))
    (comparison,) = compare_kinds(inputs, reps=1, curves=False)
    return to_file(all_figures(comparison, only=name)[name].figure, "svg")


def fidelity() -> bytes:
    """Return a figure of our success minus the success of the authors' code, with 90% intervals, as SVG."""
    page = (ROOT / "results" / "reference_ranks.md").read_text(encoding="utf-8")
    fresh = page.partition("## Fresh seeds\n")[2].strip().partition("\n\n")[0]
    row = re.compile(
        r"^\| \**([\w ]+?)\** \|.*? \| ([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\] \|", re.MULTILINE
    )
    table = pd.DataFrame(row.findall(fresh), columns=["name", "difference", "low", "high"])
    rows = table.set_index("name").astype(float).rename(published_names())
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure((4.6, 0.8 + 0.24 * len(rows)), layout="constrained")
        ax, places = figure.subplots(), range(len(rows))[::-1]
        ax.axvspan(-10, 10, color="#f1f2f4", zorder=0)
        ax.axvline(0, color="black", linewidth=0.8, linestyle=":")
        ax.hlines(places, rows["low"], rows["high"], color="#0b5394", linewidth=3)
        ax.plot(rows["difference"], places, "o", color="#0b5394")
        ax.set_yticks(places, rows.index)
        # in the figure itself, because some pages show the figure without a caption
        ax.set_xlabel(
            "success, ours minus the authors' code (points)\n90% intervals; band: within 10 points"
        )
    return to_file(figure, "svg")


DRAWN = {
    "fidelity": fidelity,
    "mini_heat_map_offline": partial(of_set, "mini", "heat_map_offline"),
    "verdict_offline": partial(of_set, "qam2026", "verdict_offline"),
}
"""Name of a figure on a page -> function that draws it."""

if __name__ == "__main__":
    for name, draw in DRAWN.items():
        (FIGURES / f"{name}.svg").write_bytes(draw())
