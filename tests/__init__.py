"""Tests of everything."""

import os
import re
from importlib.metadata import version
from pathlib import Path

import pytest

# before NumPy is imported: like PyTorch in conftest.py
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]


def needs_pinned(*packages):
    """Skip a test whose numbers hold for the pinned versions of some packages where others are installed."""
    pins = re.findall(
        r"^([^=\s]+)==([^\s;]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
    # of pins for several versions of Python the first: numbers are recorded with it
    first = dict(reversed(pins))
    mismatches = [name for name in packages if version(name) != first[name]]
    return pytest.mark.skipif(
        bool(mismatches), reason=f"needs the pinned version of {', '.join(mismatches)}"
    )


def code_blocks(page, fence):
    """Return the blocks of a page, a path from the root folder, whose fence and first lines are these."""
    return re.findall(rf"```{fence}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
