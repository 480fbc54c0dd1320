"""What came of a program that a test has called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., tuple[int, dict[str, Any], str]]
"""The fixture `call`: what `call` below does, without `capsys`."""
Refusal = Callable[..., str]
"""The fixture `refusal`: what `refused` does, without `call`."""


def call(
    capsys: pytest.CaptureFixture[str], program: Callable[[list[str]], int], *words: object
) -> tuple[int, dict[str, Any], str]:
    """Run a program; return its exit code, the result that it printed last if it has one, and what it said."""
    code = program([str(word) for word in words])
    output = capsys.readouterr()
    last = output.out.strip().rpartition("\n")[2]
    return code, json.loads(last) if last.startswith("{") else {}, output.err


def refused(call: Call, program: Callable[[list[str]], int], *words: object) -> str:
    """Return what a program says about a command line; nothing is trained, and no run folder made."""
    code, _, said = call(program, *words)
    assert code == 2, said
    logs = Path(str(words[words.index("-f") + 1]))
    assert not list(logs.rglob("status.json"))
    return said
