"""Programs that a test starts and ends from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any


def start_program(folder: Path, text: str, **more: Any) -> subprocess.Popen[str]:
    """Start a Python program that finds the packages of this checkout and talks through pipes."""
    program = folder / "program.py"
    program.write_text(textwrap.dedent(text))
    return subprocess.Popen(
        [sys.executable, program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        **more,
    )
