"""Networks made of one ordinary module per replica; `torch.func` calls the modules of all replicas in parallel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from agents.common.batch import Time, Velocity
from agents.common.nets.mlp import maybe_detach
from agents.common.nets.networks import Network, ObservingNetwork, as_column, is_stateful

REFUSED_MODULES = (nn.modules.lazy.LazyModuleMixin, nn.RNNBase, torch.jit.ScriptModule)
"""Modules that `torch.func.vmap` cannot call for several replicas in parallel."""


class VmappedModule(Network):
    """S ordinary modules without a replica axis: each receives the rows of its replica, (B, ...).

    Only one module object is kept, ``module``. It contains the parameters and buffers of all S modules, stacked on a
    leading axis.

    :param make: makes the module of one replica.
    :param replicas: S.
    """

    def __init__(self, make: Callable[[], nn.Module], replicas: int) -> None:
        super().__init__()
        # Under `vmap`, the fast path of attention layers cannot tell that a gradient is recorded. The path is switched
        # off for the whole process, because `torch.compile` cannot trace the switch.
        torch.backends.mha.set_fastpath_enabled(False)
        self._make = make
        self.replicas = replicas
        self.module = make()
        buffers = {id(buffer) for buffer in self.module.buffers()}
        for part in self.module.modules():
            for name, value in [*part.named_buffers(recurse=False), *vars(part).items()]:
                if id(value) in buffers:
                    vars(part).pop(name, None)  # `register_buffer` rejects used names
                    part.register_buffer(name, value)  # persistent, since its values may be random
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            tensor.data = tensor.data.new_zeros(replicas, *tensor.shape)

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """Make the module of one replica; ``generator`` seeds PyTorch's global generator meanwhile."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            seed = torch.randint(2**62, (), generator=generator)
            torch.default_generator.manual_seed(int(seed))
            module = self._make()
            tensors = [*self.module.parameters(), *self.module.buffers()]
            drawn = [*module.parameters(), *module.buffers()]
            for tensor, values in zip(tensors, drawn, strict=True):
                if tensor is values:
                    raise TypeError(
                        "`make` of `from_module` must make a new module at every call, got the same "
                        "parts again; declare shared parts as another network, as with "
                        "`encoder` in docs/register.md"
                    )
                tensor[replica].copy_(values)

    def forward(self, *inputs: Any, frozen: bool = False) -> Any:
        """Call each replica's module on its part of the tensors, (S, ...); numbers and None are shared."""
        return self._call(self._tensors(frozen), *inputs)

    def at(self, observations: Any, frozen: bool = False) -> Velocity:
        """Return (x, t) -> velocity at fixed observations; the module receives the times t as a column, (B, 1).

        K points x for each observation, (S, K, B, D), become K * B rows.
        """
        tensors = self._tensors(frozen)  # only once, not at every call

        def velocity(x: Tensor, t: Time) -> Tensor:
            times = as_column(t, x)
            if x.ndim == 3:
                return self._call(tensors, observations, x, times)
            rows = observations.repeat(1, x.shape[1], 1)
            velocities = self._call(tensors, rows, x.flatten(1, 2), times.flatten(1, 2))
            return velocities.unflatten(1, x.shape[1:3])

        return velocity

    def _tensors(self, frozen: bool) -> dict[str, Tensor]:
        """Return parameters and buffers by name; a tensor in two modules has two names."""
        tensors = {}
        for path, part in self.module.named_modules():
            options = {"prefix": path, "recurse": False, "remove_duplicate": False}
            for name, tensor in (*part.named_parameters(**options), *part.named_buffers(**options)):
                tensors[name] = maybe_detach(tensor, frozen)
        return tensors

    def _call(self, tensors: dict[str, Tensor], *inputs: Any) -> Any:
        """Call each replica's module with its tensors."""

        def call(values: dict[str, Tensor], *rows: Any) -> Any:
            tensors_after = dict(values)
            outputs = functional_call(self.module, tensors_after, rows, tie_weights=False)
            for name, value in values.items():
                # `functional_call` stores here the tensors that the module assigns
                if tensors_after[name] is not value:
                    raise TypeError(
                        f"a module must be a function of its inputs, got one that assigns `{name}`, which would be "
                        "lost; change it in the hook `after_update`"
                    )
            return outputs

        axes = [0 if isinstance(value, Tensor) and value.ndim else None for value in inputs]
        if self.replicas > 1:
            is_on_gpu = any(tensor.is_cuda for tensor in tensors.values())
            # the CPU's fused attention has no batching rule: it would run once for each replica
            with nullcontext() if is_on_gpu else sdpa_kernel(SDPBackend.MATH):
                return vmap(call, in_dims=(0, *axes))(tensors, *inputs)
        # without `vmap`, so that the module can be exported
        rows = [
            value if axis is None else value[0] for axis, value in zip(axes, inputs, strict=True)
        ]
        outputs = call({name: tensor.squeeze(0) for name, tensor in tensors.items()}, *rows)
        return tree_map(lambda value: value.unsqueeze(0), outputs)


class VmappedObserver(VmappedModule, ObservingNetwork):
    """Stacked modules whose first input is observations or the output of a features extractor."""

    def forward(self, *inputs: Any, frozen: bool = False) -> Any:
        """Call each replica's module."""
        observations, *rows = inputs
        return super().forward(self.features(observations, frozen), *rows, frozen=frozen)

    def at(self, observations: Any, frozen: bool = False) -> Velocity:
        """Return (x, t) -> velocity at fixed observations, whose features are extracted only once."""
        return super().at(self.features(observations, frozen), frozen)


def checked_module(module: Any) -> nn.Module:
    """Return a module; raise an error unless it is a function of its inputs."""
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"`make` must return a torch.nn.Module, got {type(module).__name__}; return the module"
        )
    buffers = {id(buffer) for buffer in module.buffers()}
    for part in module.modules():
        is_switched_off = getattr(part, "p", None) == 0  # dropout
        is_refused = isinstance(part, REFUSED_MODULES) or (
            is_stateful(part) and not is_switched_off
        )
        # `spectral_norm`, whose class has no public name, updates a power iteration
        if is_refused or hasattr(part, "_power_method"):
            raise TypeError(
                f"a module must be a function of its inputs, got {type(part).__name__}: leave out batch "
                "statistics (use e.g. LayerNorm), random numbers (set a dropout's `p` to 0), lazy layers, recurrent "
                "ones (use e.g. GRUCell) and TorchScript"
            )
        for name, value in vars(part).items():
            # parameters and buffers are in other dicts, so this is a plain attribute
            if isinstance(value, Tensor) and value.is_leaf and id(value) not in buffers:
                raise TypeError(
                    f"`{name}` of {type(part).__name__} would not be saved; give it to `register_buffer`"
                )
    return module
