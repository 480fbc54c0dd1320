"""A device emulated on the CPU: code that mixes devices fails here as it would on a GPU.

The device's tensors have a class of their own. Every operation on them is checked and then run on the CPU, so results
can be compared with the CPU's.
"""

import functools
import sys
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from agents.common.engine import execution
from agents.common.sb3 import environments

aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default}
# operations that copy a value to the host, or whose result's shape depends on values
WAITING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
}


class CrossingError(RuntimeError):
    """An operation waits for the host, or copies to or from it, where this is not allowed."""


@functools.cache
def the_device():
    """Return the device, which the first call registers with PyTorch."""
    _setup_privateuseone_for_python_backend("elsewhere")
    # PyTorch keeps the device, and later calls this in checkpointed forward passes, even on the CPU
    torch.elsewhere.get_amp_supported_dtype = list
    return torch.device("elsewhere", 0)


class Elsewhere(Tensor):
    """A tensor on the device."""

    raw: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, raw):
        layout = {
            "strides": raw.stride(),
            "storage_offset": raw.storage_offset(),
            "dtype": raw.dtype,
        }
        tensor = Tensor._make_wrapper_subclass(cls, raw.size(), device=the_device(), **layout)
        tensor.raw = raw
        return tensor

    def __repr__(self, **options):
        return f"Elsewhere({self.raw!r})"

    def __reduce_ex__(self, protocol):
        return self.raw.detach().__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {}, may_cross=True)


class Dispatch(TorchDispatchMode):
    """Checks and runs all operations, including those that create tensors.

    :param may_cross: whether host and device may wait for each other.
    :param may_read: whether values may be copied from the device to the host, which waits for them.
    """

    def __init__(self, may_cross, may_read=True):
        super().__init__()
        self.may_cross, self.may_read = may_cross, may_read

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {}, self.may_cross, self.may_read)


def run(func, args, kwargs, may_cross, may_read=True):
    """Run an operation on the CPU; put the result on the device if a real device would contain it."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    on_device = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    device = kwargs.get("device")
    to_device = bool(on_device) if device is None else device.type == the_device().type
    if func is aten.copy_.default:
        to_device = isinstance(args[0], Elsewhere)
    if tensors and crosses(func, args, tensors, to_device) and not may_cross:
        raise CrossingError(f"{func} waits for the host, or copies from or to it")
    if on_device and not may_read and (func in WAITING or (func in COPIES and not to_device)):
        raise CrossingError(f"{func} waits for the device")
    plain = dict(kwargs)
    for name in plain.keys() & {"device", "pin_memory", "non_blocking"}:
        del plain[name]
    if device is not None:
        plain["device"] = torch.device("cpu")
    result = func(*tree_map(_unwrap, args), **tree_map(_unwrap, plain))
    if not to_device:
        return args[0] if func is aten.copy_.default else result
    result = tree_map_only(Tensor, Elsewhere, result)
    if on_device and device is None:
        return return_and_correct_aliasing(func, args, kwargs, result)
    return result


def crosses(func, args, tensors, to_device):
    """Return whether an operation involves the host; reject operations that a real device could not run."""
    on_device = [isinstance(tensor, Elsewhere) for tensor in tensors]
    if func in COPIES:
        return not all(on_device) if to_device else any(on_device)
    if not any(on_device):
        return False
    indices = []
    if func in INDEXING:
        indices = [index for index in args[1] if index is not None]
    allowed = {id(index) for index in indices}
    for tensor, is_there in zip(tensors, on_device, strict=True):
        if not is_there and tensor.ndim > 0 and id(tensor) not in allowed:
            raise RuntimeError(
                f"{func}: expected all tensors on one device, got one of {tuple(tensor.shape)} on the host"
            )
    has_mask = any(index.dtype == torch.bool for index in indices)
    return func in WAITING or not all(on_device) or has_mask


def _unwrap(leaf):
    return leaf.raw if isinstance(leaf, Elsewhere) else leaf


class Generator(torch._C.Generator):
    """A generator that claims to be on the device for which it was created, and generates on the CPU."""

    def __new__(cls, device="cpu"):
        generator = super().__new__(cls, "cpu")
        generator._device = torch.device(device)
        return generator

    _device: torch.device

    @property
    def device(self):
        """The device that it claims to be on."""
        return self._device


class ByWayOfTheCPU(TorchFunctionMode):
    """Creates tensors from numbers on the CPU and moves them, because PyTorch dispatches no operation for them.

    This is a mode, because replacements of PyTorch's functions would remain in the compiler's table of functions.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func not in (torch.tensor, torch.as_tensor):
            return func(*args, **kwargs)
        device = kwargs.get("device") or "cpu"
        return func(*args, **{**kwargs, "device": "cpu"}).to(device)


@contextmanager
def emulation():
    """Emulate the device inside the block.

    Tensors that PyTorch creates from numbers or files without an operation are created on the CPU and moved.
    """
    device = the_device()

    def load(*args, map_location=None, **kwargs):
        loaded = from_file(*args, map_location="cpu", **kwargs)
        return tree_map_only(Tensor, lambda tensor: tensor.to(map_location or "cpu"), loaded)

    from_file = torch.load
    # the threads of autograd know only devices that existed at its first use; run it without threads here
    single = torch.autograd.set_multithreading_enabled(False)
    modes = ByWayOfTheCPU(), Dispatch(may_cross=True)
    with single, pytest.MonkeyPatch.context() as patch, modes[0], modes[1]:
        patch.setattr(environments, "DEVICES", ("cpu", device.type))
        patch.setitem(execution.COMPILED_UPDATES, device.type, sys.maxsize)  # never compiled
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(torch, "load", load)
        # keep a moved module's Parameter objects, as on the way to a GPU, because an optimiser may refer to them
        patch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
        yield device
