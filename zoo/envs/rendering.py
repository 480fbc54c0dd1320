"""Choose MuJoCo's rendering backend on this machine: EGL, OSMesa or a window."""

import os
import re
import subprocess
import sys
from typing import Any

from zoo.terminal.errors import UsageError

VARIABLE = "MUJOCO_GL"
PLATFORMS = ("egl", "osmesa", "glfw")
"""MuJoCo's rendering backends, in the order in which they are tried.

EGL renders on a GPU or in software, without a screen; OSMesa renders in software; GLFW renders in a hidden window.
"""
# with one of these variables, the other backends are not tried, even installed ones
REMEDY = (
    f"unset {VARIABLE} and PYOPENGL_PLATFORM if they are set, install EGL (Debian, Ubuntu: `apt install "
    "libegl1 libgl1-mesa-dri`; Fedora: `dnf install mesa-libEGL mesa-dri-drivers`) or OSMesa (`apt install "
    "libosmesa6`; `dnf install mesa-compat-libOSMesa`), or start the program on a machine with a screen"
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
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")
VISUAL = "visual-"
"""Prefix of OGBench's environments and datasets with images."""
_IMAGES = re.compile(rf"(^|/){VISUAL}[^/]*-v\d+(_\d+)?(/|$)")
"""Pattern that finds the name of an environment or dataset with images, also as a folder name in a path."""


def prepare_pictures(*names: object) -> None:
    """Choose a rendering backend if a name has OGBench's prefix for images; call this before MuJoCo is imported.

    :param names: names of environments and datasets, and paths of run folders, which contain environment names.
    :raises UsageError: if no backend works.
    """
    named = next((str(name) for name in names if _IMAGES.search(str(name))), None)
    if named is not None and choose_platform() is None:
        raise UsageError(_nothing_draws(named))


def require_pictures(env_id: str) -> None:
    """Raise UsageError if MuJoCo cannot render images, because no backend is selected and there is no screen."""
    if os.environ.get(VARIABLE) not in PLATFORMS and not _has_screen():
        raise UsageError(_nothing_draws(env_id))


def explain_import(error: Exception) -> None:
    """Raise UsageError if an error ended MuJoCo's import, as backends that do not work do."""
    # a failed import leaves only the submodules
    if "mujoco" not in sys.modules and any(name.startswith("mujoco.") for name in sys.modules):
        raise UsageError(
            f"MuJoCo cannot be imported with {VARIABLE}={os.environ.get(VARIABLE)} ({error.__cause__ or error}); "
            f"{REMEDY}"
        ) from error


def why_no_window() -> str | None:
    """Configure MuJoCo to render in windows; return None on success, otherwise the reason for the failure.

    A process can render either offscreen, with EGL or OSMesa, or in windows, but not both.
    """
    if not _has_screen():
        return f"there is no screen ({' and '.join(_SCREENS)} are not set)"
    configured = os.environ.get(VARIABLE) or "glfw"
    if configured != "glfw":
        return f"{VARIABLE}={configured} renders without windows"
    if not _works("glfw"):
        return "GLFW cannot render in a window on this screen"
    os.environ[VARIABLE] = "glfw"
    return None


def _has_screen() -> bool:
    return sys.platform != "linux" or any(os.environ.get(name) for name in _SCREENS)


def _nothing_draws(name: str) -> str:
    return (
        f"`{name}` needs rendering, but MuJoCo cannot render here; {REMEDY}. In your own programs, set "
        f"{VARIABLE}=egl or osmesa before importing MuJoCo"
    )


def choose_platform() -> str | None:
    """Select a rendering backend that works on this machine, and return its name, or None if none works.

    If the environment variable MUJOCO_GL names a backend, no other is tried. MuJoCo reads the variable at import,
    so a process that has already imported MuJoCo keeps its backend. If no backend works, the variable is removed,
    because some backends that do not work prevent the import of MuJoCo.
    """
    configured = os.environ.get(VARIABLE, "")
    if "mujoco" in sys.modules:
        is_usable = configured in PLATFORMS and _works(configured)
        return configured if is_usable else None
    candidates = [configured] if configured else PLATFORMS
    for name in candidates:
        if _works(name):
            os.environ[VARIABLE] = name
            return name
    os.environ.pop(VARIABLE, None)
    return None


def _works(name: str) -> bool:
    """Return whether MuJoCo renders with a backend; the trial runs in another process, which may crash."""
    command = [sys.executable, "-P", "-c", _TRIAL]  # -P: import nothing from the current folder
    variables = {**os.environ, VARIABLE: name}
    try:
        subprocess.run(command, env=variables, capture_output=True, timeout=_SECONDS, check=True)
    except subprocess.SubprocessError:
        return False
    return True


def prepare_drawing(env: Any) -> None:
    """Turn off shadows and anti-aliasing: without a GPU, rendering with them takes up to 30 times as long.

    Call this before the first image is rendered, but, in OGBench's scenes, after the first reset, which creates the
    MuJoCo model.

    :param env: a Gymnasium environment without wrappers; nothing changes for simulators other than MuJoCo.
    """
    model = getattr(env, "model", None) or getattr(env, "_model", None)
    if model is None:
        return
    model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
