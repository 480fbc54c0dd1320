"""The count of graph nodes: what an operation launches, and that the committed numbers are those of the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from benchmarks import nodes
from benchmarks.absent_gpu import DEVICE, move
from benchmarks.kernels import scheduled_kernels

COMMITTED = nodes.read(nodes.RESULTS / "nodes.json")
ADVICE = "if the change is meant, run `python benchmarks/nodes.py` and commit the table"
NARROW = ["net_arch=[64,64,64,64]"]  # as many kernels as at the papers' widths, where there is one seed


@pytest.mark.parametrize("id", ["bc", "fql", "qam"])
def test_the_committed_numbers_are_those_of_the_code(id: str) -> None:
    found = nodes.count(id, 1, "tf32", params=NARROW)
    committed = COMMITTED[id, 1, "tf32"]
    assert found == {name: committed[name] for name in found}, ADVICE


@pytest.mark.slow
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


def test_a_graph_and_its_inputs_move_to_the_gpu() -> None:
    def function(x: torch.Tensor, count: int) -> torch.Tensor:
        return (x.t() + torch.arange(3)) * torch.full((3,), 2.0) * count

    with FakeTensorMode():
        x = torch.empty(3, 4)
        graph = make_fx(function)(x, 2)
        moved, count = move(graph, [x, 2])
    assert (moved.device, moved.shape, moved.stride(), count) == (DEVICE, x.shape, x.stride(), 2)
    of_tensors = [node.meta["val"] for node in graph.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)]
    assert len(of_tensors) >= 5
    assert {value.device for value in of_tensors} == {DEVICE}


def test_without_triton_the_count_is_refused_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(nodes, "count", lambda *arguments: pytest.fail("counted"))
    output = tmp_path / "nodes.json"
    assert nodes.main(["--algos", "bc", "-o", str(output)]) == 2
    assert "pip install triton" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.slow
def test_a_layer_norm_is_one_kernel_with_what_surrounds_it() -> None:
    pytest.importorskip("triton", reason="pip install triton")
    x, weight = torch.randn(64, 32), torch.randn(32, 32, requires_grad=True)

    def loss() -> torch.Tensor:
        normed = torch.nn.functional.layer_norm(torch.tanh(x @ weight), (32,))
        return (normed @ weight.detach()).sum()

    # two products and their sum, tanh and the norm as one; the gradients of the last product, the norm and the weight
    assert scheduled_kernels(loss) <= 8
