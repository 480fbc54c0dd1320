"""The agent of docs/parity.md: its files and its recorded numbers, which the tests break in one place each."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "parity.md"


def blocks(language: str) -> list[str]:
    """Return the page's blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the current folder, which holds the page's files."""
    for block in blocks("python"):
        (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


@pytest.fixture
def recorded(folder: Path) -> Path:
    """Return the fixture that the page's recorder writes."""
    runpy.run_path("record.py")
    return folder / "fixtures" / "my_agent.npz"


@pytest.fixture
def broken(folder: Path) -> Callable[[str, str], str]:
    """Return a function that writes the page's adapter with a text replaced, and returns the module's name."""

    def write(old: str, new: str) -> str:
        port = (folder / "my_port.py").read_text()
        assert port.count(old) == 1
        (folder / "broken.py").write_text(port.replace(old, new))
        return "broken"

    return write
