"""Every shipped settings file."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import agents
from zoo.cli import UsageError
from zoo.config import STATUSES, load_config, read_hyperparameters
from zoo.datasets.names import DATASETS

ENTRIES = [(algo, name) for algo in agents.algorithm_ids() for name in read_hyperparameters(algo)]
DOMAINS = {f"{spec.environment}-{spec.kind}" for spec in DATASETS.values()}
PAPER_DOMAINS = {
    "puzzle-3x3-play",
    "scene-play",
    "cube-double-play",
    "cube-triple-play",
    "cube-quadruple-play",
    "puzzle-4x4-play",
    "antmaze-large-navigate",
    "antmaze-giant-navigate",
    "humanoidmaze-medium-navigate",
    "humanoidmaze-large-navigate",
}


@pytest.mark.parametrize("algo", agents.algorithm_ids())
def test_every_algorithm_ships_default_and_quick_settings(algo: str) -> None:
    assert {"default", "quick"} <= set(read_hyperparameters(algo))


@pytest.mark.parametrize(("algo", "name"), ENTRIES)
def test_every_entry_names_its_source_and_status(algo: str, name: str) -> None:
    entry = read_hyperparameters(algo)[name]
    assert entry["source"]
    assert entry["status"] in STATUSES


@pytest.mark.parametrize(("algo", "name"), ENTRIES)
def test_every_entry_builds_and_building_does_not_change_it(algo: str, name: str) -> None:
    entry = {k: v for k, v in read_hyperparameters(algo)[name].items() if k not in ("source", "status")}
    before = copy.deepcopy(entry)
    config = load_config(algo, name, name if name in DOMAINS else None, quick=name == "quick")
    effective: dict[str, Any] = {**vars(config.run), **config.settings}
    assert entry == before
    for key, value in entry.items():
        assert effective[key] == value, key


@pytest.mark.parametrize(("algo", "name"), ENTRIES)
def test_every_entry_is_reachable(algo: str, name: str) -> None:
    assert name in {"default", "quick"} | DOMAINS


def test_qam_has_the_ten_domains_of_its_paper() -> None:
    assert set(read_hyperparameters("qam")) >= PAPER_DOMAINS


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("puzzle-4x4-play", {"inverse_temperature": 30.0, "sparse": True, "horizon_length": 5, "gamma": 0.99}),
        ("antmaze-giant-navigate", {"inverse_temperature": 3.0, "horizon_length": 1, "gamma": 0.995, "rho": 0.5}),
        ("humanoidmaze-large-navigate", {"inverse_temperature": 3.0, "horizon_length": 1, "rho": 0.0, "gamma": 0.995}),
        ("cube-double-play", {"inverse_temperature": 1.0, "sparse": False, "ensemble_size": 10, "flow_steps": 10}),
    ],
)
def test_qam_uses_the_published_values(domain: str, expected: dict[str, Any]) -> None:
    settings = load_config("qam", f"{domain}-singletask-task1-v0", domain).settings
    assert {name: settings[name] for name in expected} == expected


def test_an_unknown_setting_in_a_file_names_the_closest(tmp_path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("default: {inverse_temprature: 3}\n")
    with pytest.raises(UsageError, match="closest: inverse_temperature"):
        load_config("qam", "any", conf=path)
