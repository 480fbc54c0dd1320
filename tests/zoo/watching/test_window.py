"""A window shows pictures on a screen; here that is one of Xvfb, which keeps its pixels in a file."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb")

ROOT = Path(__file__).parents[3]
RED, GREEN, BLUE = (250, 10, 20), (10, 240, 30), (30, 20, 230)
PROGRAM = f"""
import sys
import numpy as np
from PIL import Image
from zoo.errors import Interrupted, UsageError
from zoo.watching.window import glfw, open_window

pixels = np.empty((120, 150, 3), np.uint8)
pixels[:40], pixels[40:, :50], pixels[40:, 50:] = {RED}, {GREEN}, {BLUE}
picture = Image.fromarray(pixels)
with open_window("a picture") as show:
    try:
        show(picture, True)
    except UsageError:
        sys.exit("no window")
    print("shown", flush=True)
    sys.stdin.readline()
    glfw.set_window_should_close(show.__self__._handle, True)
    try:
        show(picture, False)
    except Interrupted as error:
        print(error, flush=True)
"""


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Return the name of a screen, and the file that has its pixels."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "320x240x24", "-fbdir", str(tmp_path)]
    with subprocess.Popen(command, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        os.close(write)
        with os.fdopen(read) as number:
            yield f":{number.readline().strip()}", tmp_path / "Xvfb_screen0"
        server.terminate()


def pixels_of(file: Path) -> np.ndarray:
    """Return the pixels of a screen, red, green and blue, (height, width, 3), from the XWD file of Xvfb."""
    content = file.read_bytes()
    header = struct.unpack(">25I", content[:100])
    begin, width, height = header[0] + 12 * header[19], header[4], header[5]
    return np.frombuffer(content, np.uint8, 4 * width * height, begin).reshape(height, width, 4)[:, :, 2::-1]


def test_a_picture_is_shown_upright_until_the_window_is_closed(screen: tuple[str, Path]) -> None:
    name, file = screen
    variables = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"} | {"DISPLAY": name}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, env=variables, text=True, **pipes) as program:
        assert program.stdout is not None
        said = program.stdout.readline()
        if not said and "no window" in program.communicate()[1]:
            pytest.skip("needs OpenGL on Xvfb's screen")
        assert said == "shown\n"
        shown = pixels_of(file)
        assert program.communicate("\n", timeout=60)[0] == "the window was closed before all episodes were over\n"
    rows, columns = np.nonzero(shown.any(2))
    found = shown[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert found.shape == (120, 150, 3)
    assert (found[:40] == RED).all()
    assert (found[40:, :50] == GREEN).all()
    assert (found[40:, 50:] == BLUE).all()
