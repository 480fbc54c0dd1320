"""The notebook for beginners, run from its first cell to its last."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_notebook_runs_in_ten_cells_and_shows_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "docs" / "first_steps.ipynb", as_version=4)
    assert len(notebook.cells) == 10
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output.get("data", {}) for cell in code for output in cell.outputs]
    assert sum("image/png" in each for each in outputs) == 3
    results = [ast.literal_eval(each["text/plain"]) for each in outputs if "text/plain" in each and len(each) == 1]
    _, reached, again = results
    assert reached["QAM"] >= 4 > 2 >= reached["BC"]
    assert again in (0.0, 1.0)
