"""The count of graph nodes: what an operation launches, and that the committed numbers are those of the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import nodes
from benchmarks.kernels import KernelCounter, kernels_of_lists

COMMITTED = nodes.read(nodes.RESULTS / "nodes.json")
ADVICE = "if the change is meant, run `python benchmarks/nodes.py` and commit the table"
NARROW = ["net_arch=[64,64,64,64]"]  # as many kernels as at the papers' widths, where there is one seed


def kernels(function: Any, *arguments: Any, **named: Any) -> int:
    with KernelCounter() as counter:
        function(*arguments, **named)
    return counter.found.total()


def tensors(count: int, size: int = 4) -> list[Tensor]:
    return [torch.zeros(1).expand(size) for _ in range(count)]  # of any size without its memory


def test_views_and_memory_are_no_kernels() -> None:
    x = torch.zeros(4, 6)
    assert kernels(lambda: x.t().unsqueeze(0)[0, 1:].expand(5, 4).flatten()) == 1  # the copy of `flatten`
    assert kernels(torch.empty, 3) == 0


def test_padding_is_filled_and_copied_and_its_gradient_is_a_copy() -> None:
    x = torch.zeros(4, 6, requires_grad=True)
    assert kernels(F.pad, x, (0, 2)) == 2
    padded = F.pad(x, (0, 2))
    assert kernels(torch.autograd.grad, padded, x, torch.ones(4, 8)) == 1


@pytest.mark.parametrize("with_scale", [False, True])
def test_the_gradients_of_a_layer_norm_are_one_or_two_kernels(with_scale: bool) -> None:
    x = torch.randn(4, 6, requires_grad=True)
    scale = torch.ones(6, requires_grad=True) if with_scale else None
    assert kernels(F.layer_norm, x, (6,), scale) == 1
    y = F.layer_norm(x, (6,), scale)
    wanted = [x] if scale is None else [x, scale]
    assert kernels(torch.autograd.grad, y, wanted, torch.ones(4, 6)) == len(wanted)


@pytest.mark.parametrize(
    ("name", "lists", "expected"),
    [
        ("_foreach_mul_", [tensors(110)], 1),
        ("_foreach_mul_", [tensors(111)], 2),
        ("_foreach_mul", [tensors(64)], 1),  # its results are a second list
        ("_foreach_mul", [tensors(65)], 2),
        ("_foreach_lerp_", [tensors(64), tensors(64)], 1),
        ("_foreach_mul_", [tensors(5), tensors(5, size=1)], 5),  # broadcasting is done one by one
        ("_foreach_mul_", [tensors(1, size=320 << 16)], 1),  # 320 blocks
        ("_foreach_mul_", [tensors(1, size=(320 << 16) + 1)], 2),
        ("_foreach_mul_", [tensors(2, size=200 << 16)], 2),
        ("_foreach_norm", [tensors(5)], 3),
        ("_fused_adam_", [*[tensors(36)] * 4, [], tensors(36, size=1)], 1),
        ("_fused_adam_", [*[tensors(37)] * 4, [], tensors(37, size=1)], 2),
    ],
)
def test_operations_on_lists_take_as_many_kernels_as_tensors_and_blocks_need(
    name: str, lists: list[list[Tensor]], expected: int
) -> None:
    assert kernels_of_lists(name, lists) == expected


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


def test_qam_stays_within_its_bounds() -> None:
    one = COMMITTED["qam", 1, "tf32"]
    assert total(one) <= 610
    assert total(one, compiled=True) <= 405


def test_more_seeds_at_once_add_few_kernels() -> None:
    one, twelve = (COMMITTED["qam", seeds, "tf32"] for seeds in (1, 12))
    assert total(twelve, compiled=True) <= 1.1 * total(one, compiled=True)
    # the product of a single network adds the bias, those of several do not; and clipping takes a kernel per seed
    assert twelve["losses"] - one["losses"] <= 80
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


def test_a_bias_is_part_of_a_product_and_a_matrix_is_copied_first() -> None:
    x, weight = torch.zeros(4, 6), torch.zeros(6, 5)
    assert kernels(torch.addmm, torch.zeros(5), x, weight) == 1
    assert kernels(torch.addmm, torch.zeros(4, 5), x, weight) == 2


def test_the_table_adds_up() -> None:
    row = {"algo": "bc", "seeds": 1, "precision": "tf32", "batch": 1, "noise": 2, "losses": 1_000, "step": 4}
    lines = nodes.table([row, {**row, "losses_compiled": 500}]).splitlines()
    assert lines[2] == "| bc | 1 | tf32 | 1 | 2 | 1,000 | 4 | 1,007 |  |  |"
    assert lines[3].endswith("| 1,007 | 500 | 507 |")


def test_rows_are_kept_and_added_to(tmp_path: Path) -> None:
    rows = {("bc", 1, "tf32"): {"algo": "bc", "seeds": 1, "precision": "tf32", **dict.fromkeys(nodes.PARTS, 1)}}
    nodes.write(tmp_path / "nodes.json", rows)
    assert nodes.read(tmp_path / "nodes.json") == rows
    assert "| bc | 1 |" in (tmp_path / "nodes.md").read_text()
