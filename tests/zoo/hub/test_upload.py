"""A model card shows texts of a run as they are, and says nothing of the machine that trained it."""

import pytest

from tests.zoo.models.conftest import ENV, model, write_run
from zoo.models.agent import agent_of_file, agent_of_run, find_trained
from zoo.models.upload import Origin, model_card, origin_of, without_folders, write_files

__all__ = ["model"]


def card_of(**origin):
    agent = agent_of_file(find_trained("bc", ENV), None, "cpu")
    return model_card(agent, Origin(**{"config": {}, "versions": {}, **origin}), agent.stated, "me/bc", licence="mit")


@pytest.mark.parametrize("text", ["<img src=x>", "![x](http://x)", "`<b>`", "a | b", "a\n# b"])
def test_texts_of_a_run_are_neither_html_nor_markdown(text):
    for origin in (
        {"config": {"dataset": {"name": text}}},
        {"config": {"profile": text, "offline_steps": 1}},
        {"versions": {"packages": {"torch": text}}},
    ):
        assert text not in card_of(**origin).replace(
            f"profile `{text.replace('`', '')}`", ""
        )  # as code it is shown as it is


def test_a_command_stays_in_its_block():
    command = "zoo train --label '\n```\n<img src=x>\n````'"
    assert f"`````text\n{command}\n`````" in card_of(command=command)
    assert "\n````yaml\n" in card_of(config={"settings": {"name": "```"}})


def test_the_card_cites_the_paper_and_names_the_commit():
    card = card_of(versions={"packages": {"torch": "2"}, "git_commit": "abc-dirty"})
    assert "Lipman et al., [arXiv 2210.02747](https://arxiv.org/abs/2210.02747)" in card
    assert "torch 2, commit abc-dirty (`versions.json`)" in card


def test_a_video_in_the_run_folder_is_uploaded(tmp_path, model):
    run = write_run(tmp_path, model)
    (run.path / "versions.json").write_text("{}")
    (run.path / "replay.mp4").write_bytes(b"film")
    agent = agent_of_file(find_trained("bc", ENV), None, "cpu")
    origin = origin_of(agent_of_run(run.path, "cpu"))
    (folder := tmp_path / "files").mkdir()
    write_files(agent, origin, folder, licence="mit")
    assert (folder / "replay.mp4").read_bytes() == b"film"
    assert "[`replay.mp4`](replay.mp4)" in card_of(video=origin.video)
    assert "replay" not in card_of()


def test_folders_of_the_machine_are_left_out(tmp_path, model):
    run = write_run(tmp_path, model, pretrained_actor={"path": "/home/me/logs/bc_1.zip", "updates": 1})
    (run.path / "versions.json").write_text("{}")
    words = "-f '/home/my logs' --dataset=/data/a.npz -i/b"
    for program in ("/home/me/.venv/bin/zoo train", "zoo/train.py", "/home/me/repo/zoo/train.py"):
        (run.path / "command.txt").write_text(f"/home/me/.venv/bin/python {program} {words}")
        origin = origin_of(agent_of_run(run.path, "cpu"))
        assert origin.command == "zoo train -f 'my logs' --dataset=a.npz -ib"
    assert origin.config["pretrained_actor"]["path"] == "bc_1.zip"
    kept = ["hf://a/b", "https://a.b/c/d", "my_ns/Env-v0", "logs/bc", "a / b"]
    assert without_folders(kept) == kept
