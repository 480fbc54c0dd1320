"""What is uploaded says how an agent was made, and nothing of the machine that trained it."""

import pytest
import yaml

from tests.zoo.models.conftest import ENV, maze_model, save_run
from zoo.models import upload
from zoo.models.agent import agent_of_file, agent_of_run, find_trained
from zoo.models.score import Score


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return the folder of a run, which is not played for its score."""
    score = Score("success", 0.5, 0.2, 0.8, 4)
    monkeypatch.setattr(upload, "play", lambda agent, n_envs: (None, score))
    clone = {"path": "/home/Jane Doe/logs/bc_1.zip", "updates": 1}
    run = save_run(tmp_path, maze_model(seed=3), pretrained_actor=clone).path
    (run / "versions.json").write_text('{"packages": {"torch": "2"}, "git_commit": "abc-dirty"}')
    return run


def uploaded(agent, tmp_path):
    """Return name -> text of the files that are uploaded for an agent."""
    folder = tmp_path / "files"
    folder.mkdir()
    upload.write_upload(agent, folder, "me/agent")
    # weights are no text
    return {path.name: path.read_text(errors="replace") for path in folder.iterdir()}


def test_the_card_cites_the_paper(tmp_path):
    files = uploaded(agent_of_file(find_trained("bc", ENV), None, "cpu"), tmp_path)
    assert "Lipman et al., https://arxiv.org/abs/2210.02747" in files["README.md"]


@pytest.mark.parametrize("has_video", [False, True])
def test_the_card_names_the_software_and_a_video_that_is_uploaded(run, tmp_path, has_video):
    if has_video:
        (run / "replay.mp4").write_text("film")
    files = uploaded(agent_of_run(run, "cpu"), tmp_path)
    assert "torch 2, commit abc-dirty" in files["README.md"]
    assert files.get("replay.mp4") == ("film" if has_video else None)
    assert ("[`replay.mp4`](replay.mp4)" in files["README.md"]) == has_video


def test_folders_of_the_machine_are_left_out(run, tmp_path):
    words = "--algo qam -f '/home/Jane Doe/the logs' --dataset=/data/a.npz --track https://a.b/c/d"
    programs = "/home/me/.venv/bin/python /home/me/.venv/bin/zoo"
    (run / "command.txt").write_text(f"{programs} train {words}")
    files = uploaded(agent_of_run(run, "cpu"), tmp_path)
    command = "python zoo train --algo qam -f 'the logs' --dataset=a.npz --track https://a.b/c/d"
    assert files["command.txt"] == f"{command}\n"
    assert command in files["README.md"]
    assert yaml.safe_load(files["config.yml"])["pretrained_actor"]["path"] == "bc_1.zip"
