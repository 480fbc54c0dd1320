"""`zoo/enjoy.py` plays an agent, says how each episode ended, and records it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from tests.common.toys import tiny_model
from tests.zoo.models.conftest import ENV, STEPS, maze_model
from tests.zoo.outcomes import call
from zoo.enjoy import main
from zoo.envs import rendering
from zoo.envs.make import make_env

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "policy.safetensors"
    maze_model(seed=3).save_policy(path, {"env": ENV, "protocol": {"episodes": 9, "env_kwargs": STEPS}})
    return path


@pytest.fixture(autouse=True)
def _no_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let MuJoCo draw nothing, which it can only in processes that have not imported it."""
    monkeypatch.setattr(rendering, "_works", lambda name: False)


def enjoy(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any], list[str]]:
    code, found, said = call(capsys, main, *words)
    return code, found, said.splitlines()


def test_five_episodes_are_played_and_each_is_told(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, said = enjoy(capsys, policy)
    assert (code, found["episodes"], found["success"], found["video"]) == (0, 5, 0.0, None)
    told = [line for line in said if line.startswith("episode ")]
    assert told == [f"episode {number}: failure, 12 steps, return -12.0" for number in range(1, 6)]
    assert said[-1] == "success 0.0% [0.0, 43.4] over 5 episodes"
    assert "no window is opened: there is no screen" in " ".join(said)


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Image.Image, bool]]:
    """Stand in for a screen; return what is shown in its window."""
    shown: list[tuple[Image.Image, bool]] = []

    @contextlib.contextmanager
    def open_window(title: str) -> Iterator[Any]:
        assert title == f"qam in {ENV}"
        yield lambda picture, is_last: shown.append((picture, is_last))

    monkeypatch.setattr("zoo.enjoy.why_no_window", lambda: None)
    monkeypatch.setitem(sys.modules, "zoo.watching.window", SimpleNamespace(open_window=open_window))
    return shown


def test_where_there_is_a_screen_every_step_is_shown(
    policy: Path, window: list[tuple[Image.Image, bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, said = enjoy(capsys, policy, "--episodes", 2, "--explain")  # mazes are maps then, without a camera
    assert (code, found["episodes"], found["video"]) == (0, 2, None)
    assert [is_last for _, is_last in window] == ([False] * 12 + [True]) * 2
    assert len({picture.tobytes() for picture, _ in window}) == 26
    assert "shown in a window; close it, or press Esc or q, to stop" in said


def test_a_maze_is_recorded_without_a_camera(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, said = enjoy(capsys, policy, "--episodes", 2, "--video", tmp_path / "maze.gif")
    assert (code, found["episodes"], found["video"]) == (0, 2, str(tmp_path / "maze.gif"))
    assert "so the maze is shown as a map; for pictures, install EGL" in " ".join(said)
    with Image.open(tmp_path / "maze.gif") as image:
        assert (image.size, image.n_frames > 10) == ((480, 544), True)


def test_a_grid_plays_as_many_episodes_as_it_shows(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, _ = enjoy(capsys, policy, "--grid", "2x3", "--every", 6, "--video", tmp_path / "maze.gif")
    assert (code, found["episodes"]) == (0, 6)
    with Image.open(tmp_path / "maze.gif") as image:
        assert image.size == (3 * 256 + 8, 2 * 288 + 4 + 32)


def test_thoughts_are_recorded_in_mp4_too(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, _ = enjoy(capsys, policy, "--episodes", 1, "--explain", "--video", tmp_path / "maze.mp4")
    assert code == 0
    assert (tmp_path / "maze.mp4").stat().st_size > 10_000


def save_swimmer(folder: Path) -> Path:
    """Save a policy for an environment of MuJoCo that is no maze."""
    about = {"env": "Swimmer-v5", "protocol": {"env_kwargs": {"max_episode_steps": 5}}}
    tiny_model("qam", make_env("Swimmer-v5"), seed=3).save_policy(folder / "policy.safetensors", about)
    return folder / "policy.safetensors"


def test_what_is_no_maze_needs_a_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = enjoy(capsys, save_swimmer(tmp_path), "--video", tmp_path / "swimmer.gif")
    assert code == 2
    assert "MuJoCo can draw nothing here, and Swimmer-v5 is no maze; install EGL" in said[-1]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--explain"], "`--explain` says what is shown, but no window can be opened: there is no screen"),
        (["--every", "3", "--no-render"], "`--every` says what is shown; leave out --no-render, or add --video FILE"),
        (["--grid", "2x2", "--explain", "--video", "a.gif"], "`--explain` shows one episode at a time"),
        (["--video", "a.avi"], "`--video` must end in .mp4 or .gif, got a.avi"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    words: list[str], text: str, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, said = enjoy(capsys, policy, *words)
    assert code == 2
    assert text in said[-1]


def record_elsewhere(policy: Path, video: Path, *words: str) -> int:
    """Record in another process, with what draws there; return how many colours the picture has."""
    command = [sys.executable, str(ROOT / "zoo" / "enjoy.py"), str(policy), "--video", str(video), *words]
    kept = {name: value for name, value in os.environ.items() if name != rendering.VARIABLE}
    ran = subprocess.run([*command, "--episodes", "1", "--every", "6"], env=kept, capture_output=True, text=True)
    if "MuJoCo can draw nothing here" in ran.stderr:
        pytest.skip("needs EGL, OSMesa or a screen")
    assert ran.returncode == 0, ran.stderr
    assert "pictures are drawn with " in ran.stderr
    with Image.open(video) as image:
        return len(image.convert("RGB").getcolors(1 << 20) or [])


@pytest.mark.slow
def test_the_camera_is_used_where_there_is_one(policy: Path, tmp_path: Path) -> None:
    assert record_elsewhere(policy, tmp_path / "maze.gif") > 100  # shades, which a map has few of


@pytest.mark.slow
def test_thoughts_stand_beside_the_cameras_picture(tmp_path: Path) -> None:
    assert record_elsewhere(save_swimmer(tmp_path), tmp_path / "swimmer.gif", "--explain") > 100
