"""Every command of docs/play.md, unchanged except for fewer episodes, the page's example, and saving a policy."""

import sys
from functools import partial

import gymnasium
import imageio.v2 as imageio
import numpy as np
import pytest

import agents
from docs.examples import explain
from tests import code_blocks
from tests.docs.commands import commands_run_by, program_of
from tests.zoo.models.conftest import ENV, maze_model, save_run
from zoo.envs.rendering import choose_platform


@pytest.fixture(autouse=True)
def _logs(tmp_path, monkeypatch):
    """Run in a folder with two runs and a saved model."""
    model = maze_model(seed=3)
    for _ in range(2):
        model.save(save_run(tmp_path / "logs", model).best_model)
    model.save(tmp_path / "model.zip")
    monkeypatch.chdir(tmp_path)


COMMANDS = commands_run_by("test_a_command_of_the_page_runs").values()
VIDEOS = [pytest.param(words, marks=pytest.mark.slow) for words in COMMANDS if "--video" in words]


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if "--video" not in words] + VIDEOS, ids=" ".join
)
def test_a_command_of_the_page_runs(words, tmp_path):
    program, arguments = program_of([*words, "--episodes", "1"])
    if "--video" in words and choose_platform() is None:
        pytest.skip("needs MUJOCO_GL=egl or osmesa")
    assert program.main(arguments) == 0
    if "--video" in words:
        with imageio.get_reader(tmp_path / words[words.index("--video") + 1]) as reader:
            # what the camera sees has many colours
            assert len(np.unique(reader.get_data(0))) > 50


def test_the_snippet_that_saves_a_policy_runs():
    (snippet,) = (code for code in code_blocks("docs/deploy.md", "python") if "save_policy" in code)
    # the snippet uses an observation that the page does not define
    names = {"observation": np.zeros(maze_model().observation_space.shape)}
    exec(snippet, names)  # the snippet defines more names
    assert names["action"].shape == (2,)
    assert agents.load_policy("policy.safetensors").seeds == [3]
    assert ENV in snippet


def test_the_example_draws_an_episode(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gymnasium, "make", partial(gymnasium.make, max_episode_steps=12))
    monkeypatch.setattr(explain, "STEPS_BETWEEN_PICTURES", 100)  # drawing is slow
    monkeypatch.setattr(sys, "argv", ["explain.py", str(tmp_path / "qam.gif")])
    explain.main()
    assert "step 12: failure" in capsys.readouterr().out
    assert (tmp_path / "qam.gif").stat().st_size > 1000
