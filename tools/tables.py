"""Tables of pages in Markdown."""

from __future__ import annotations

import pandas as pd


def to_markdown(table: pd.DataFrame) -> str:
    """Return a table without its index; pandas' own `to_markdown` needs another package."""
    lines = [
        f"| {' | '.join(map(str, cells))} |"
        for cells in (table.columns, *table.astype(object).to_numpy())
    ]
    lines.insert(1, "|" + "---|" * table.shape[1])
    return "\n".join(lines)
