"""MuJoCo renders with the first platform that works, unless the user names one."""

import os
import sys
from pathlib import Path

import pytest

from tests.zoo.outcomes import refuses
from zoo.envs import rendering
from zoo.envs.rendering import PLATFORMS, VARIABLE, choose_platform, prepare_pictures


@pytest.fixture(autouse=True)
def _not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    monkeypatch.setenv(VARIABLE, "")


def pretend(monkeypatch, *working):
    """Let only these platforms work; return a list to which each platform that is tried is appended."""
    trials = []

    def works(name):
        trials.append(name)
        return name in working

    monkeypatch.setattr(rendering, "_works", works)
    return trials


@pytest.mark.parametrize(
    ("working", "named", "is_imported", "chosen", "tries"),
    [
        (("osmesa", "glfw"), "", False, "osmesa", ["egl", "osmesa"]),  # the first that works
        ((), "", False, None, list(PLATFORMS)),
        (("egl",), "glfw", False, None, ["glfw"]),  # only the platform that the user names is tried
        (("egl",), "", True, None, []),  # a process that has imported MuJoCo keeps its platform
        (("egl",), "egl", True, "egl", ["egl"]),
    ],
)
def test_what_draws_is_the_first_that_works_unless_named(
    monkeypatch, working, named, is_imported, chosen, tries
):
    trials = pretend(monkeypatch, *working)
    monkeypatch.setenv(VARIABLE, named)
    if is_imported:
        monkeypatch.setitem(sys.modules, "mujoco", sys)
    assert choose_platform() == chosen
    assert trials == tries
    assert is_imported or named or os.environ.get(VARIABLE) == chosen


def test_names_of_images_choose_what_draws(monkeypatch):
    trials = pretend(monkeypatch, "egl")
    prepare_pictures("cube-single-play-singletask-task1-v0", None)
    prepare_pictures(None, Path("visual-rl/logs/bc/Pendulum-v1_1"))
    assert trials == []
    prepare_pictures(None, Path("logs/qam/visual-cube-single-play-singletask-task1-v0_1"))
    assert trials == ["egl"]
    assert os.environ[VARIABLE] == "egl"


def test_images_that_nothing_draws_are_refused(monkeypatch):
    pretend(monkeypatch)
    with refuses("MuJoCo cannot render here; unset MUJOCO_GL and PYOPENGL_PLATFORM"):
        prepare_pictures("visual-scene-v0")
