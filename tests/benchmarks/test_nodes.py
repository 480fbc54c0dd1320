"""The count of graph nodes: what an operation launches, and that the committed numbers are those of the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from benchmarks import nodes

COMMITTED = nodes.read(nodes.RESULTS / "nodes.json")
ADVICE = "if the change is meant, run `python benchmarks/nodes.py` and commit the table"
NARROW = ["net_arch=[64,64,64,64]"]  # as many kernels as at the papers' widths, where there is one seed


@pytest.mark.parametrize("id", ["bc", "fql", "qam"])
def test_the_committed_numbers_are_those_of_the_code(id: str) -> None:
    found = nodes.count(id, 1, "tf32", params=NARROW)
    committed = COMMITTED[id, 1, "tf32"]
    assert found == {name: committed[name] for name in found}, ADVICE


def test_the_committed_numbers_of_compiled_losses_are_those_of_the_code() -> None:
    pytest.importorskip("triton", reason="pip install triton")
    found = nodes.count("bc", 1, "tf32", compiled=True)["losses_compiled"]
    assert found == COMMITTED["bc", 1, "tf32"]["losses_compiled"], ADVICE


def test_qam_stays_within_its_bounds_and_more_seeds_at_once_add_few_kernels() -> None:
    one, twelve = (COMMITTED["qam", seeds, "tf32"] for seeds in (1, 12))
    assert total(one) <= 705
    assert total(one, compiled=True) <= 495
    assert total(twelve, compiled=True) <= 1.1 * total(one, compiled=True)
    # the product of a single network adds the bias, those of several do not; and clipping takes a kernel per seed
    assert twelve["losses"] - one["losses"] <= 115
    assert twelve["step"] - one["step"] <= 30


def total(row: dict[str, Any], compiled: bool = False) -> int:
    parts = [part for part in nodes.PARTS if part != "losses" or not compiled]
    return sum(row[part] for part in [*parts, *(["losses_compiled"] if compiled else [])])


def test_every_algorithm_is_counted() -> None:
    from agents import algorithm_ids

    for id in algorithm_ids():
        assert {(id, 1, "tf32"), (id, 12, "tf32"), (id, 1, "bf16")} <= COMMITTED.keys()
        assert "losses_compiled" in COMMITTED[id, 1, "tf32"]
    for row in COMMITTED.values():
        assert row.get("losses_compiled", 0) < row["losses"]


# -- the compiler's stand-in for a GPU ---------------------------------------------------------------------------------


def test_without_triton_the_count_is_refused_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(nodes, "count", lambda *arguments: pytest.fail("counted"))
    output = tmp_path / "nodes.json"
    assert nodes.main(["--algos", "bc", "-o", str(output)]) == 2
    assert "pip install triton" in capsys.readouterr().err
    assert not output.exists()
