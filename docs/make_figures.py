"""Draw the figures of published scores that pages show, from these scores.

``python docs/make_figures.py`` writes them; a test fails where one is not what its scores draw. ``python
docs/make_figures.py REPORT`` takes the picture of a report's first screen instead, with Chromium: REPORT is the folder
that ``zoo compare --published qam2026 -o REPORT`` makes.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from zoo.report.comparison import Comparison
from zoo.report.compute import compare_kinds
from zoo.report.figures.files import BETTER_COLOURS, FIGURE_SIZES, INK, SHADE, file_of
from zoo.report.figures.plots import all_figures
from zoo.report.inputs import Inputs, collect
from zoo.report.published_scores import published_names
from zoo.report.request import CompareRequest

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"


def compared(published: str) -> tuple[Inputs, Comparison]:
    """Return a published set and its comparison, whose bootstrap intervals nothing here shows."""
    inputs = collect(CompareRequest(published=[published]))
    (comparison,) = compare_kinds(
        inputs,
        reps=1,
        curves=False,
        baseline=inputs.default_baseline(),
    )
    return inputs, comparison


def heat_map() -> bytes:
    """Return the map of the mini benchmark's methods and tasks, as SVG."""
    inputs, comparison = compared("mini")
    plot = all_figures(comparison, inputs.evaluations, only="heat_map_offline")["heat_map_offline"]
    return file_of(plot.figure, "svg", plot.title, f"Methods: {', '.join(plot.methods)}.")


def fidelity() -> bytes:
    """Return the differences of our success from that of the authors' code, with their 90% intervals, as SVG."""
    page = (ROOT / "results" / "reference_ranks.md").read_text(encoding="utf-8")
    fresh = page.partition("## Fresh seeds\n")[2].strip().partition("\n\n")[0]
    row = re.compile(
        r"^\| \**([\w ]+?)\** \|.*? \| ([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\] \|", re.MULTILINE
    )
    table = pd.DataFrame(row.findall(fresh), columns=["name", "difference", "low", "high"])
    rows = table.set_index("name").astype(float).rename(published_names())
    with matplotlib.rc_context(FIGURE_SIZES["page"].rc_params):
        figure = Figure((4.6, 0.8 + 0.24 * len(rows)), layout="constrained")
        ax, places = figure.subplots(), range(len(rows))[::-1]
        ax.axvspan(-10, 10, color=SHADE[0], zorder=0)
        ax.axvline(0, color=INK[0], linewidth=0.8, linestyle=":")
        ax.hlines(places, rows["low"], rows["high"], color=BETTER_COLOURS[0], linewidth=3)
        ax.plot(rows["difference"], places, "o", color=BETTER_COLOURS[0])
        ax.set_yticks(places, rows.index)
        # the figure says it itself, since it also stands where no page has a caption
        ax.set_xlabel(
            "success, ours minus the authors' code (points)\n90% intervals; band: within 10 points"
        )
    about = "The numbers are in results/reference_ranks.md."
    return file_of(figure, "svg", "Ours beside the authors' code", about)


def photograph(report: Path) -> None:
    """Write the first screen of a report as a picture, which records the verdicts that it shows for a test."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("expected Chromium to take the picture with, found none; install it")
    page = report / "report.html"
    picture = FIGURES / "report.png"
    command = [
        browser,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        # narrow enough to have no contents at the side, which a phone would show half a picture of
        "--window-size=760,900",
        f"--screenshot={picture}",
        page.absolute().as_uri(),
    ]
    subprocess.run(command, check=True, timeout=120)
    sentences = re.findall('<p class="verdict">(.*)</p>', page.read_text(encoding="utf-8"))
    about = PngInfo()
    about.add_itxt("verdicts", html.unescape("\n".join(sentences)))
    with Image.open(picture) as image:
        image.load()
    image.save(picture, optimize=True, pnginfo=about)


DRAWN = {"fidelity": fidelity, "mini_heat_map_offline": heat_map}
"""Figure that a page shows -> what draws it."""

if __name__ == "__main__":
    if sys.argv[1:]:
        photograph(Path(sys.argv[1]))
        sys.exit()
    for name, draw in DRAWN.items():
        (FIGURES / f"{name}.svg").write_bytes(draw())
