"""Drawings show what they say, where they say it; videos and windows show what they are given."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from types import SimpleNamespace

import imageio.v2 as imageio
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from tests import ROOT
from tests.zoo.outcomes import refuses
from zoo.watching import film
from zoo.watching.stage import SampledPlans
from zoo.watching.video import check_video, open_video

# . # .   y = 4
# . . #   y = 0, and x = 0 is the left column
MAZE = SimpleNamespace(
    maze_map=np.array([[0, 0, 1], [0, 1, 0]]), _maze_unit=4.0, _offset_x=0.0, _offset_y=0.0, _teleport_info=None,
    cur_goal_xy=(8.0, 4.0),
)  # fmt: skip


def plans(size=2, stages=4, values=None):
    lines = list(np.random.default_rng(0).uniform(-1, 1, (stages, 3, size)))
    return SampledPlans(np.zeros((3, 1, size)), lines, np.array(values) if values else None, 2)


def test_y_points_up_and_the_maze_is_in_the_middle():
    figure = Figure((2.4, 1.6), dpi=100)
    film.draw_maze(figure.add_axes((0, 0, 1, 1)), MAZE, [np.zeros(2)])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[..., :3]
    middles = {(x, y): image[40 + 80 * (y == 0), 40 + 80 * x] for x in range(3) for y in (0, 1)}
    colours = {place: "#" + bytes(colour).hex() for place, colour in middles.items()}
    floor, wall = film.FLOOR, film.WALL
    upper_row = {(0, 1): floor, (1, 1): wall, (2, 1): film.GOAL}
    assert colours == upper_row | {(0, 0): film.AGENT, (1, 0): floor, (2, 0): wall}


def test_colours_go_from_the_lowest_to_the_highest_value():
    low, middle, high = film.VALUES([0.0, 0.5, 1.0])
    for values, expected in (
        ([3.0, 1.0, 2.0], [high, low, middle]),
        ([2.0] * 3, [low] * 3),
        (None, [low] * 3),
    ):
        np.testing.assert_array_equal(film.colours_of(plans(values=values)), expected)


@pytest.mark.parametrize(("size", "stages"), [(2, 4), (1, 4), (2, 1), (5, 2)])
def test_thoughts_about_actions_of_any_size_are_drawn(size, stages):
    sampled = plans(size, stages)
    flow, chunks = Figure().subplots(1, 2)
    film.draw_flow(flow, sampled)
    film.draw_chunks(chunks, sampled)
    for ax in (flow, chunks):
        (lines,) = ax.collections[-2:-1]
        assert len(lines.get_segments()) == 3


@pytest.mark.parametrize(("ending", "speed"), [("gif", 20), ("mp4", 30)])
def test_pictures_come_back(ending, speed, tmp_path):
    path = tmp_path / f"video.{ending}"
    check_video(path)
    with open_video(path) as add:
        for shade in (0, 200):
            add(np.full((48, 64, 3), shade, np.uint8), shade == 200)
    with imageio.get_reader(path) as reader:
        frames = [frame[..., :3] for frame in reader]
    assert frames[0].shape == (48, 64, 3)
    # MP4 and the palette of a GIF are lossy
    assert [frames[0].mean(), frames[-1].mean()] == pytest.approx([0, 200], abs=8)
    seconds = 2 / speed + 0.8  # the last picture stays
    # a GIF holds hundredths of a second
    assert length_of(path, speed) == pytest.approx(seconds, abs=0.01)


def length_of(path, speed):
    """Return how long a video takes, in seconds; a GIF has one long picture for several that are the same."""
    with imageio.get_reader(path) as reader:
        if path.suffix == ".mp4":
            return reader.count_frames() / speed
    with Image.open(path) as image:
        return sum(frame.info["duration"] for frame in ImageSequence.Iterator(image)) / 1000


def test_a_video_that_fails_leaves_nothing(tmp_path):
    with suppress(ArithmeticError), open_video(tmp_path / "video.gif") as add:
        add(np.zeros((48, 64, 3), np.uint8), False)
        raise ArithmeticError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["video", "missing/video.gif"])
def test_what_cannot_be_written_is_refused(name, tmp_path):
    with refuses(r"must end in \.mp4 or \.gif|in a folder that exists and can be written to"):
        check_video(tmp_path / name)


def test_without_ffmpeg_a_gif_is_offered(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with refuses(r"imageio-ffmpeg`, or record a GIF: .*video\.gif"):
        check_video(tmp_path / "video.mp4")
    check_video(tmp_path / "video.gif")


PROGRAM = """
import inspect
import sys
from types import SimpleNamespace
import numpy as np
from zoo.terminal.errors import Interrupted, UsageError
from zoo.watching.window import glfw, open_window

picture = np.full((120, 150, 3), (255, 0, 0), np.uint8)
with open_window("a picture") as show:
    try:
        show(picture, True)
    except UsageError:
        sys.exit("no window")
    print("shown", flush=True)
    sys.stdin.readline()
    glfw.set_window_should_close(inspect.getclosurevars(show).nonlocals["handle"], True)
    try:
        show(picture, False)
    except Interrupted as error:
        print(error, flush=True)
"""


@pytest.fixture
def screen():
    """Return the name of a screen."""
    read, write = os.pipe()
    command = f"Xvfb -displayfd {write} -screen 0 320x240x24".split()
    with subprocess.Popen(
        command, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        os.close(write)
        with os.fdopen(read) as number:
            yield f":{number.readline().strip()}"
        server.terminate()


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb")
def test_a_picture_is_shown_until_the_window_is_closed(screen):
    variables = os.environ | {"DISPLAY": screen}
    variables.pop("PYOPENGL_PLATFORM", None)  # would make OpenGL draw without a screen
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=variables, text=True, **pipes
    ) as program:
        output = program.stdout.readline()
        if not output and "no window" in program.communicate()[1]:
            pytest.skip("needs OpenGL on Xvfb's screen")
        assert output == "shown\n"
        assert "the window was closed" in program.communicate("\n", timeout=60)[0]
