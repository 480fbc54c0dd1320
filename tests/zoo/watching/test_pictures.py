"""Drawings show what they say, where they say it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from zoo.watching.pictures import (
    AGENT,
    BAD,
    CAPTION,
    FLOOR,
    GOAL,
    GOOD,
    HIGH,
    LOW,
    MIDDLE,
    PAPER,
    PLAYED,
    WALL,
    MazeMap,
    MazePicture,
    Panel,
    Sheet,
    colours_of,
    draw_caption,
    draw_chunks,
    draw_flow,
    draw_values,
    fitted,
    legend,
    number_text,
    put_together,
    ticks,
)

# . # .   y = 4
# . . #   y = 0, and x = 0 is the left column
MAZE = MazeMap(walls=np.array([[0, 0, 1], [0, 1, 0]]), unit=4.0, offset=(0.0, 0.0), goal=(8.0, 4.0))


def colour_at(image: Image.Image, place: tuple[float, float]) -> tuple[int, ...]:
    found = image.getpixel((round(place[0]), round(place[1])))
    assert isinstance(found, tuple)
    return found


@pytest.mark.parametrize(
    ("place", "colour"), [((0, 0), AGENT), ((4, 0), FLOOR), ((8, 0), WALL), ((4, 4), WALL), ((8, 4), GOAL)]
)
def test_a_maze_has_its_walls_agent_and_goal_where_they_are(place: tuple[float, float], colour: object) -> None:
    maze = MazePicture(MAZE, 120)
    assert colour_at(maze.draw([(0, 0)]).finished(), maze.point(place)) == colour


def test_y_points_up_and_the_maze_is_in_the_middle() -> None:
    maze = MazePicture(MAZE, 120)
    assert maze.point((0, 0)) == pytest.approx((20, 80))
    assert maze.point((8, 4)) == pytest.approx((100, 40))
    assert colour_at(maze.draw([(0, 0)]).finished(), (60, 5)) == PAPER


def test_a_close_up_shows_the_surroundings_of_a_place() -> None:
    maze = MazePicture(MAZE, 100, around=(4.0, 0.0, 1.0))
    assert maze.point((4, 0)) == pytest.approx((50, 50))
    assert maze.point((5, 1)) == pytest.approx((100, 0))
    assert colour_at(maze.draw([(4, 0)]).finished(), (90, 90)) == FLOOR


def test_paths_end_in_their_colours_and_the_played_one_is_black() -> None:
    maze = MazePicture(MAZE, 240)
    paths = np.array([[[0, 0], [0, 3]], [[0, 0], [3.5, 0]]], float)
    image = maze.draw([(0, 0)], paths, [LOW, HIGH], played=1).finished()
    assert colour_at(image, maze.point((0, 3))) == LOW
    assert colour_at(image, maze.point((3.5, 0))) == PLAYED


def test_colours_go_from_the_lowest_to_the_highest_value() -> None:
    assert colours_of(np.array([3.0, 1.0, 2.0]), 3) == [HIGH, LOW, MIDDLE]
    assert colours_of(np.array([2.0, 2.0]), 2) == [MIDDLE, MIDDLE]
    assert colours_of(None, 2) == [MIDDLE, MIDDLE]


def test_without_values_the_legend_speaks_of_none() -> None:
    assert "Q" not in legend(colours_of(None, 3))
    assert "orange: higher Q" in legend(colours_of(np.array([1.0, 2.0]), 2))


def drawn(draw: Callable[[Sheet], None]) -> np.ndarray:
    sheet = Sheet(240, 240)
    draw(sheet)
    return np.asarray(sheet.finished())


def has(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((image == colour).all(-1).any())


@pytest.mark.parametrize(("size", "stages"), [(2, 4), (1, 4), (2, 1), (5, 2)])
def test_a_flow_is_drawn_for_actions_of_any_size(size: int, stages: int) -> None:
    ways = list(np.random.default_rng(0).uniform(-1, 1, (stages, 3, size)))
    image = drawn(lambda sheet: draw_flow(sheet, (0, 0, 240, 240), ways, [LOW, HIGH, MIDDLE], 2))
    assert has(image, LOW)
    assert has(image, HIGH)
    assert has(image, PLAYED)


def test_chunks_of_one_step_are_drawn_too() -> None:
    image = drawn(
        lambda sheet: draw_chunks(sheet, (0, 0, 240, 240), np.array([[-0.5], [0.5]]), (-1, 1), [LOW, HIGH], 1)
    )
    assert has(image, LOW)
    assert has(image, PLAYED)


@pytest.mark.parametrize("values", [np.zeros((1, 3)), np.full((5, 3), -120.0), np.arange(12.0).reshape(4, 3)])
def test_values_are_drawn_from_the_first_step_on_and_where_they_are_all_the_same(values: np.ndarray) -> None:
    image = drawn(lambda sheet: draw_values(sheet, (0, 0, 240, 240), values, [(0, float(values[0, 0]))]))
    assert has(image, PLAYED)
    assert has(image, AGENT) == (len(values) > 1)  # a line needs two points


def test_what_is_beyond_a_panel_is_put_at_its_edge() -> None:
    panel = Panel(Sheet(200, 200), (0, 0, 200, 200), "", (-3, 3), (-3, 3))
    assert panel.point((9, -9)) == panel.point((3, -3))


def test_text_is_cut_off_where_it_has_no_room() -> None:
    sheet = Sheet(400, 40)
    assert sheet.text((0, 0), "a long line of text that goes on and on", 15, room=100) <= 100
    assert sheet.text((0, 0), "short", 15, room=100) == sheet.text((0, 0), "short", 15)


def test_a_caption_tells_how_the_episode_ended() -> None:
    plain, good, bad = (
        np.asarray(draw_caption(400, "qam", "step 3", *ending))
        for ending in ((), ("success", True), ("failure", False))
    )
    assert plain.shape == (CAPTION, 400, 3)
    assert has(good, GOOD)
    assert has(bad, BAD)
    assert not has(plain, GOOD)
    assert not has(plain, BAD)


def test_pictures_are_put_together_in_rows() -> None:
    red, blue = (Image.new("RGB", (10, 20), colour) for colour in ("red", "blue"))
    whole = put_together([[red, blue], [blue, red]], gap=2)
    assert whole.size == (22, 42)
    assert whole.getpixel((21, 41)) == (255, 0, 0)
    assert whole.getpixel((11, 1)) == PAPER


def test_a_cameras_picture_keeps_its_shape_in_the_square() -> None:
    image = fitted(np.zeros((200, 400, 3), np.uint8), 100)
    assert image.size == (100, 100)
    assert image.getpixel((50, 50)) == (0, 0, 0)
    assert image.getpixel((50, 10)) == PAPER


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-3, 3, [-2, 0, 2]), (0, 40, [0, 10, 20, 30, 40]), (-120.3, -76.1, [-120, -100, -80]), (0, 1, [0, 0.5, 1])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_a_tick_is_short() -> None:
    assert [number_text(value) for value in (-100.0, 0.30000000000000004, -0.0, 12345.678)] == [
        "-100", "0.3", "0", "1.235e+04",
    ]  # fmt: skip
