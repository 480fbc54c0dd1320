"""A window shows pictures on a screen; here that is one of Xvfb."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb")

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
from PIL import Image
from zoo.errors import Interrupted, UsageError
from zoo.watching.window import glfw, open_window

picture = Image.new("RGB", (150, 120), "red")
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
def screen() -> Iterator[str]:
    """Return the name of a screen."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "320x240x24"]
    with subprocess.Popen(command, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        os.close(write)
        with os.fdopen(read) as number:
            yield f":{number.readline().strip()}"
        server.terminate()


def test_a_picture_is_shown_until_the_window_is_closed(screen: str) -> None:
    variables = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"} | {"DISPLAY": screen}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, env=variables, text=True, **pipes) as program:
        assert program.stdout is not None
        said = program.stdout.readline()
        if not said and "no window" in program.communicate()[1]:
            pytest.skip("needs OpenGL on Xvfb's screen")
        assert said == "shown\n"
        assert program.communicate("\n", timeout=60)[0] == "the window was closed before all episodes were over\n"
