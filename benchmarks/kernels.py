"""How many CUDA kernels operations launch, counted without a GPU.

An operation of ATen is one kernel; those that differ are listed. What works on lists of tensors at once launches a
kernel for every 320 blocks of 65,536 numbers, and at most 30 to 110 tensors (``MultiTensorApply.cuh``). Not known here:
whether a matrix product is split in two.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.utils import clip_grad
from torch.utils._python_dispatch import TorchDispatchMode

from agents.common.nets import fast
from benchmarks.absent_gpu import absent_gpu, move

# no kernel: memory alone, and numbers that stay with the host
NONE = {"_unsafe_view", "empty", "empty_like", "empty_strided", "lift_fresh", "new_empty", "new_empty_strided"}
NONE |= {"scalar_tensor"}
SEVERAL = {"select_backward": 2, "slice_backward": 2}  # filled with zeros, then written to
MOST_TENSORS = (110, 64, 48, 36, 30)  # of a kernel over 1, 2, ... lists
MOST_BLOCKS, BLOCK = 320, 1 << 16


class KernelCounter(TorchDispatchMode):
    """Counts the kernels of what runs inside, by the operation's name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.found[func.overloadpacket.__name__] += kernels_of(func, args)
        return result


def kernels_of(func: Any, args: Sequence[Any]) -> int:
    """Return how many kernels an operation launches on CUDA.

    :param func: overload of an ATen operation.
    :param args: its positional arguments.
    """
    name = func.overloadpacket.__name__
    if func.namespace not in ("aten", "mkldnn") or func.is_view or name in NONE:
        return 0
    if name == "constant_pad_nd":
        return 2 if max(args[1]) > 0 else 1  # its gradient is a copy of a part
    if name in ("addmm", "baddbmm"):
        return 1 + (args[0].ndim > 1)  # a bias is added by the product's kernel; anything else is copied first
    if name == "native_layer_norm_backward":
        return args[7][0] + max(args[7][1:])
    if name.startswith(("_foreach_", "_fused_")):
        lists = [value for value in args if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor)]
        return kernels_of_lists(name, lists)
    return SEVERAL.get(name, 1)


def kernels_of_lists(name: str, lists: Sequence[Sequence[Tensor]]) -> int:
    """Return how many kernels an operation on lists of tensors launches.

    :param name: the operation.
    :param lists: its lists.
    """
    first = lists[0]
    if name == "_fused_adam_":
        lists = lists[:4]  # not the counts of steps
    elif any(
        a.shape != b.shape or a.stride() != b.stride() for other in lists[1:] for a, b in zip(first, other, strict=True)
    ):
        return len(first)  # one after the other
    depth = len(lists) + (not name.endswith("_") and name != "_foreach_norm")  # results are a list too
    launches = _launches([tensor.numel() for tensor in first], MOST_TENSORS[depth - 1])
    return launches + 2 * (name == "_foreach_norm")  # partial sums start at zero, and are added up


def _alike(first: Tensor, *others: Tensor) -> bool:
    return all(first.shape == other.shape and first.stride() == other.stride() for other in others)


def _launches(sizes: Sequence[int], most_tensors: int) -> int:
    launches = tensors = blocks = 0
    for size in filter(None, sizes):
        tensors += 1
        left = math.ceil(size / BLOCK)
        while left:
            taken = min(left, MOST_BLOCKS - blocks)
            left, blocks = left - taken, blocks + taken
            if blocks == MOST_BLOCKS or (not left and tensors == most_tensors):
                launches, blocks, tensors = launches + 1, 0, int(left > 0)
    return launches + (blocks > 0)


@contextmanager
def networks_as_on_cuda() -> Iterator[None]:
    """Let networks be evaluated on the CPU in the way that is chosen on CUDA; make models inside."""
    changes: list[tuple[object, str, Any]] = [
        (fast, "device_type", lambda x: "cuda"),
        (clip_grad, "_has_foreach_support", lambda *arguments: True),  # fake tensors hide that there is
    ]
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(patch.object(*change))
        yield


def scheduled_kernels(loss: Callable[[], Tensor]) -> int:
    """Return how many kernels Inductor's scheduler makes of a loss and its gradient on an H200; nothing is run.

    :param loss: evaluates the loss on the CPU; it needs a gradient.
    :raises RuntimeError: if the loss has no graph, or no single one.
    :raises UsageError: if Triton is missing.
    """
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.decomposition import select_decomp_table

    counts: list[int] = []

    def note(nodes: list[Any]) -> list[Any]:
        counts.append(sum(_is_kernel(node) for node in nodes))
        raise _CountedError

    def lower(graph: Any, inputs: Any) -> Any:
        known = len(counts)
        try:
            with absent_gpu():
                compile_fx_inner(graph, move(graph, inputs))
        except Exception:
            if len(counts) == known:  # it did not come from `note`
                raise
        return _stop

    parts = {"partition_fn": min_cut_rematerialization_partition, "decompositions": select_decomp_table()}
    backend = aot_autograd(fw_compiler=lower, bw_compiler=lower, **parts)
    switches = config.patch(_post_fusion_custom_pass=note, fx_graph_cache=False)
    with switches, torch._functorch.config.patch(force_non_lazy_backward_lowering=True):
        try:
            torch.compile(loss, backend=backend, dynamic=False, fullgraph=True)()
        except _CountedError:
            pass
        finally:
            torch._dynamo.reset()
    if len(counts) != 2:
        raise RuntimeError(f"expected a forward and a backward graph, got {len(counts)}")
    return sum(counts)


class _CountedError(Exception):
    """All that was wanted is known."""


def _stop(*arguments: Any) -> None:
    raise _CountedError


def _is_kernel(node: Any) -> bool:
    """Return whether a node of Inductor's scheduler launches a kernel."""
    from torch._inductor import ir, scheduler

    return not isinstance(node, scheduler.NopKernelSchedulerNode) and not isinstance(node.node, ir.MultiOutput)
