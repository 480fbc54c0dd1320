"""Tests of everything."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def code_blocks(page, fence):
    """Return the blocks of a page, a path from the root folder, whose fence and first lines are these."""
    return re.findall(rf"```{fence}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
