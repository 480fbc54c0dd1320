"""A GPU that is not there, as PyTorch's compiler has to see it so that it plans kernels for it. Nothing runs.

Needs Triton, ``pip install triton``, which PyTorch's builds for CUDA bring.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from torch.fx import GraphModule
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from zoo.errors import UsageError

DEVICE = torch.device("cuda", 0)


@dataclass(frozen=True)
class H200:
    """What the compiler asks of a GPU, with an H200's numbers (those of compute capability 9.0 and its 132 SMs)."""

    name: str = "NVIDIA H200"
    major: int = 9
    minor: int = 0
    multi_processor_count: int = 132
    total_memory: int = 139 << 30
    max_threads_per_block: int = 1 << 10
    max_threads_per_multi_processor: int = 1 << 11
    regs_per_multiprocessor: int = 1 << 16
    shared_memory_per_block: int = 48 << 10
    shared_memory_per_block_optin: int = 227 << 10
    shared_memory_per_multiprocessor: int = 228 << 10
    L2_cache_size: int = 60 << 20
    warp_size: int = 32
    gcnArchName: str = ""  # of AMD


def require_triton() -> None:
    """Refuse to go on without Triton.

    :raises UsageError: if it is missing.
    """
    if importlib.util.find_spec("triton") is None:
        raise UsageError("to plan kernels for a GPU, PyTorch's compiler needs Triton: `pip install triton`")


@contextmanager
def absent_gpu() -> Iterator[None]:
    """Let the compiler lower graphs of :data:`DEVICE` as if it were there, an H200.

    :raises UsageError: if Triton is missing.
    """
    require_triton()
    gpu, state = H200(), torch.zeros(16, dtype=torch.uint8)
    answers: dict[str, Any] = {
        "torch.cuda._lazy_init": lambda: None,
        "torch.cuda.device_count": lambda: 1,
        "torch.cuda.current_device": lambda: DEVICE.index,
        "torch.cuda._get_device_properties": lambda device: gpu,
        "torch.cuda._exchange_device": lambda index: DEVICE.index,
        "torch.cuda._maybe_exchange_device": lambda index: DEVICE.index,
        "torch.cuda.get_rng_state": lambda device=None: state,
        "torch._inductor.scheduler.has_triton": lambda: True,
        # the method asks for a device even where nothing is copied
        "torch.Tensor.copy_": lambda self, source, wait=False: torch.ops.aten.copy_(self, source, wait),
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(patch(name, answer, create=True))
        yield


def move(graph: GraphModule, inputs: Sequence[Any]) -> list[Any]:
    """Let a graph be of the absent GPU, in place.

    :param graph: of fake tensors on the CPU.
    :param inputs: its inputs.
    :return: the inputs as fake tensors of the GPU.
    """
    mode = detect_fake_mode(inputs)
    assert mode is not None

    def there(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        with mode:
            return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=DEVICE)

    moved = [there(value) for value in inputs]
    for node in graph.graph.nodes:
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": DEVICE}
    FakeTensorProp(graph, mode).propagate_dont_convert_inputs(*moved)
    return moved
