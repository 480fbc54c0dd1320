"""Compute matrix products of compiled updates with oneDNN on processors where MKL runs at half speed.

PyTorch computes float32 matrix products with MKL, which does not use AVX-512 on AMD processors. From Zen 5 on, this
halves the products' speed; Zen 4 executes AVX-512 in two halves and would not gain from it. PyTorch also contains
oneDNN, but its compiler uses oneDNN only for constant weights. A pass over the compiler's graph therefore replaces the
large matrix products by calls to oneDNN.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from agents.common.processor import cpuinfo

ZEN_5 = 26  # CPU family in /proc/cpuinfo
SMALLEST_WORK = 1 << 20
"""Matrix products with at least this many multiplications are faster with oneDNN, despite the cost of a call."""


def compiler_options() -> dict[str, Any]:
    """Return the options of `torch.compile` that let oneDNN compute matrix products; empty if it is not faster."""
    # decided by the processor's family; if speed were measured, a run's numbers would depend on the machine's load
    is_slowed = cpuinfo("vendor_id") == "AuthenticAMD" and int(cpuinfo("cpu family")) >= ZEN_5
    if not (is_slowed and torch.backends.mkldnn.is_available()):
        return {}
    return options_of_pass()


@functools.cache  # PyTorch refuses to define an operator twice
def options_of_pass() -> dict[str, Any]:
    """Return the options for oneDNN on any processor; empty if the compiler does not accept custom passes."""
    try:
        # importing the compiler takes seconds, and only training needs it
        from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
    except ImportError:
        return {}
    # a custom operator, since the compiler's operator for oneDNN requires constant weights
    library = torch.library.Library("flow_rl_zoo", "FRAGMENT")
    library.define("product(Tensor a, Tensor b, Tensor? bias=None) -> Tensor")
    library.impl("product", product, "CPU")
    torch.library.register_fake("flow_rl_zoo::product", shape_of_product, lib=library)

    class ProductsByOneDNN(CustomGraphPass):
        """Replaces large float32 matrix products by calls to oneDNN; ``uuid`` identifies the pass in cache keys."""

        operator = library

        def __call__(self, graph: torch.fx.Graph) -> None:
            for node in graph.nodes:
                replace_product(node)

        def uuid(self) -> Any:
            return get_hash_for_files((__file__,))

    return {"post_grad_custom_post_pass": ProductsByOneDNN()}


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return matrix products computed by oneDNN.

    :param a: one matrix (rows, in), or N of them, (N, rows, in).
    :param b: (in, out), or (N, in, out).
    :param bias: bias of a single matrix, (out,), or None.
    :return: (rows, out), or (N, rows, out).
    """
    linear = torch.ops.mkldnn._linear_pointwise
    if a.ndim == 2:
        return linear(a, b.t(), bias, "none", [], "")
    pairs = zip(a.unbind(), b.transpose(1, 2).unbind(), strict=True)
    products = [linear(rows, matrix, None, "none", [], "") for rows, matrix in pairs]
    return torch.stack(products) if len(products) > 1 else products[0].unsqueeze(0)


def shape_of_product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return an uninitialised tensor of the shape that :func:`product` returns."""
    return a.new_empty(*a.shape[:-1], b.shape[-1])


def replace_product(node: torch.fx.Node) -> None:
    """Make a graph node call oneDNN if the node is a large float32 matrix product."""
    aten = torch.ops.aten
    factors: list[Any] = list(node.args)
    if node.target == aten.addmm.default and not node.kwargs:
        factors.append(factors.pop(0))  # the bias
    elif node.target not in (aten.mm.default, aten.bmm.default):
        return
    a, b, *biases = (factor.meta["val"] for factor in factors)
    is_vector = all(bias.ndim == 1 for bias in biases)
    work = a.shape[-2:].numel() * b.shape[-1]
    if a.dtype == torch.float32 and a.device.type == "cpu" and is_vector and work >= SMALLEST_WORK:
        node.target = torch.ops.flow_rl_zoo.product.default
        node.args = tuple(factors)
