"""What is uploaded says how an agent was made, and nothing of the machine that trained it."""

import pytest
import yaml

from tests.zoo.models.conftest import ENV, model, write_run
from zoo.models import upload
from zoo.models.agent import agent_of_file, agent_of_run, find_trained
from zoo.models.score import Score

__all__ = ["model"]


@pytest.fixture
def run(tmp_path, model, monkeypatch):
    """Return a run, which is not played for its score."""
    monkeypatch.setattr(
        upload, "play", lambda agent, n_envs: (None, Score("success", 0.5, 0.2, 0.8, 4))
    )
    run = write_run(
        tmp_path, model, pretrained_actor={"path": "/home/Jane Doe/logs/bc_1.zip", "updates": 1}
    )
    (run.path / "versions.json").write_text(
        '{"packages": {"torch": "2"}, "git_commit": "abc-dirty"}'
    )
    return run


def uploaded(agent, folder):
    folder.mkdir()
    upload.write_upload(agent, folder, "me/agent")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_card_cites_the_paper_and_names_the_software(run, tmp_path):
    card = uploaded(agent_of_file(find_trained("bc", ENV), None, "cpu"), tmp_path / "bc")[
        "README.md"
    ].decode()
    assert "Lipman et al., https://arxiv.org/abs/2210.02747" in card
    card = uploaded(agent_of_run(run.path, "cpu"), tmp_path / "card")["README.md"].decode()
    assert "torch 2, commit abc-dirty" in card
    assert "replay" not in card


def test_a_video_in_the_run_folder_is_uploaded(run, tmp_path):
    (run.path / "replay.mp4").write_bytes(b"film")
    files = uploaded(agent_of_run(run.path, "cpu"), tmp_path / "files")
    assert files["replay.mp4"] == b"film"
    assert "[`replay.mp4`](replay.mp4)" in files["README.md"].decode()


def test_folders_of_the_machine_are_left_out(run, tmp_path):
    words = "--algo qam -f '/home/Jane Doe/the logs' --dataset=/data/a.npz --track https://a.b/c/d"
    (run.path / "command.txt").write_text(
        f"/home/me/.venv/bin/python /home/me/.venv/bin/zoo train {words}"
    )
    files = uploaded(agent_of_run(run.path, "cpu"), tmp_path / "files")
    command = "python zoo train --algo qam -f 'the logs' --dataset=a.npz --track https://a.b/c/d"
    assert files["command.txt"].decode() == f"{command}\n"
    assert command in files["README.md"].decode()
    assert yaml.safe_load(files["config.yml"])["pretrained_actor"]["path"] == "bc_1.zip"
