"""The program that shows the algorithms."""

from __future__ import annotations

import json

import pytest

import agents
from zoo.agents import main
from zoo.baselines import algorithm_ids, find_algorithm, settings_of


def result(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_list_names_every_algorithm(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    algorithms = result(capsys)["algorithms"]
    assert set(algorithms) == {*agents.algorithm_ids(), "sac", "td3", "tqc", "crossq"}
    assert {id: row["kind"] for id, row in algorithms.items() if id in ("qam", "sac")} == {
        "qam": "offline and online",
        "sac": "SB3 baseline, online",
    }


@pytest.mark.parametrize("algo", algorithm_ids())
def test_every_setting_has_a_meaning(algo: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", algo]) == 0
    settings = result(capsys)["settings"]
    assert set(settings) == set(settings_of(find_algorithm(algo).algorithm))
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
    for typed, meant in (("qamm", "qam"), ("tqcc", "tqc")):
        assert main(["show", typed]) == 2
        assert f"closest: {meant}" in capsys.readouterr().err


def test_a_baseline_is_shown_as_one_with_its_own_and_sb3s_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "sac"]) == 0
    captured = capsys.readouterr()
    assert "Soft Actor-Critic" in captured.err
    assert "SB3 baseline, online" in captured.err
    shown = json.loads(captured.out)["settings"]
    assert shown["gamma"]["type"] == "float"
    assert shown["learning_rate"]["default"] == 3e-4
    assert shown["noise_std"]["default"] == 0.0
