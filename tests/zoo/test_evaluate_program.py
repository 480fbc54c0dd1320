"""Agents are played: evaluated by the protocol, called reproduced only where they are, shown and recorded."""

import contextlib
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from PIL import Image

from tests import ROOT
from tests.common.toys import tiny_model
from tests.zoo.helpers import arguments
from tests.zoo.models.conftest import ENV, save_policy
from zoo import evaluate, train
from zoo.enjoy import main
from zoo.envs import rendering
from zoo.envs.make import make_env
from zoo.models.score import Score


@pytest.mark.parametrize(
    ("flags", "kind", "expected"),
    [
        ("--success-return -1e9", "success by return", 1.0),
        ("--score return --reference-scores -100,0", "return", None),
    ],
)
def test_a_run_is_scored_as_it_was_in_training(flags, kind, expected, data, tmp_path, call):
    trained, _ = call(train.main, *arguments(data, tmp_path, *flags.split()))
    result, messages = call(evaluate.main, trained["run"])
    assert (trained["success"], trained["return"]) == (expected, result["return"])
    assert f"in {ENV}: {kind} " in messages
    assert result[kind] == (result["return"] if expected is None else expected)
    normalised = None if expected is not None else pytest.approx(result["return"] / 100 + 1)
    assert result["normalised return"] == normalised


@pytest.mark.parametrize("is_in_file", [False, True])
@pytest.mark.parametrize(("low", "high", "code"), [(0.0, 0.4, 0), (0.1, 1.0, 1)])
def test_a_score_is_reproduced_only_inside_its_interval(
    is_in_file, low, high, code, tmp_path, call
):
    about = {"score": vars(Score("success", high, low, high, 2))} if is_in_file else {}
    words = () if is_in_file else ("--interval", low, high)
    result, messages = call(evaluate.main, save_policy(tmp_path, **about), *words, code=code)
    assert result["reproduced"] == (code == 0)
    assert result["stated"] == [low, high]
    assert ("; not reproduced: " in messages) == (code == 1)


def test_another_protocol_is_compared_with_no_score(tmp_path, call, refusal):
    path = save_policy(tmp_path, score=vars(Score("success", 0.9, 0.6, 1.0, 2)))
    result, messages = call(evaluate.main, path, "--episodes", 1)
    assert result["episodes"] == 1
    assert "reproduced" not in result
    assert "not compared, because this is not its protocol" in messages
    reason = refusal(evaluate.main, *f"{path} --seed 4 --interval 0 1".split())
    assert "`--interval` belongs to a score under the protocol" in reason


@pytest.mark.parametrize(
    ("words", "text"),
    {
        "--algo qam": "expected a MODEL, or --algo and --env",
        "model.zip --load-best": "choose among the models of a run; give a run's folder",
        "model.zip --load-checkpoint 0": "choose among the models of a run; give a run's folder",
        "POLICY --interval 90 100": "`--interval` must be two numbers from 0 to 1",
    }.items(),
)
def test_a_wrong_command_line_is_refused(words, text, tmp_path, refusal):
    words = words.replace("POLICY", str(save_policy(tmp_path))).split()
    assert text in refusal(evaluate.main, *words)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    protocol = {"episodes": 9, "env_kwargs": {"max_episode_steps": 4}}
    return save_policy(tmp_path_factory.mktemp("policy"), protocol=protocol)


@pytest.fixture(autouse=True)
def _no_platform(monkeypatch):
    """Let MuJoCo draw nothing, which it can only in processes that have not imported it."""
    monkeypatch.setattr(rendering, "_works", lambda name: False)


def test_five_episodes_are_played_and_each_is_told(policy, call):
    result, messages = call(main, policy)
    assert result["episodes"] == 5
    assert result["success"] == 0.0
    assert result["video"] is None
    lines = [line for line in messages.splitlines() if line.startswith("episode ")]
    assert lines == [f"episode {number}: failure, 4 steps, return -4.0" for number in range(1, 6)]
    assert messages.endswith("\nsuccess 0.0% [0.0, 43.4] over 5 episodes\n")


@pytest.fixture
def window(monkeypatch):
    """Stand in for a screen; return what is shown in its window."""
    shown = []

    @contextlib.contextmanager
    def open_window(title):
        assert title == f"qam in {ENV}"
        yield lambda picture, is_last: shown.append((picture, is_last))

    monkeypatch.setattr("zoo.enjoy.why_no_window", lambda: None)
    monkeypatch.setitem(
        sys.modules, "zoo.watching.window", SimpleNamespace(open_window=open_window)
    )
    return shown


def test_where_there_is_a_screen_every_step_is_shown(policy, window, call):
    # mazes are maps then, without a camera
    result, _ = call(main, policy, "--episodes", 1, "--explain")
    assert result["episodes"] == 1
    assert result["video"] is None
    assert [is_last for _, is_last in window] == [False] * 4 + [True]
    assert len({picture.tobytes() for picture, _ in window}) == 5


def test_a_maze_is_recorded_without_a_camera(policy, tmp_path, call):
    result, messages = call(main, *f"{policy} --episodes 2 --video {tmp_path / 'maze.gif'}".split())
    assert result["episodes"] == 2
    assert result["video"] == str(tmp_path / "maze.gif")
    assert "so the maze is shown as a map; for pictures, install EGL" in " ".join(messages.split())
    with Image.open(tmp_path / "maze.gif") as image:
        assert image.size == (480, 544)
        assert image.n_frames > 4


def save_swimmer(folder):
    """Save a policy for an environment of MuJoCo that is no maze."""
    protocol = {"env_kwargs": {"max_episode_steps": 5}}
    model = tiny_model("qam", make_env("Swimmer-v5"), seed=3)
    return save_policy(folder, model, env="Swimmer-v5", protocol=protocol)


def test_what_is_no_maze_needs_a_camera(tmp_path, refusal):
    assert "MuJoCo can draw nothing here, and Swimmer-v5 is no maze; install EGL" in refusal(
        main, save_swimmer(tmp_path), "--video", tmp_path / "swimmer.gif"
    )


@pytest.mark.parametrize(
    ("words", "text"),
    {
        "--explain": "no window is opened: there is no screen",
        "--every 3 --no-render": "no window is opened: --no-render is given",
        "--grid 2x2 --explain --video a.gif": "`--explain` shows one episode at a time",
        "--video a.avi": "`--video` must end in .mp4 or .gif",
    }.items(),
)
def test_what_cannot_be_shown_is_refused(words, text, policy, refusal):
    assert text in refusal(main, policy, *words.split())


def record_elsewhere(policy, video, *words):
    """Record in another process, with what draws there; return how many colours the picture has."""
    line = f"{ROOT / 'zoo' / 'enjoy.py'} {policy} --video {video} --episodes 1 --every 6"
    environment = {name: value for name, value in os.environ.items() if name != rendering.VARIABLE}
    command = [sys.executable, *line.split(), *words]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    if "no MuJoCo rendering backend" in ran.stderr:
        pytest.skip("needs EGL, OSMesa or a screen")
    assert ran.returncode == 0, ran.stderr
    with Image.open(video) as image:
        return len(image.convert("RGB").getcolors(1 << 20) or [])


@pytest.mark.slow
def test_the_camera_is_used_where_there_is_one_also_beside_thoughts(policy, tmp_path):
    assert record_elsewhere(policy, tmp_path / "maze.gif") > 100  # shades, which a map has few of
    assert record_elsewhere(save_swimmer(tmp_path), tmp_path / "swimmer.gif", "--explain") > 100
