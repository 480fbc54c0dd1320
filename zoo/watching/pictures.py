"""Everything that is drawn: mazes, panels of what a policy thinks, captions, and pictures put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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


def colours_of(values: np.ndarray | None, count: int) -> list[Colour]:
    """Return a colour for each of some chunks, by its value among theirs; one colour where there are no values."""
    if values is None:
        return [MIDDLE] * count
    spread = float(values.max() - values.min())
    return [mix(float(value - values.min()) / spread if spread else 0.5) for value in values]


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

    def paste(self, other: Sheet, left: float, top: float) -> None:
        """Put another drawing into this one."""
        self._image.paste(other._image, (round(FINE * left), round(FINE * top)))

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

    def point(self, place: Sequence[float]) -> tuple[float, float]:
        """Return where a place of the maze is in the picture."""
        x, y = (self._scale * (value - middle) for value, middle in zip(place, self._middle, strict=True))
        return self._half + x, self._half - y

    def draw(
        self,
        trail: Sequence[Sequence[float]],
        paths: np.ndarray | None = None,
        colours: Sequence[Colour] = (),
        played: int | None = None,
    ) -> Sheet:
        """Draw the way so far, whose end is the agent, and the planned paths, (F, H + 1, 2)."""
        sheet, size = self._empty.copy(), self._mark * self._cell
        sheet.line(_thinned([self.point(place) for place in trail]), TRAIL, max(1.5, 0.06 * size))
        for path, colour in zip(paths if paths is not None else (), colours, strict=True):
            ends = [self.point(place) for place in path]
            sheet.line(ends, colour, max(1.4, 0.03 * size))
            sheet.dot(ends[-1], max(2.5, 0.045 * size), colour)
        if paths is not None and played is not None:
            ends = [self.point(place) for place in paths[played]]
            sheet.line(ends, PAPER, max(4.0, 0.1 * size))
            sheet.line(ends, PLAYED, max(2.2, 0.05 * size))
            sheet.dot(ends[-1], max(3.5, 0.07 * size), PLAYED)
        sheet.dot(self.point(trail[-1]), max(5.0, 0.14 * size), AGENT, PAPER)
        return sheet

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
    """A small plot on a sheet.

    :param box: left, top, right, bottom of everything that belongs to it.
    :param across: the range of x; values beyond it are put at its ends.
    :param up: the range of y.
    """

    def __init__(
        self,
        sheet: Sheet,
        box: tuple[float, float, float, float],
        title: str,
        across: tuple[float, float],
        up: tuple[float, float],
        labels: tuple[str, str] = ("", ""),
        note: str = "",
    ) -> None:
        left, top, right, bottom = box
        self._sheet, self._across, self._up = sheet, across, up
        self._area = left + 46, top + 46, right - 14, bottom - (34 if labels[0] else 22)
        sheet.text((left + 12, top + 6), title, 15, room=right - left - 20)
        sheet.text((left + 12, top + 26), note, 12, FAINT, room=right - left - 20)
        x0, y0, x1, y1 = self._area
        for value in ticks(*up):
            y = self.point((across[0], value))[1]
            sheet.line([(x0, y), (x1, y)], GRID)
            sheet.text((x0 - 6, y), number_text(value), 11, FAINT, "rm")
        for value in ticks(*across):
            x = self.point((value, up[0]))[0]
            sheet.line([(x, y0), (x, y1)], GRID)
            sheet.text((x, y1 + 4), number_text(value), 11, FAINT, "ma")
        sheet.text(((x0 + x1) / 2, bottom - 3), labels[0], 12, FAINT, "md")
        sheet.text((x0 + 4, y0 + 3), labels[1], 12, FAINT)

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
        self._sheet.line([self.point(place) for place in places], colour, width)

    def area(self, places: Sequence[Sequence[float]], colour: Colour) -> None:
        """Fill a polygon."""
        self._sheet.area([self.point(place) for place in places], colour)

    def dot(self, place: Sequence[float], radius: float, fill: Colour | None, edge: Colour | None = None) -> None:
        """Draw a disc or a ring."""
        self._sheet.dot(self.point(place), radius, fill, edge)


def draw_close_up(
    sheet: Sheet,
    box: tuple[float, float, float, float],
    maze: MazeMap,
    reach: float,
    trail: Sequence[Sequence[float]],
    paths: np.ndarray,
    colours: Sequence[Colour],
    played: int,
) -> None:
    """Draw the surroundings of an agent with the planned paths, (F, H + 1, 2).

    :param reach: half the width of what is shown, in metres.
    """
    left, top, right, bottom = box
    sheet.text((left + 12, top + 6), "Planned paths", 15, room=right - left - 20)
    sheet.text((left + 12, top + 26), legend(colours), 12, FAINT, room=right - left - 20)
    size = int(min(right - left - 24, bottom - top - 56))
    picture = MazePicture(maze, size, (float(paths[0, 0, 0]), float(paths[0, 0, 1]), reach))
    sheet.paste(picture.draw(trail, paths, colours, played), left + 12, top + 46)


def legend(colours: Sequence[Colour]) -> str:
    """Return what the colours of chunks mean."""
    return "black: played" if set(colours) == {MIDDLE} else "black: played; orange: higher Q"


def draw_flow(
    sheet: Sheet,
    box: tuple[float, float, float, float],
    stages: Sequence[np.ndarray],
    colours: Sequence[Colour],
    played: int,
) -> None:
    """Draw how the first actions of chunks came from noise: rings are noise, discs are actions.

    :param stages: from noise to action, each (F, A).
    """
    steps, count = len(stages) - 1, len(stages[0])
    title = f"From noise to action, {steps} {'step' if steps == 1 else 'steps'}" if steps else "Actions"
    note = "rings: noise; discs: actions" if steps else "no noise becomes an action"
    if stages[0].shape[1] == 1:
        panel = Panel(sheet, box, title, (0, max(steps, 1)), (-3, 3), ("step of the flow", "action"), note)
        ways = [[(step, stage[row, 0]) for step, stage in enumerate(stages)] for row in range(count)]
    else:
        panel = Panel(sheet, box, title, (-3, 3), (-3, 3), ("first action, coordinate 1", "coordinate 2"), note)
        panel.line([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)], FAINT)
        ways = [[(stage[row, 0], stage[row, 1]) for stage in stages] for row in range(count)]
    for way, colour in zip(ways, colours, strict=True):
        _draw_way(panel, way, colour, 1.4)
    _draw_way(panel, ways[played], PLAYED, 2.2)


def _draw_way(panel: Panel, way: Sequence[Sequence[float]], colour: Colour, width: float) -> None:
    panel.line(way, colour, width)
    for place in way[1:-1]:
        panel.dot(place, width, colour)
    if len(way) > 1:
        panel.dot(way[0], 3.5, PAPER, colour)
    panel.dot(way[-1], 2.2 * width, colour)


def draw_chunks(
    sheet: Sheet,
    box: tuple[float, float, float, float],
    chunks: np.ndarray,
    limits: tuple[float, float],
    colours: Sequence[Colour],
    played: int,
) -> None:
    """Draw a coordinate of sampled chunks, (F, H), over their steps."""
    steps = range(1, chunks.shape[1] + 1)
    across = (1, max(chunks.shape[1], 2))
    labels = "step of the chunk", "coordinate 1"
    panel = Panel(sheet, box, f"{len(chunks)} sampled chunks", across, limits, labels, legend(colours))
    for chunk, colour in [*zip(chunks, colours, strict=True), (chunks[played], PLAYED)]:
        panel.line(list(zip(steps, chunk, strict=True)), colour, 2.2 if colour == PLAYED else 1.4)
        panel.dot((steps[-1], chunk[-1]), 2.5, colour)


def draw_values(
    sheet: Sheet,
    box: tuple[float, float, float, float],
    values: np.ndarray,
    planned: Sequence[tuple[int, float]],
    first: int = 0,
) -> None:
    """Draw the values of what was sampled at each step, (T, F), from step ``first`` on, and those of what was played.

    :param planned: steps at which chunks were planned, and the values of these.
    """
    steps = np.arange(first, first + len(values))
    low, middle, high = values.min(1), values.mean(1), values.max(1)
    least, most = float(low.min()), float(high.max())
    room = 0.08 * max(most - least, 1e-3 * max(abs(most), 1.0))
    across = (first, max(first + len(values) - 1, first + 40))
    note = f"line: mean of {values.shape[1]} samples; band: all of them; dots: chunks that were begun"
    panel = Panel(
        sheet,
        box,
        f"Q of a chunk planned now: {middle[-1]:.1f}",
        across,
        (least - room, most + room),
        ("step", ""),
        note,
    )
    panel.area([*zip(steps, high, strict=True), *zip(steps[::-1], low[::-1], strict=True)], (205, 220, 245))
    panel.line(list(zip(steps, middle, strict=True)), AGENT, 2)
    for step, value in planned:
        if step >= first:
            panel.dot((step, value), 3.2, PLAYED)


def draw_note(sheet: Sheet, box: tuple[float, float, float, float], title: str, note: str) -> None:
    """Write why a panel is empty."""
    sheet.text((box[0] + 12, box[1] + 6), title, 15)
    sheet.text((box[0] + 12, box[1] + 26), note, 12, FAINT, room=box[2] - box[0] - 20)


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
