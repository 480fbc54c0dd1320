"""Drawings show what they say, where they say it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from zoo.watching.pictures import (
    HIGH,
    LOW,
    MIDDLE,
    MazeMap,
    MazePicture,
    Panel,
    Sheet,
    colours_of,
    draw_chunks,
    draw_close_up,
    draw_flow,
    draw_values,
    fitted,
    put_together,
    ticks,
    widened,
)
from zoo.watching.stage import Thoughts

# . # .   y = 4
# . . #   y = 0, and x = 0 is the left column
MAZE = MazeMap(walls=np.array([[0, 0, 1], [0, 1, 0]]), unit=4.0, offset=(0.0, 0.0), goal=(8.0, 4.0))
SIZE = (240, 200)


def thoughts(size: int = 2, stages: int = 4, values: list[float] | None = None) -> Thoughts:
    ways = list(np.random.default_rng(0).uniform(-1, 1, (stages, 3, size)))
    return Thoughts(np.zeros((3, 1, size)), ways, np.array(values) if values else None, 2)


def test_y_points_up_and_the_maze_is_in_the_middle() -> None:
    maze = MazePicture(MAZE, 120)
    assert maze.point((0, 0)) == pytest.approx((20, 80))
    assert maze.point((8, 4)) == pytest.approx((100, 40))
    close = MazePicture(MAZE, 100, around=(4.0, 0.0, 1.0))
    assert close.point((5, 1)) == pytest.approx((100, 0))


def test_colours_go_from_the_lowest_to_the_highest_value() -> None:
    assert colours_of(thoughts(values=[3.0, 1.0, 2.0])) == [HIGH, LOW, MIDDLE]
    assert colours_of(thoughts(values=[2.0, 2.0, 2.0])) == colours_of(thoughts()) == [MIDDLE] * 3


@pytest.mark.parametrize(("size", "stages"), [(2, 4), (1, 4), (2, 1), (5, 2)])
def test_thoughts_about_actions_of_any_size_are_drawn(size: int, stages: int) -> None:
    what, paths = thoughts(size, stages), np.zeros((3, 2, 2))
    drawn = [draw_flow(SIZE, what), draw_chunks(SIZE, what, (-1, 1))]
    drawn.append(draw_close_up(SIZE, what, paths, MAZE, 1.0, [(0.0, 0.0)]))
    assert all(each.size == SIZE and len(each.getcolors(1 << 16) or []) > 2 for each in drawn)


@pytest.mark.parametrize("values", [np.zeros((1, 3)), np.full((5, 3), -120.0), np.arange(12.0).reshape(4, 3)])
def test_values_are_drawn_from_the_first_step_on_and_where_they_are_all_the_same(values: np.ndarray) -> None:
    limits = widened((0.0, 0.0), values)
    assert draw_values(SIZE, values, [(0, float(values[0, 0]))], limits).size == SIZE


def test_an_axis_is_widened_with_room_and_then_stays() -> None:
    limits = widened((0.0, 0.0), np.array([-100.0, -90.0]))
    assert limits == (-110.0, 0.0)
    assert widened(limits, np.array([-109.0, -1.0])) == limits
    assert widened(limits, np.array([10.0])) == (-110.0, 22.0)


def test_what_is_beyond_a_panel_is_put_at_its_edge() -> None:
    panel = Panel((200, 200), "", "", (-3, 3), (-3, 3))
    assert panel.point((9, -9)) == panel.point((3, -3))


def test_text_is_cut_off_where_it_has_no_room() -> None:
    assert Sheet(400, 40).text((0, 0), "a long line of text that goes on and on", 15, room=100) <= 100


def test_pictures_are_put_together_in_rows_and_keep_their_shape() -> None:
    red, blue = (Image.new("RGB", (10, 20), colour) for colour in ("red", "blue"))
    whole = put_together([[red, blue], [blue, red]], gap=2)
    assert (whole.size, whole.getpixel((21, 41))) == ((22, 42), (255, 0, 0))
    image = fitted(np.zeros((200, 400, 3), np.uint8), 100)
    assert (image.size, image.getpixel((50, 50)), image.getpixel((50, 10))) == ((100, 100), (0, 0, 0), (255, 255, 255))


@pytest.mark.parametrize(("low", "high", "expected"), [(-3, 3, [-2, 0, 2]), (-120.3, -76.1, [-120, -100, -80])])
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)
