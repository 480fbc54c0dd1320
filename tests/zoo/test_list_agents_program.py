"""The program that shows the algorithms."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

import pytest

import agents
from zoo.baselines import algorithm_ids, find_algorithm, settings_of
from zoo.list_agents import main

ROOT = Path(__file__).parents[2]


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
    assert list(profiles) == ["qam", "trqam", "mini"]
    assert profiles["qam"]["default"]["gamma"] == 0.99
    assert "quick" not in profiles["qam"]
    shown = profiles["trqam"]["cube-triple-play"]
    assert (shown["dataset_size"], shown["kl_budget"], shown["status"]) == (10_000_000, 0.5, "published")


def test_a_baseline_is_shown_as_one_with_its_own_and_sb3s_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "sac"]) == 0
    captured = capsys.readouterr()
    assert "Soft Actor-Critic" in captured.err
    assert "SB3 baseline, online" in " ".join(captured.err.split())
    shown = json.loads(captured.out)["settings"]
    assert shown["gamma"]["type"] == "float"
    assert shown["learning_rate"]["default"] == 3e-4
    assert shown["noise_std"]["default"] == 0.0


def in_a_terminal(columns: int, *words: str) -> list[str]:
    """Run the program in a terminal of its own, and return the lines on it without colours."""
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, "zoo/list_agents.py", *words], environment | {"TERM": "xterm"})
    shown = b""
    with contextlib.suppress(OSError):  # the terminal is gone when the program is
        while part := os.read(terminal, 65536):
            shown += part
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).splitlines()


@pytest.mark.slow
def test_a_terminal_shows_tables_as_wide_as_it_is_and_no_json() -> None:
    lines = in_a_terminal(120, "show", "qam")
    rules = [line.rstrip() for line in lines if "──" in line]
    assert len(rules) > 1
    assert {len(rule) for rule in rules} == {119}
    assert max(map(len, lines)) <= 120
    assert not any(line.startswith("{") for line in lines)


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_no_name_in_a_table_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["show", "trqam"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    first = {line.split()[0] for line in captured.err.splitlines() if line.startswith(" ") and line.split()}
    assert set(found["settings"]) <= first
    for profile in found["profiles"].values():
        assert set(profile) <= first
        for entry in profile.values():
            for name in set(entry) - {"source", "status"}:
                assert f" {name}={str(entry[name]).replace(' ', '')}" in captured.err


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


def test_a_summary_is_free_of_markup(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "qam"]) == 0
    text = capsys.readouterr().err
    for mark in (":math:", ".. math::", "`"):
        assert mark not in text
