"""The page on parity: its commands, word by word, and what it says about the package."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agents.parity import TOLERANCES
from agents.parity.__main__ import main
from agents.parity.adapter import REQUIRED
from tests.agents.parity.conftest import PAGE, blocks

ROOT = PAGE.parents[1]
COMMANDS = [shlex.split(line) for block in blocks("bash") for line in block.splitlines()]


def test_the_page_works_word_by_word(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tests").symlink_to(ROOT / "tests")
    for words in COMMANDS:
        if words[:3] == ["python", "-m", "agents.parity"]:
            assert main(words[3:]) == 0
        else:
            assert words == ["python", "record.py"]
            runpy.run_path(words[1])
    printed = capsys.readouterr().out
    assert "open/fql holds" in printed
    assert "my_agent holds" in printed
    assert "FAILS" not in printed


def test_checking_needs_no_pytorch(recorded: Path) -> None:
    code = "import sys, agents.parity.__main__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_every_tolerance_and_function_is_on_the_page() -> None:
    rows = [row.split("|") for row in PAGE.read_text().splitlines() if row.startswith("| ") and row.count("|") == 5]
    told = {
        name: float(limit)
        for row in rows
        for name, limit in zip(re.findall(r"`(\w+)`", row[4]), row[3].split(","), strict=False)
    }
    assert told == TOLERANCES
    functions = re.findall(r"^\| `(\w+)\(", PAGE.read_text(), flags=re.MULTILINE)
    assert tuple(functions) == REQUIRED


def test_the_extra_names_what_the_package_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = {re.match(r"\w+", name)[0] for name in project["optional-dependencies"]["parity"]}
    imported = {
        name.split(".")[0]
        for path in (ROOT / "agents" / "parity").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [])
        + ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
    }
    assert imported - sys.stdlib_module_names - {"agents"} == extra
