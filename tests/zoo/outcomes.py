"""Results and messages of programs and functions that a test calls."""

import json
from pathlib import Path

import pytest
import yaml

from zoo.terminal.errors import UsageError


def call(capsys, program, *words, code=0):
    """Run a program that exits with some code; return its last printed result, if any, and its messages."""
    exit_code = program([str(word) for word in words])
    output = capsys.readouterr()
    assert exit_code == code, output.err
    last = output.out.strip().rpartition("\n")[2]
    return json.loads(last) if last.startswith("{") else {}, output.err


def refused(call, program, *words):
    """Return a program's error message about its arguments; nothing is trained, and no file or folder is created."""
    logs = Path("logs")
    if "-f" in words:
        logs = Path(words[words.index("-f") + 1])
    entries = logs.exists(), sorted(logs.rglob("*"))
    _, errors = call(program, *words, code=2)
    assert (logs.exists(), sorted(logs.rglob("*"))) == entries
    return errors


def refuses(text):
    """Expect the block to raise a UsageError with a message that matches a pattern."""
    return pytest.raises(UsageError, match=text)


def status_of(folder):
    return json.loads(Path(folder, "status.json").read_text())


def change_status(folder, **entries):
    Path(folder, "status.json").write_text(json.dumps(status_of(folder) | entries))


def config_of(folder):
    return yaml.safe_load(Path(folder, "config.yml").read_text())
