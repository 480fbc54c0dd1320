"""What the Tab key completes after `zoo`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def complete(tmp_path: Path) -> Callable[[str], list[str]]:
    """Return what asks for completions as bash does, and returns them."""

    def completed(line: str) -> list[str]:
        answer = tmp_path / "answer"
        asked = {
            "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        }  # fmt: skip
        code = "import sys; sys.argv = ['zoo']; from zoo.cli import main; main()"
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **asked, "PYTHONPATH": str(ROOT)}, check=True
        )
        return answer.read_text().split()

    return completed


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("zoo tr", ["train"]),
        ("zoo train --pro", ["--profile", "--progress"]),
        ("zoo train --algo qam", ["qam", "qam_e", "qam_f"]),
        ("zoo train --algo fql --env cube-double-play-singletask-task2", ["cube-double-play-singletask-task2-v0"]),
        ("zoo dataset g", ["generate"]),
    ],
)
def test_programs_flags_and_known_names_are_completed(
    complete: Callable[[str], list[str]], line: str, expected: list[str]
) -> None:
    assert sorted(complete(line)) == sorted(expected)


def test_completing_needs_no_pytorch() -> None:
    code = "import sys, zoo.cli, zoo.completion; sys.exit('torch' in sys.modules or 'gymnasium' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
