"""What every program's command line has in common."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zoo.cli import PROGRAMS, main, run_program, signals_deferred
from zoo.completion import actions_of
from zoo.errors import BAD_INPUT, FAILED, INTERRUPTED, UsageError
from zoo.terminal.arguments import module_of, whole_number

ROOT = Path(__file__).parents[2]
COMMANDS = {"dataset": ("list", "generate", "download"), "agents": ("list", "show"), "published": ("list",)}
USES = [(program, *command) for program in PROGRAMS for command in ((), *((c,) for c in COMMANDS.get(program, ())))]


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit, match="0"):
        main([*words, "-h"])
    return capsys.readouterr().out


@pytest.fixture(params=PROGRAMS)
def refuse(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what runs a program with a bad command line, and returns what it says about it."""
    program = importlib.import_module(f"zoo.{module_of(request.param)}")
    command = COMMANDS.get(request.param, ())[:1]

    def refused(*words: str) -> str:
        with pytest.raises(SystemExit) as ending:
            program.main([*command, *words])
        assert ending.value.code == BAD_INPUT
        return capsys.readouterr().err

    return refused


def test_every_program_names_the_closest_flag(refuse: Callable[..., str]) -> None:
    assert "unknown flag --hepl; closest: --help" in refuse("--hepl")


@pytest.mark.parametrize("words", USES, ids=" ".join)
def test_a_program_is_called_what_it_was_called_by(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_of(words[0])
    for called, name in ((f"zoo/{module}.py", f"{module}.py"), ("/usr/bin/zoo", f"zoo {words[0]}")):
        monkeypatch.setattr(sys, "argv", [called])
        assert help_of(capsys, *words).startswith(f"usage: {' '.join([name, *words[1:]])} [-h]")


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_answers_within_a_second_without_importing_pytorch(program: str) -> None:
    file = f"{module_of(program)}.py"
    command = [sys.executable, "-X", "importtime", f"zoo/{file}", "-h"]
    begin = time.monotonic()
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert time.monotonic() - begin < 1 + float(os.getloadavg()[0])  # more where others want the cores
    assert found.stdout.startswith(f"usage: {file} ")
    imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    assert "zoo.terminal.arguments" in imported
    assert not imported & {"torch", "optuna"}


@pytest.mark.parametrize("text", ["1.5", "ten", "", "nan", "inf"])
def test_what_is_not_a_whole_number_is_refused(text: str) -> None:
    assert [whole_number(good) for good in ("7", "-1", "1e5", "100_000")] == [7, -1, 100_000, 100_000]
    with pytest.raises(argparse.ArgumentTypeError, match=r"expected a whole number, e\.g\. 1000, .* got "):
        whole_number(text)


OPTIONS = [
    action
    for name in PROGRAMS
    for action in actions_of(importlib.import_module(f"zoo.{module_of(name)}").make_parser())
]


def test_every_number_and_path_of_a_command_line_has_bounds() -> None:
    assert [action.dest for action in OPTIONS if action.type in (int, float, Path, whole_number)] == []


def test_the_version_and_what_there_is_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"flow-rl-zoo \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)
    assert main(["list", "--json"]) == 0
    assert "qam" in json.loads(capsys.readouterr().out)["algorithms"]


def test_an_unknown_program_names_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tarin"]) == BAD_INPUT
    assert "unknown program `tarin`; closest: train" in capsys.readouterr().err


def failing(error: BaseException) -> Callable[[], dict[str, object]]:
    def body() -> dict[str, object]:
        raise error

    return body


def test_the_traceback_of_an_unexpected_failure_is_shown_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program(failing(ArithmeticError("broke")), verbose=1) == FAILED
    assert capsys.readouterr().err == "ArithmeticError: broke (run with --verbose 2 for the traceback)\n"
    assert run_program(failing(ArithmeticError("broke")), verbose=2) == FAILED
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):")
    assert shown.endswith("ArithmeticError: broke\n")


@pytest.mark.parametrize("verbose", [0, 1])
def test_why_a_program_ends_is_said_at_every_level(capsys: pytest.CaptureFixture[str], verbose: int) -> None:
    assert run_program(failing(UsageError("a bad word")), verbose) == BAD_INPUT
    assert capsys.readouterr().err == "a bad word\n"


@pytest.mark.parametrize("code", [0, None, 5])
def test_an_exit_inside_a_program_is_a_failure_that_says_where(
    capsys: pytest.CaptureFixture[str], code: int | None
) -> None:
    assert run_program(failing(SystemExit(code))) == FAILED
    shown = capsys.readouterr()
    assert f"SystemExit({code})" in shown.err
    assert "test_cli.py, line " in shown.err
    assert not shown.out


def test_what_standard_output_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", output)
    assert run_program(lambda: print("für")) == 0
    output.flush()
    assert output.buffer.getvalue() == b"f\\xfcr\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_the_end_of_an_import(number: signal.Signals) -> None:
    finished = []

    def body() -> None:
        with signals_deferred():
            os.kill(os.getpid(), number)
            finished.append("import")
        finished.append("more")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore SIGINT
    try:
        assert run_program(body) == INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, before)
    assert finished == ["import"]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COLUMNS", "100")
    return
