"""Package templates for new agents."""

import importlib
import tomllib
from pathlib import Path

import pytest

from agents.testing.kit import run_checks
from zoo.list_agents import main


@pytest.mark.usefixtures("own_agents")
def test_a_package_has_sound_agent_settings_test_and_entry_point(tmp_path, monkeypatch, call):
    result, _ = call(main, "new", "zoo_test_agent", "--folder", tmp_path)
    folder, entry = Path(result["folder"]), "zoo_test_agent:ZooTestAgent"
    assert sorted(result["files"]) == sorted(path.name for path in folder.iterdir())
    assert result["algo"] == entry
    monkeypatch.syspath_prepend(folder)
    method = importlib.import_module("zoo_test_agent").ZooTestAgent
    # the skipped checks compile, or train until an agent has learned something
    outcomes = list(run_checks(method, skip=["compiled", "values", "actions"]))
    assert {outcome.state for outcome in outcomes} == {"holds", "skipped"}
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "zoo-test-agent"
    assert project["entry-points"]["flow_rl_zoo.agents"] == {"zoo_test_agent": entry}
    assert f'@pytest.mark.agent("{entry}")' in (folder / "test_zoo_test_agent.py").read_text()
    command = "zoo train --algo zoo_test_agent -conf zoo_test_agent.yml"
    assert command in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    {
        "../agent": "lower case",
        "json": "my_json",
        "class": "lower case",
        "bptt": "the name of an algorithm",
        "my_agent --folder nowhere": "nowhere",
        "my_agent": "my_agent exists",
    }.items(),
)
def test_what_cannot_be_written_is_refused_before_anything_is(
    words, message, tmp_path, monkeypatch, refusal
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_agent").mkdir()
    assert message in refusal(main, "new", *words.split())
    assert list(tmp_path.rglob("*")) == [tmp_path / "my_agent"]
