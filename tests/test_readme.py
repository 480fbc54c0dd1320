"""The README's code runs unchanged."""

import re

import pytest

from tests import ROOT, code_blocks
from zoo import list_agents


def test_the_snippet_is_short_and_runs_with_a_progress_bar(tmp_path, monkeypatch, capsys):
    (snippet,) = code_blocks("README.md", "python")
    assert len(snippet.splitlines()) <= 22
    small = (
        snippet.replace("1_000", "30")
        .replace("100_000", "1_000")
        .replace('task1-v0")', 'task1-v0", max_episode_steps=20)')
    )
    monkeypatch.chdir(tmp_path)
    exec(small, {})
    ran = capsys.readouterr()
    assert "30/30" in ran.out + ran.err  # printed by SB3's progress bar
    assert re.search(r"^success [01]\.0$", ran.out, flags=re.MULTILINE)


def test_it_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 700


@pytest.mark.usefixtures("own_agents")
def test_its_own_agent_is_an_agent(tmp_path, monkeypatch, capsys):
    (code,) = code_blocks("README.md", "py\n# my_agent.py")
    assert len(code.splitlines()) <= 26
    (tmp_path / "my_agent.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    assert list_agents.main(["check", "my_agent:MyBC", "--skip", "compiled"]) == 0, (
        capsys.readouterr().err
    )
