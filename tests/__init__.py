"""Tests of the packages, the programs and the documentation."""

import os
import re
from importlib.metadata import version
from pathlib import Path

import pytest

# before NumPy is imported, as conftest.py does for PyTorch
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]


def needs_pinned(*packages):
    """Skip a test whose numbers need the pinned versions of some packages, if other versions are installed."""
    pins = re.findall(
        r"^([^=\s]+)==([^\s;]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
    # if a package has several pins, for different Python versions, use the first, with which numbers were recorded
    first = dict(reversed(pins))
    mismatches = [name for name in packages if version(name) != first[name]]
    return pytest.mark.skipif(
        bool(mismatches), reason=f"needs the pinned version of {', '.join(mismatches)}"
    )


def code_blocks(page, fence):
    """Return the code blocks of a page that start with ```` ```fence ````; `page` is a path below the root."""
    return re.findall(rf"```{fence}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
