"""Tables of random run folders: every run is in them once, and their order does not matter."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.zoo.runs.test_read import write_run
from zoo.runs.read import RunTables, read_runs

ENVIRONMENTS = ("scene-play-singletask-task1-v0", "scene-play-singletask-task2-v0", "cube-double-play-singletask-v0")


FEWER = settings(max_examples=settings().max_examples // 5)
"""For tests that write folders or make a whole comparison for each example."""

RUNS = st.fixed_dictionaries(
    {
        "algo": st.sampled_from(["qam", "fql"]),
        "env": st.sampled_from(ENVIRONMENTS),
        "seed": st.integers(0, 3),
        "offline": st.lists(st.integers(0, 10), min_size=1, max_size=3).map(tuple),
        "state": st.sampled_from(["done", "done", "done", "running", "failed"]),
        "updated": st.integers(1, 28).map(lambda day: f"2026-11-{day:02d}T00:00:00+00:00"),
        "settings": st.sampled_from([{"gamma": 0.99}, {"gamma": 0.99}, {"gamma": 0.995}]),
    }
)
"""What `write_run` is given."""
Run = dict[str, Any]


def tables_of(runs: list[Run], names: list[str]) -> RunTables:
    """Write runs under some names, and return their tables with these names as paths."""
    with tempfile.TemporaryDirectory() as folder:
        for run, name in zip(runs, names, strict=True):
            write_run(Path(folder) / name, episodes=10, **run)
        found = read_runs([Path(folder)])
        return RunTables(
            *(table.assign(run=table["run"].map(lambda path: Path(path).name)) for table in vars(found).values())
        )


@FEWER
@given(st.lists(RUNS, max_size=8))
def test_every_run_counts_once_or_has_a_reason_and_its_scores_are_fractions(runs: list[Run]) -> None:
    names = [f"run_{k}" for k in range(len(runs))]
    tables = tables_of(runs, names)
    assert sorted(tables.runs["run"]) == names
    counted, skipped = set(tables.counted()["run"]), {entry["path"] for entry in tables.skipped()}
    assert counted | skipped == set(names)
    assert not counted & skipped
    assert tables.counted()["score"].astype(float).between(0, 1).all()
    for name, run in zip(names, runs, strict=True):
        own = tables.evaluations[tables.evaluations["run"] == name]
        assert own["score"].tolist() == pytest.approx([wins / 10 for wins in run["offline"]])
        assert run["state"] == "done" or name in skipped
    keys = tables.counted().drop_duplicates("run")[["method", "environment", "seed"]]
    assert not keys.duplicated().any()
