"""The compiler's stand-in for a GPU: graphs move to it, and it is not needed to have one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from benchmarks import nodes
from benchmarks.absent_gpu import DEVICE, absent_gpu, move
from benchmarks.kernels import scheduled_kernels
from zoo.errors import UsageError


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


def test_the_stand_in_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install triton"), absent_gpu():
        pass


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
def test_what_the_compiler_fuses_is_one_kernel() -> None:
    pytest.importorskip("triton", reason="pip install triton")
    x, weight = torch.randn(8, 8), torch.randn(8, 8, requires_grad=True)
    # a product, a function and its sum as one; the gradient of the function, and of the weight
    assert scheduled_kernels(lambda: (2 * torch.tanh(x @ weight) + 1).sum()) == 4


@pytest.mark.slow
def test_a_layer_norm_is_one_kernel_with_what_surrounds_it() -> None:
    pytest.importorskip("triton", reason="pip install triton")
    x, weight = torch.randn(64, 32), torch.randn(32, 32, requires_grad=True)

    def loss() -> torch.Tensor:
        normed = torch.nn.functional.layer_norm(torch.tanh(x @ weight), (32,))
        return (normed @ weight.detach()).sum()

    # two products and their sum, tanh and the norm as one; the gradients of the last product, the norm and the weight
    assert scheduled_kernels(loss) <= 8
