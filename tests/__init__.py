"""Tests of everything."""

import os
import re
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: like PyTorch in conftest.py
ROOT = Path(__file__).parents[1]


def code_blocks(page, fence):
    """Return the blocks of a page, a path from the root folder, whose fence and first lines are these."""
    return re.findall(rf"```{fence}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
