"""Agents in files of their own, as a user has them."""

import pytest


@pytest.fixture
def write_agent(own_agents, tmp_path, monkeypatch):
    """Return what writes an agent's code into the current folder and returns its name; all is forgotten afterwards."""

    def write(code):
        (tmp_path / "an_agent.py").write_text(code)
        return "an_agent:WeightedBC"

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return write
