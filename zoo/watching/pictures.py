"""What is drawn: mazes and what a policy thinks by Matplotlib, captions, and pictures put together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image, ImageDraw, ImageFont, ImageOps

from zoo.runs.protocol import count
from zoo.watching.stage import Thoughts

CAPTION = 32
"""The height of a line of text under a picture."""
PAPER, INK, FAINT = "#ffffff", "#21252e", "#687080"
FLOOR, WALL = "#f1f3f6", "#3e4656"
AGENT, GOAL, TRAIL, PLAYED = "#145ac8", "#cd283c", "#78a0e1", "#0f1217"
GATES = ("#963cbe", "#3ca06e")
GOOD, BAD = "#147a42", "#b22832"
VALUES = LinearSegmentedColormap.from_list("values", ["#3a60c8", "#9696a0", "#e26a14"])
"""From the lowest value to the highest."""
_LOOKS: dict[Any, Any] = {
    "text.color": INK, "axes.labelcolor": FAINT, "xtick.color": FAINT, "ytick.color": FAINT, "axes.edgecolor": FAINT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#dee2e8", "font.size": 8, "axes.titlesize": 8, "axes.titlelocation": "left",
    "text.parse_math": False, "lines.markersize": 4,
}  # fmt: skip


@dataclass(frozen=True)
class MazeMap:
    """The plan of a maze, in metres.

    :param walls: where they are, (rows, columns); row i is at y = i * unit - offset.
    :param unit: the length of a cell.
    :param offset: of x and y, where cell (0, 0) has its centre at -offset.
    :param goal: x and y.
    :param gates: x and y of the teleports' entrances, and of their exits.
    """

    walls: np.ndarray
    unit: float
    offset: tuple[float, float]
    goal: tuple[float, float]
    gates: Sequence[Sequence[tuple[float, float]]] = ((), ())


Draw = Callable[[Axes], object]


def drawn(width: int, height: int, *panels: tuple[int, Draw]) -> Image.Image:
    """Return panels as one picture of a size in pixels; each has its place, in Matplotlib's three digits."""
    with matplotlib.rc_context(_LOOKS):
        figure = Figure((width / 100, height / 100), dpi=100)
        for place, draw in panels:
            ax = figure.add_subplot(place)
            draw(ax)
            ax.locator_params(nbins=4)
        if len(panels) > 1:
            figure.subplots_adjust(0.12, 0.1, 0.97, 0.91, wspace=0.35, hspace=0.5)
        else:
            figure.subplots_adjust(0, 0, 1, 1)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def colours_of(thoughts: Thoughts) -> np.ndarray:
    """Return a colour for each chunk, by its value among theirs; one colour where all are equal, or there are none."""
    shares = np.full(len(thoughts.chunks), 0.5)
    if thoughts.values is not None and np.ptp(thoughts.values):
        shares = (thoughts.values - thoughts.values.min()) / np.ptp(thoughts.values)
    return np.asarray(VALUES(shares))


def legend(thoughts: Thoughts) -> str:
    """Return what the colours of chunks mean."""
    return "black: played" if thoughts.values is None else "black: played; orange: higher Q"


def draw_maze(
    ax: Axes,
    maze: MazeMap,
    trail: Sequence[np.ndarray],
    paths: np.ndarray | None = None,
    thoughts: Thoughts | None = None,
) -> None:
    """Draw a maze from above, with y upwards, and the way so far, whose end is the agent.

    :param paths: where the chunks thought of lead, (F, H + 1, 2).
    """
    rows, columns = maze.walls.shape
    left, bottom = (-maze.unit / 2 - shift for shift in maze.offset)
    extent = (left, left + columns * maze.unit, bottom, bottom + rows * maze.unit)
    ax.imshow(maze.walls == 1, ListedColormap([FLOOR, WALL]), origin="lower", extent=extent, vmin=0, vmax=1)
    rings = [([maze.goal], GOAL), *zip(maze.gates, GATES, strict=True)]
    for place, colour in ((place, colour) for places, colour in rings for place in places):
        ax.add_patch(Circle(place, maze.unit / 4, fill=False, color=colour, linewidth=2))
    ax.add_patch(Circle(maze.goal, maze.unit / 10, color=GOAL))
    ax.plot(*np.transpose(trail), color=TRAIL, linewidth=2)
    if paths is not None and thoughts is not None:
        _draw_ways(ax, paths, thoughts)
    ax.plot(*trail[-1], "o", color=AGENT, markersize=10, markeredgecolor=PAPER, zorder=4)
    ax.set_axis_off()


def draw_close_up(
    ax: Axes, maze: MazeMap, trail: Sequence[np.ndarray], paths: np.ndarray, thoughts: Thoughts, reach: float
) -> None:
    """Draw the surroundings of an agent with the paths of the chunks thought of.

    :param reach: half the width of what is shown, in metres.
    """
    draw_maze(ax, maze, trail, paths, thoughts)
    x, y = paths[0, 0]
    ax.set(xlim=(x - reach, x + reach), ylim=(y - reach, y + reach), title=f"Planned paths\n{legend(thoughts)}")


def draw_flow(ax: Axes, thoughts: Thoughts) -> None:
    """Draw how the first actions of chunks came from noise: rings are noise, discs are actions."""
    ways = np.stack(thoughts.stages, 1)  # (F, steps + 1, A)
    steps = ways.shape[1] - 1
    title, note = "Actions", "no noise becomes an action"
    if steps:
        title, note = f"From noise to action, {count(steps, 'step')}", "rings: noise; discs: actions"
    if ways.shape[2] == 1:
        ways = np.concatenate([np.broadcast_to(np.arange(steps + 1.0)[:, None], ways.shape), ways], 2)
        ax.set(xlim=(0, max(steps, 1)), xlabel="step of the flow", ylabel="action")
    else:
        ax.plot([-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1], color=FAINT, linewidth=1)
        ax.set(xlim=(-3, 3), xlabel="first action, coordinate 1", ylabel="coordinate 2")
    if steps:
        colours = colours_of(thoughts)
        x, y = ways[:, :, :2].T
        ax.scatter(x[1:-1].T, y[1:-1].T, s=4, c=np.repeat(colours, steps - 1, 0))
        ax.scatter(x[0], y[0], s=16, facecolors=PAPER, edgecolors=list(map(to_hex, colours)), zorder=3)
    _draw_ways(ax, ways[:, :, :2], thoughts)
    ax.set(ylim=(-3, 3), title=f"{title}\n{note}")


def draw_chunks(ax: Axes, thoughts: Thoughts, limits: tuple[float, float]) -> None:
    """Draw the first coordinate of sampled chunks over their steps."""
    first = thoughts.chunks[:, :, 0]
    steps = np.broadcast_to(np.arange(1, first.shape[1] + 1), first.shape)
    _draw_ways(ax, np.stack([steps, first], 2), thoughts)
    ax.set(xlim=(1, max(first.shape[1], 2)), ylim=limits, xlabel="step of the chunk", ylabel="coordinate 1")
    ax.set_title(f"{len(first)} sampled chunks\n{legend(thoughts)}")


def _draw_ways(ax: Axes, ways: np.ndarray, thoughts: Thoughts) -> None:
    """Draw a line for each chunk, (F, points, 2), that ends in a disc; the one that is played is black."""
    colours, played = colours_of(thoughts), ways[thoughts.played]
    ax.add_collection(LineCollection(list(ways), colors=colours, linewidths=1.4))
    ax.scatter(ways[:, -1, 0], ways[:, -1, 1], s=12, c=colours, zorder=3)
    ax.plot(*played.T, "o-", color=PLAYED, linewidth=2.2, markevery=[-1], markersize=5, zorder=3)


def widened(limits: tuple[float, float], values: np.ndarray) -> tuple[float, float]:
    """Return limits of an axis that hold further values, with room beyond these, so that the axis seldom changes."""
    least, most = float(values.min()), float(values.max())
    room = 0.1 * (max(limits[1], most) - min(limits[0], least))
    return limits[0] if least >= limits[0] else least - room, limits[1] if most <= limits[1] else most + room


def draw_values(
    ax: Axes, values: np.ndarray, planned: Sequence[tuple[int, float]], limits: tuple[float, float], first: int = 0
) -> None:
    """Draw the values of what was sampled at each step, (T, F), from step ``first`` on, and those of what was played.

    :param planned: steps at which chunks were planned, and the values of these.
    :param limits: of the axis of values.
    """
    steps, middle = range(first, first + len(values)), values.mean(1)
    ax.fill_between(steps, values.min(1), values.max(1), color="#cddcf5", linewidth=0)
    ax.plot(steps, middle, color=AGENT, linewidth=2)
    ax.plot(*np.reshape([dot for dot in planned if dot[0] >= first], (-1, 2)).T, "o", color=PLAYED)
    note = f"line: mean of {values.shape[1]} samples; band: all of them; dots: chunks begun"
    ax.set(xlim=(first, max(steps[-1], first + 40)), ylim=limits if limits[0] < limits[1] else (-1, 1), xlabel="step")
    ax.set_title(f"Q of a chunk planned now: {middle[-1]:.1f}\n{note}")


def captioned(picture: Image.Image, text: str, colour: str = INK) -> Image.Image:
    """Return a picture with a line of text below it."""
    whole = ImageOps.expand(picture, (0, 0, 0, CAPTION), PAPER)
    size = 15 if whole.width > 400 else 13
    ImageDraw.Draw(whole).text((10, whole.height - CAPTION / 2), text, colour, ImageFont.load_default(size), "lm")
    return whole


def in_grid(pictures: Sequence[Image.Image], columns: int, gap: int = 4) -> Image.Image:
    """Return pictures of one size as one."""
    width, height = (side + gap for side in pictures[0].size)
    rows = math.ceil(len(pictures) / columns)
    whole = Image.new("RGB", (columns * width - gap, rows * height - gap), PAPER)
    for place, picture in enumerate(pictures):
        whole.paste(picture, (place % columns * width, place // columns * height))
    return whole


def fitted(frame: np.ndarray, size: int) -> Image.Image:
    """Return a camera's picture in a square of a given size."""
    return ImageOps.pad(Image.fromarray(frame), (size, size), color=PAPER)
