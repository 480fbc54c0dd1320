"""What came of a program that a test has called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.train import main


def call(
    capsys: pytest.CaptureFixture[str], program: Callable[[list[str]], int], *words: object
) -> tuple[int, dict[str, Any], str]:
    """Run a program; return its exit code, the result that it printed last if it has one, and what it said."""
    code = program([str(word) for word in words])
    output = capsys.readouterr()
    lines = output.out.strip().splitlines() if code in (0, 1) else []
    return code, json.loads(lines[-1]) if lines else {}, output.err


def result_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the result that a program printed last."""
    result: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return result


def refusal(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Return what the training program says about a command line; nothing is trained, and no run folder made."""
    assert main(arguments) == 2
    logs = Path(arguments[arguments.index("-f") + 1])
    assert not list(logs.rglob("status.json"))
    return capsys.readouterr().err
