"""The program that shows the algorithms."""

from __future__ import annotations

import json

import pytest

import agents
from zoo.agents import main


def result(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_list_names_every_algorithm(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert set(result(capsys)["algorithms"]) == set(agents.algorithm_ids())


@pytest.mark.parametrize("algo", agents.algorithm_ids())
def test_every_setting_has_a_meaning(algo: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", algo]) == 0
    settings = result(capsys)["settings"]
    assert set(settings) == set(agents.registry.settings_of(agents.get(algo).algorithm))
    assert [name for name, row in settings.items() if not row["meaning"]] == []


def test_an_algorithms_profiles_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "trqam"]) == 0
    output = capsys.readouterr()
    assert "--profile trqam" in output.err
    profiles = json.loads(output.out.strip().splitlines()[-1])["profiles"]
    assert list(profiles) == ["qam", "trqam"]
    assert profiles["qam"]["default"]["gamma"] == 0.99
    assert "quick" not in profiles["qam"]
    shown = profiles["trqam"]["cube-triple-play"]
    assert (shown["dataset_size"], shown["kl_budget"], shown["status"]) == (10_000_000, 0.5, "published")


def test_an_unknown_algorithm_names_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "qamm"]) == 2
    assert "closest: qam" in capsys.readouterr().err
