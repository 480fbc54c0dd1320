"""Show pictures in a window while they are made.

GLFW and PyOpenGL come with MuJoCo, so that a window needs no further package.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import glfw
import numpy as np
from OpenGL import GL

from zoo.terminal.errors import Interrupted, UsageError
from zoo.watching.video import LAST_SECONDS

SPEED = 60
"""Most pictures in a second."""


@contextlib.contextmanager
def open_window(title: str) -> Iterator[Callable[[np.ndarray, bool], None]]:
    """Yield a function that shows a picture, for longer if it is the last of an episode.

    The window opens with the first picture, in its size. The function raises Interrupted once the user closes the
    window or presses Esc or q. GLFW is not terminated, and MuJoCo's own context is current again after each picture,
    since MuJoCo renders through GLFW too.
    """
    handle: Any = None

    def show(picture: np.ndarray, is_last: bool) -> None:
        nonlocal handle
        previous = glfw.get_current_context()
        height, width, _ = picture.shape
        if handle is None:
            handle = _open(title, width, height)
        glfw.make_context_current(handle)
        size = glfw.get_framebuffer_size(handle)
        GL.glViewport(0, 0, *size)
        GL.glPixelStorei(GL.GL_UNPACK_ALIGNMENT, 1)
        GL.glRasterPos2f(-1, 1)  # its first row is the uppermost one
        GL.glPixelZoom(size[0] / width, -size[1] / height)
        GL.glDrawPixels(
            width, height, GL.GL_RGB, GL.GL_UNSIGNED_BYTE, np.ascontiguousarray(picture)
        )
        glfw.swap_buffers(handle)
        glfw.make_context_current(previous)
        seconds = LAST_SECONDS if is_last else 1 / SPEED
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            glfw.wait_events_timeout(max(end - time.monotonic(), 1e-3))  # GLFW refuses 0
            keys = [glfw.get_key(handle, key) for key in (glfw.KEY_ESCAPE, glfw.KEY_Q)]
            if glfw.window_should_close(handle) or glfw.PRESS in keys:
                raise Interrupted("the window was closed before all episodes were over")

    try:
        yield show
    finally:
        if handle is not None:
            glfw.destroy_window(handle)


def _open(title: str, width: int, height: int) -> object:
    """Return the handle of a new window."""
    glfw.init()
    glfw.default_window_hints()  # MuJoCo's windows are invisible
    glfw.window_hint(glfw.RESIZABLE, glfw.FALSE)
    handle = glfw.create_window(width, height, title, None, None)
    if handle is None:
        raise UsageError(
            "no window can be opened on this screen; record with --video FILE, or add --no-render"
        )
    glfw.make_context_current(handle)
    glfw.swap_interval(0)  # `show` keeps the time
    return handle
