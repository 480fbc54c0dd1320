"""Everything that is drawn: mazes, panels of what a policy thinks, captions, and pictures put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.watching.stage import Thoughts

FINE = 2  # everything is drawn so many times as large, and made smaller, which smooths its edges
CAPTION = 32

Colour = tuple[int, int, int]

PAPER, INK, FAINT, GRID = (255, 255, 255), (33, 37, 46), (104, 112, 128), (222, 226, 232)
FLOOR, WALL = (241, 243, 246), (62, 70, 86)
AGENT, GOAL, TRAIL, PLAYED = (20, 90, 200), (205, 40, 60), (120, 160, 225), (15, 18, 24)
LOW, MIDDLE, HIGH = (58, 96, 200), (150, 150, 160), (226, 106, 20)
TELEPORT_IN, TELEPORT_OUT = (150, 80, 190), (60, 160, 110)
GOOD, BAD = (20, 122, 66), (178, 40, 50)


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
    gates: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ((), ())  # type: ignore[assignment]


def mix(share: float) -> Colour:
    """Return the colour of a value between the lowest (0) and the highest (1)."""
    ends = (LOW, MIDDLE, share * 2) if share < 0.5 else (MIDDLE, HIGH, share * 2 - 1)
    red, green, blue = (round(a + (b - a) * ends[2]) for a, b in zip(ends[0], ends[1], strict=True))
    return red, green, blue


def colours_of(thoughts: Thoughts) -> list[Colour]:
    """Return a colour for each chunk, by its value among theirs; one colour where there are no values."""
    values = thoughts.values
    if values is None:
        return [MIDDLE] * len(thoughts.chunks)
    spread = float(values.max() - values.min())
    return [mix(float(value - values.min()) / spread if spread else 0.5) for value in values]


def legend(thoughts: Thoughts) -> str:
    """Return what the colours of chunks mean."""
    return "black: played" if set(colours_of(thoughts)) == {MIDDLE} else "black: played; orange: higher Q"


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font, which is there wherever Pillow is."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont)
    return found


class Sheet:
    """An image that is drawn finely, in pixels of the finished picture."""

    def __init__(self, width: int, height: int, colour: Colour = PAPER) -> None:
        self.width, self.height = width, height
        self._image = Image.new("RGB", (width * FINE, height * FINE), colour)
        self._draw = ImageDraw.Draw(self._image)

    def finished(self) -> Image.Image:
        """Return the picture."""
        return self._image.reduce(FINE)

    def copy(self) -> Sheet:
        """Return a sheet with the same drawing."""
        other = Sheet.__new__(Sheet)
        other.width, other.height, other._image = self.width, self.height, self._image.copy()
        other._draw = ImageDraw.Draw(other._image)
        return other

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        """Fill a rectangle."""
        self._draw.rectangle([FINE * each for each in (left, top, right, bottom)], fill=fill)

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, width: float = 1) -> None:
        """Draw a line through points."""
        if len(points) > 1:
            flat = [(FINE * x, FINE * y) for x, y in points]
            self._draw.line(flat, fill=colour, width=max(1, round(FINE * width)), joint="curve")

    def area(self, points: Sequence[tuple[float, float]], colour: Colour) -> None:
        """Fill a polygon."""
        if len(points) > 2:
            self._draw.polygon([(FINE * x, FINE * y) for x, y in points], fill=colour)

    def dot(self, at: tuple[float, float], radius: float, fill: Colour | None, edge: Colour | None = None) -> None:
        """Draw a disc, or a ring where there is no fill."""
        x, y, r = (FINE * each for each in (*at, radius))
        self._draw.ellipse([x - r, y - r, x + r, y + r], fill=fill, outline=edge, width=2 * FINE if edge else 0)

    def text(
        self,
        at: tuple[float, float],
        text: str,
        size: int,
        colour: Colour = INK,
        anchor: str = "la",
        room: float | None = None,
    ) -> float:
        """Write a line, cut off at the end where it has no room; return its width.

        :param anchor: which point of the text is there, in Pillow's letters, e.g. ``ra`` for the top right.
        """
        face = font(size * FINE)
        while room is not None and len(text) > 1 and self._draw.textlength(text, face) > FINE * room:
            text = f"{text.rstrip('.')[:-1]}..." if len(text) > 4 else text[:-1]
        self._draw.text((FINE * at[0], FINE * at[1]), text, fill=colour, font=face, anchor=anchor)
        return float(self._draw.textlength(text, face)) / FINE


class MazePicture:
    """Draws a maze from above, with y upwards.

    :param size: of the square picture.
    :param around: x and y of the middle and half the width of what is shown, in metres; None shows the whole maze.
    """

    def __init__(self, maze: MazeMap, size: int, around: tuple[float, float, float] | None = None) -> None:
        rows, columns = maze.walls.shape
        width, height = columns * maze.unit, rows * maze.unit
        middle = width / 2 - maze.unit / 2 - maze.offset[0], height / 2 - maze.unit / 2 - maze.offset[1]
        x, y, reach = (*middle, max(width, height) / 2) if around is None else around
        self._scale = size / (2 * reach)
        self._middle, self._half = (x, y), size / 2
        self._mark = 1.0 if around is None else 0.0  # sizes of marks: of a cell, or as small as they may be
        self._cell = maze.unit * self._scale
        self._empty = Sheet(size, size)
        self._rectangle(middle, width, height, FLOOR)
        for i, j in zip(*np.nonzero(maze.walls == 1), strict=True):
            place = j * maze.unit - maze.offset[0], i * maze.unit - maze.offset[1]
            self._rectangle(place, maze.unit, maze.unit, WALL)
        for places, colour in zip(maze.gates, (TELEPORT_IN, TELEPORT_OUT), strict=True):
            for place in places:
                self._empty.dot(self.point(place), 0.25 * self._cell, None, colour)
        self._empty.dot(self.point(maze.goal), 0.25 * self._cell, None, GOAL)
        self._empty.dot(self.point(maze.goal), 0.1 * self._cell, GOAL)

    def point(self, place: Sequence[float] | np.ndarray) -> tuple[float, float]:
        """Return where a place of the maze is in the picture."""
        x, y = (self._scale * (value - middle) for value, middle in zip(place, self._middle, strict=True))
        return self._half + x, self._half - y

    def draw(
        self, trail: Sequence[np.ndarray], paths: np.ndarray | None = None, thoughts: Thoughts | None = None
    ) -> Image.Image:
        """Draw the way so far, whose end is the agent, and the paths of the chunks thought of, (F, H + 1, 2)."""
        sheet, size = self._empty.copy(), self._mark * self._cell
        sheet.line(_thinned([self.point(place) for place in trail]), TRAIL, max(1.5, 0.06 * size))
        if paths is not None and thoughts is not None:
            for path, colour in zip(paths, colours_of(thoughts), strict=True):
                ends = [self.point(place) for place in path]
                sheet.line(ends, colour, max(1.4, 0.03 * size))
                sheet.dot(ends[-1], max(2.5, 0.045 * size), colour)
            ends = [self.point(place) for place in paths[thoughts.played]]
            sheet.line(ends, PAPER, max(4.0, 0.1 * size))
            sheet.line(ends, PLAYED, max(2.2, 0.05 * size))
            sheet.dot(ends[-1], max(3.5, 0.07 * size), PLAYED)
        sheet.dot(self.point(trail[-1]), max(5.0, 0.14 * size), AGENT, PAPER)
        return sheet.finished()

    def _rectangle(self, middle: tuple[float, float], width: float, height: float, colour: Colour) -> None:
        left, top = self.point((middle[0] - width / 2, middle[1] + height / 2))
        right, bottom = self.point((middle[0] + width / 2, middle[1] - height / 2))
        if right > left and bottom > top:
            self._empty.box(left, top, right, bottom, colour)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points that are at least some pixels apart, so that a line through them is smooth."""
    kept = [points[0]]
    for point in points[1:-1]:
        if math.dist(point, kept[-1]) > 4:
            kept.append(point)
    return [*kept, points[-1]]


class Panel:
    """A small plot of some size.

    :param across: the range of x; values beyond it are put at its ends.
    :param up: the range of y.
    """

    def __init__(
        self,
        size: tuple[int, int],
        title: str,
        note: str,
        across: tuple[float, float],
        up: tuple[float, float],
        labels: tuple[str, str] = ("", ""),
    ) -> None:
        width, height = size
        self.sheet, self._across, self._up = _titled(size, title, note), across, up
        self._area = 46, 46, width - 14, height - (34 if labels[0] else 22)
        x0, y0, x1, y1 = self._area
        for value in ticks(*up):
            y = self.point((across[0], value))[1]
            self.sheet.line([(x0, y), (x1, y)], GRID)
            self.sheet.text((x0 - 6, y), number_text(value), 11, FAINT, "rm")
        for value in ticks(*across):
            x = self.point((value, up[0]))[0]
            self.sheet.line([(x, y0), (x, y1)], GRID)
            self.sheet.text((x, y1 + 4), number_text(value), 11, FAINT, "ma")
        self.sheet.text(((x0 + x1) / 2, height - 3), labels[0], 12, FAINT, "md")
        self.sheet.text((x0 + 4, y0 + 3), labels[1], 12, FAINT)

    def point(self, place: Sequence[float]) -> tuple[float, float]:
        """Return where a place of the plot is on the sheet."""
        x0, y0, x1, y1 = self._area
        x, y = (
            min(max((value - low) / (high - low), 0.0), 1.0)
            for value, (low, high) in zip(place, (self._across, self._up), strict=True)
        )
        return x0 + x * (x1 - x0), y1 - y * (y1 - y0)

    def line(self, places: Sequence[Sequence[float]], colour: Colour, width: float = 1) -> None:
        """Draw a line."""
        self.sheet.line([self.point(place) for place in places], colour, width)

    def dot(self, place: Sequence[float], radius: float, fill: Colour | None, edge: Colour | None = None) -> None:
        """Draw a disc or a ring."""
        self.sheet.dot(self.point(place), radius, fill, edge)


def _titled(size: tuple[int, int], title: str, note: str) -> Sheet:
    """Return a sheet with a title and a note below it."""
    sheet = Sheet(*size)
    sheet.text((12, 6), title, 15, room=size[0] - 20)
    sheet.text((12, 26), note, 12, FAINT, room=size[0] - 20)
    return sheet


def draw_close_up(
    size: tuple[int, int],
    thoughts: Thoughts,
    paths: np.ndarray,
    maze: MazeMap,
    reach: float,
    trail: Sequence[np.ndarray],
) -> Image.Image:
    """Draw the surroundings of an agent with the paths of the chunks thought of, (F, H + 1, 2).

    :param reach: half the width of what is shown, in metres.
    """
    picture = MazePicture(maze, min(size[0] - 24, size[1] - 56), (float(paths[0, 0, 0]), float(paths[0, 0, 1]), reach))
    image = _titled(size, "Planned paths", legend(thoughts)).finished()
    image.paste(picture.draw(trail, paths, thoughts), (12, 46))
    return image


def draw_flow(size: tuple[int, int], thoughts: Thoughts) -> Image.Image:
    """Draw how the first actions of chunks came from noise: rings are noise, discs are actions."""
    stages = np.stack(thoughts.stages, 1)  # (F, steps + 1, A)
    steps = stages.shape[1] - 1
    title = f"From noise to action, {steps} {'step' if steps == 1 else 'steps'}" if steps else "Actions"
    note = "rings: noise; discs: actions" if steps else "no noise becomes an action"
    if stages.shape[2] == 1:
        panel = Panel(size, title, note, (0, max(steps, 1)), (-3, 3), ("step of the flow", "action"))
        stages = np.concatenate([np.broadcast_to(np.arange(steps + 1.0)[:, None], stages.shape), stages], 2)
    else:
        panel = Panel(size, title, note, (-3, 3), (-3, 3), ("first action, coordinate 1", "coordinate 2"))
        panel.line([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)], FAINT)
    played = (stages[thoughts.played], PLAYED, 2.2)
    ways = [(way, colour, 1.4) for way, colour in zip(stages, colours_of(thoughts), strict=True)]
    for way, colour, width in [*ways, played]:
        panel.line(way[:, :2], colour, width)
        for place in way[1:-1, :2]:
            panel.dot(place, width, colour)
        if steps:
            panel.dot(way[0, :2], 3.5, PAPER, colour)
        panel.dot(way[-1, :2], 2.2 * width, colour)
    return panel.sheet.finished()


def draw_chunks(size: tuple[int, int], thoughts: Thoughts, limits: tuple[float, float]) -> Image.Image:
    """Draw the first coordinate of sampled chunks over their steps."""
    chunks = thoughts.chunks[:, :, 0]
    steps = range(1, chunks.shape[1] + 1)
    labels = "step of the chunk", "coordinate 1"
    panel = Panel(size, f"{len(chunks)} sampled chunks", legend(thoughts), (1, max(chunks.shape[1], 2)), limits, labels)
    for chunk, colour in [*zip(chunks, colours_of(thoughts), strict=True), (chunks[thoughts.played], PLAYED)]:
        panel.line(list(zip(steps, chunk, strict=True)), colour, 2.2 if colour == PLAYED else 1.4)
        panel.dot((steps[-1], chunk[-1]), 2.5, colour)
    return panel.sheet.finished()


def widened(limits: tuple[float, float], values: np.ndarray) -> tuple[float, float]:
    """Return limits of an axis that hold further values, with room beyond these, so that the axis seldom changes."""
    least, most = float(values.min()), float(values.max())
    room = 0.1 * (max(limits[1], most) - min(limits[0], least))
    return limits[0] if least >= limits[0] else least - room, limits[1] if most <= limits[1] else most + room


def draw_values(
    size: tuple[int, int],
    values: np.ndarray,
    planned: Sequence[tuple[int, float]],
    limits: tuple[float, float],
    first: int = 0,
) -> Image.Image:
    """Draw the values of what was sampled at each step, (T, F), from step ``first`` on, and those of what was played.

    :param planned: steps at which chunks were planned, and the values of these.
    :param limits: of the axis of values.
    """
    steps = range(first, first + len(values))
    low, middle, high = values.min(1), values.mean(1), values.max(1)
    across = (first, max(first + len(values) - 1, first + 40))
    note = f"line: mean of {values.shape[1]} samples; band: all of them; dots: chunks that were begun"
    title = f"Q of a chunk planned now: {middle[-1]:.1f}"
    panel = Panel(size, title, note, across, limits if limits[0] < limits[1] else (-1, 1), ("step", ""))
    band = [*zip(steps, high, strict=True), *zip(steps[::-1], low[::-1], strict=True)]
    panel.sheet.area([panel.point(place) for place in band], (205, 220, 245))
    panel.line(list(zip(steps, middle, strict=True)), AGENT, 2)
    for step, value in planned:
        if step >= first:
            panel.dot((step, value), 3.2, PLAYED)
    return panel.sheet.finished()


def draw_note(size: tuple[int, int], title: str, note: str) -> Image.Image:
    """Write why a panel is empty."""
    return _titled(size, title, note).finished()


def draw_caption(width: int, left: str, right: str, ending: str = "", is_good: bool = False) -> Image.Image:
    """Return the line under a picture; how the episode ended stands out."""
    sheet, size = Sheet(width, CAPTION), 15 if width > 400 else 13
    used = sheet.text((width - 10, CAPTION / 2), right, size, FAINT, "rm")
    if ending:
        used += 12 + sheet.text((width - 22 - used, CAPTION / 2), ending, size, GOOD if is_good else BAD, "rm")
    sheet.text((10, CAPTION / 2), left, size, INK, "lm", room=width - used - 34)
    return sheet.finished()


def put_together(pictures: Sequence[Sequence[Image.Image]], gap: int = 0) -> Image.Image:
    """Return rows of pictures as one; those of a row have the same height, and are side by side."""
    widths = [sum(each.width for each in row) + gap * (len(row) - 1) for row in pictures]
    heights = [row[0].height for row in pictures]
    whole = Image.new("RGB", (max(widths), sum(heights) + gap * (len(heights) - 1)), PAPER)
    top = 0
    for row, height in zip(pictures, heights, strict=True):
        left = 0
        for each in row:
            whole.paste(each, (left, top))
            left += each.width + gap
        top += height + gap
    return whole


def fitted(frame: np.ndarray, size: int) -> Image.Image:
    """Return a camera's picture in a square of a given size."""
    image, square = Image.fromarray(frame), Image.new("RGB", (size, size), PAPER)
    image.thumbnail((size, size))
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square


def ticks(low: float, high: float) -> list[float]:
    """Return two to five round numbers in a range."""
    rough = (high - low) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [step * number for number in range(first, math.floor(high / step) + 1)]


def number_text(value: float) -> str:
    """Return a tick in few characters."""
    return f"{value:.4g}" if abs(value) > 1e-9 else "0"
