"""The notebook runs completely, and its stored outputs agree."""

import ast

import pytest

from tests.docs.commands import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_notebook_runs_in_eleven_cells_and_shows_what_it_says(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # importing zoo.report sets it
    # beside other work, two threads that wait for each other are very slow
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(ROOT / "docs" / "first_steps.ipynb", as_version=4)
    assert len(notebook.cells) == 11
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output.get("data", {}) for cell in code for output in cell.outputs]
    assert sum("image/png" in output for output in outputs) == 3
    results = [
        ast.literal_eval(output["text/plain"])
        for output in outputs
        if "text/plain" in output and len(output) == 1
    ]
    _, reached, score = results
    assert reached["QAM"] >= 4 > 2 >= reached["BC"]
    assert score in (0.0, 1.0)
