"""What draws is found by trying."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.envs import rendering
from zoo.envs.rendering import (
    PLATFORMS,
    VARIABLE,
    choose_platform,
    prepare_pictures,
    require_pictures,
    why_no_window,
)
from zoo.errors import UsageError


@pytest.fixture(autouse=True)
def _not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    monkeypatch.setenv(VARIABLE, "")


def pretend(monkeypatch: pytest.MonkeyPatch, *working: str) -> list[str]:
    tried: list[str] = []

    def works(name: str) -> bool:
        tried.append(name)
        return name in working

    monkeypatch.setattr(rendering, "_works", works)
    return tried


def test_the_first_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = pretend(monkeypatch, "osmesa", "glfw")
    assert choose_platform() == "osmesa"
    assert (tried, os.environ[VARIABLE]) == (["egl", "osmesa"], "osmesa")


def test_nothing_may_work(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = pretend(monkeypatch)
    assert choose_platform() is None
    assert tried == list(PLATFORMS)
    assert VARIABLE not in os.environ


def test_what_the_user_names_is_the_only_one_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "glfw")
    tried = pretend(monkeypatch, "egl")
    assert choose_platform() is None
    assert tried == ["glfw"]


def test_a_process_that_has_imported_mujoco_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = pretend(monkeypatch, "egl")
    monkeypatch.setitem(sys.modules, "mujoco", sys)
    assert choose_platform() is None
    assert tried == []
    monkeypatch.setenv(VARIABLE, "egl")
    assert choose_platform() == "egl"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")


@pytest.mark.usefixtures("screen")
def test_where_there_is_a_screen_mujoco_draws_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = pretend(monkeypatch, *PLATFORMS)
    assert why_no_window() is None
    assert (tried, os.environ[VARIABLE]) == (["glfw"], "glfw")


@pytest.mark.usefixtures("screen")
def test_what_keeps_a_window_from_opening_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "egl")
    assert why_no_window() == "GLFW cannot draw in a window on this screen"
    assert not os.environ[VARIABLE]
    monkeypatch.setenv(VARIABLE, "egl")
    assert why_no_window() == "MUJOCO_GL=egl draws without windows"
    monkeypatch.delenv("DISPLAY")
    assert why_no_window() == "there is no screen (DISPLAY and WAYLAND_DISPLAY are not set)"


def test_one_that_hangs_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*command: object, **how: object) -> object:
        raise subprocess.TimeoutExpired("python", 60)

    monkeypatch.setattr(subprocess, "run", hang)
    assert not rendering._works("egl")


def test_names_of_images_choose_what_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = pretend(monkeypatch, "egl")
    prepare_pictures("cube-single-play-singletask-task1-v0", None)
    assert tried == []
    prepare_pictures(None, Path("logs/qam/visual-cube-single-play-singletask-task1-v0_1"))
    assert (tried, os.environ[VARIABLE]) == (["egl"], "egl")


def test_images_that_nothing_draws_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    monkeypatch.delenv("DISPLAY", raising=False)
    for refuse in (prepare_pictures, require_pictures):
        with pytest.raises(
            UsageError, match=r"`visual-scene-v0` has images, and MuJoCo can draw nothing here; install"
        ):
            refuse("visual-scene-v0")
