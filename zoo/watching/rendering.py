"""How MuJoCo draws pictures on this machine: by EGL, by OSMesa or in a window, whichever works first."""

from __future__ import annotations

import os
import subprocess
import sys

VARIABLE = "MUJOCO_GL"
PLATFORMS = {
    "egl": "EGL, on a GPU or in software, without a screen",
    "osmesa": "OSMesa, in software",
    "glfw": "a window that is not shown",
}
"""Names that MuJoCo has for what draws, in the order in which they are tried."""
WHAT_TO_INSTALL = (
    "install EGL (Debian, Ubuntu: `apt install libegl1 libgl1-mesa-dri`; Fedora: `dnf install mesa-libEGL "
    "mesa-dri-drivers`) or OSMesa (`apt install libosmesa6`; `dnf install mesa-compat-libOSMesa`), or start the "
    "program where there is a screen"
)
_TRIAL = """
import mujoco
from OpenGL import GL
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    raise SystemExit(0 if renderer.render().max() else 1)
"""
_SECONDS = 60
_IN_WINDOWS = "glfw"
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")


def why_no_window() -> str | None:
    """Make MuJoCo draw in a way that leaves this process a window to show; return why there is none, or None.

    A process can draw through EGL or OSMesa, or in windows, but not both.
    """
    if sys.platform == "linux" and not any(os.environ.get(name) for name in _SCREENS):
        return f"there is no screen ({' and '.join(_SCREENS)} are not set)"
    wanted = os.environ.get(VARIABLE) or _IN_WINDOWS
    if wanted != _IN_WINDOWS:
        return f"{VARIABLE}={wanted} draws without windows"
    if not _works(_IN_WINDOWS):
        return "GLFW cannot draw in a window on this screen"
    os.environ[VARIABLE] = _IN_WINDOWS
    return None


def choose_platform() -> str | None:
    """Make MuJoCo draw in this process with what works here, and return its name; None if nothing does.

    If the environment variable MUJOCO_GL names one, no other is tried. MuJoCo reads the variable when it is imported,
    so a process that has imported it before keeps what it has. Where nothing works the variable is removed: with some
    names that do not work, MuJoCo cannot even be imported.
    """
    wanted = os.environ.get(VARIABLE, "")
    if "mujoco" in sys.modules:
        return wanted if wanted in PLATFORMS and _works(wanted) else None
    for name in [wanted] if wanted else PLATFORMS:
        if _works(name):
            os.environ[VARIABLE] = name
            return name
    os.environ.pop(VARIABLE, None)
    return None


def _works(name: str) -> bool:
    """Return whether MuJoCo draws something with a platform; it may crash, so another process tries."""
    command = [sys.executable, "-c", _TRIAL]
    try:
        tried = subprocess.run(command, env={**os.environ, VARIABLE: name}, capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode == 0
