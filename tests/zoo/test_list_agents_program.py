"""The program that shows the algorithms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.baselines import algorithm_ids, find_algorithm, settings_of
from zoo.list_agents import main

ROOT = Path(__file__).parents[2]


def test_list_names_every_algorithm_without_importing_pytorch() -> None:
    command = [sys.executable, "-X", "importtime", "zoo/list_agents.py", "list"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "| torch" not in ran.stderr
    algorithms = json.loads(ran.stdout)["algorithms"]
    entries = {id: find_algorithm(id) for id in algorithm_ids()}
    assert {id: (row["published_name"], row["paper"]) for id, row in algorithms.items()} == {
        id: (entry.published_name, entry.paper) for id, entry in entries.items()
    }
    assert {id: row["kind"] for id, row in algorithms.items() if id in ("qam", "sac")} == {
        "qam": "offline and online",
        "sac": "SB3 baseline, online",
    }


@pytest.mark.parametrize("algo", algorithm_ids())
def test_every_setting_has_a_meaning(algo: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", algo]) == 0
    output = capsys.readouterr()
    assert "\\" not in output.err  # no LaTeX
    settings = json.loads(output.out)["settings"]
    assert set(settings) == set(settings_of(find_algorithm(algo).algorithm))
    assert [name for name, row in settings.items() if not row["meaning"]] == []


def test_an_algorithms_profiles_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "trqam"]) == 0
    output = capsys.readouterr()
    assert "--profile trqam" in output.err
    profiles = json.loads(output.out.strip().splitlines()[-1])["profiles"]
    assert list(profiles) == ["qam", "trqam", "mini"]
    assert profiles["qam"]["default"]["gamma"] == 0.99
    assert "quick" not in profiles["qam"]
    shown = profiles["trqam"]["cube-triple-play"]
    assert (shown["dataset_size"], shown["kl_budget"], shown["status"]) == (10_000_000, 0.5, "published")


@pytest.mark.parametrize("words", [("show", "qam"), ("list",)], ids=" ".join)
def test_json_is_for_other_programs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    assert main(list(words)) == 0
    piped = capsys.readouterr()
    assert main([*words, "--json"]) == 0
    asked = capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(list(words)) == 0
    shown = capsys.readouterr()
    assert json.loads(piped.out) == json.loads(asked.out)
    assert (asked.err, shown.out) == ("", "")
    assert piped.err == shown.err != ""
