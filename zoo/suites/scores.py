"""The scores of a suite's runs as small tables, to be kept beside the code and published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from agents.common.files import atomic_path
from zoo.report.included_runs import COLUMNS
from zoo.runs.folder import RunFolder
from zoo.runs.read import read_runs
from zoo.suites.overview import Look
from zoo.texts import csv_cells


def write_scores(looks: Sequence[Look], folder: Path) -> list[Path]:
    """Write one CSV file for each method, with a row for each evaluation of its finished runs; return the files.

    :param folder: what is there of other methods stays.
    """
    settings = {
        str(folder.path): look.job.digest
        for look in looks
        if look.run is not None and look.state.is_final
        for folder in look.run.folders
    }
    if not settings:
        return []
    table = read_runs([Path(path) for path in settings], merge_protocols=True).counted()
    table = table.assign(
        settings=table["run"].map(settings),
        commit=table["run"].map(lambda path: _commit(RunFolder(Path(path)))),
    )
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(str(method), rows, folder) for method, rows in table.groupby("method")]


def _write(method: str, rows: pd.DataFrame, folder: Path) -> Path:
    path = folder / f"{method.replace('/', '_').replace(' ', '_')}.csv"
    with atomic_path(path) as temporary:
        ordered = rows.sort_values(["environment", "seed", "phase", "step"])
        csv_cells(ordered[list(COLUMNS)]).to_csv(temporary, index=False, float_format="%.6g")
    return path


def _commit(folder: RunFolder) -> str:
    """Return the commit of the code that a run was started with."""
    versions = json.loads((folder.path / "versions.json").read_text(encoding="utf-8"))
    commit, *dirty = str(versions.get("git_commit") or "unknown").split("-")
    return "-".join([commit[:12], *dirty])
