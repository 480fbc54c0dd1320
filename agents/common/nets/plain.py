"""Ordinary modules as networks: one is made for each replica, and all are called at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map

from agents.common.nets.heads import Network, ObservingNetwork, Time, Velocity, as_column
from agents.common.nets.specs import NetworkSpec, Sizes

_REFUSED: tuple[tuple[Any, str], ...] = (
    (
        nn.modules.batchnorm._NormBase | nn.utils.parametrizations._SpectralNorm,
        "gathers statistics at every call, so that results depend on the order of calls; use e.g. LayerNorm",
    ),
    (
        nn.modules.dropout._DropoutNd | nn.RReLU,
        "draws numbers that are no declared noise, so that a resumed run does not repeat them; leave it out",
    ),
    (nn.modules.lazy.LazyModuleMixin, "has no shape before its first call; give its sizes"),
    (nn.RNNBase, "PyTorch cannot call for several seeds at once; use its cell, e.g. GRUCell"),
)
"""Parts of modules that are no functions of their inputs, and what to do; normalisation without statistics is one."""


class PlainNetwork(Network):
    """S modules that know nothing of replicas: each sees the rows of its own, (N, ...), and draws its own weights.

    The first module made holds the parameters and buffers of all, with the leading axis S.

    :param make: makes the module of one replica.
    :param replicas: S.
    :raises TypeError: if what is made is no module, or one that cannot stand for several.
    """

    def __init__(self, make: Callable[[], nn.Module], replicas: int) -> None:
        super().__init__()
        self._make, self.replicas, self.module = make, replicas, _checked(make())
        for part in self.module.modules():
            part._non_persistent_buffers_set.clear()  # what is drawn at random must be saved
        for held in (*self.module.parameters(), *self.module.buffers()):
            held.data = held.data.new_zeros(replicas, *held.shape)

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """Make the module of one replica; what that draws from PyTorch's global generator follows from its own."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            # on the CPU also where networks are built for their shapes alone
            seed = torch.randint(2**62, (), generator=generator, device="cpu")
            torch.default_generator.manual_seed(int(seed))
            one = self._make()
            tensors = [(*each.parameters(), *each.buffers()) for each in (self.module, one)]
            for held, own in zip(*tensors, strict=True):
                if held is own:
                    raise TypeError(
                        "`from_module` must make a new module at every call, got parts that were there before; what "
                        "networks share must be a network of its own, as `encoder` in docs/register.md"
                    )
                held[replica].copy_(own)

    def forward(self, *inputs: Any, frozen: bool = False) -> Any:
        """Call each replica's module on its part of the tensors, (S, ...); numbers and None are the same for all."""
        held = {name: value.detach() if frozen else value for name, value in self._held()}
        axes = [0 if isinstance(each, Tensor) and each.ndim else None for each in inputs]

        def call(own: dict[str, Tensor], *parts: Any) -> Any:
            before = dict(own)
            found = functional_call(self.module, own, parts, tie_weights=False)
            for name, value in before.items():  # PyTorch notes there what was assigned, and puts the old one back
                if own[name] is not value:
                    raise TypeError(
                        f"a module must be a function of its inputs, got one that assigns `{name}`, "
                        "which would be forgotten; change it in the hook `after_update`"
                    )
            return found

        if self.replicas == 1:  # the module itself, which exports as it is
            alone = (each if axis is None else each[0] for axis, each in zip(axes, inputs, strict=True))
            found = call({name: value[0] for name, value in held.items()}, *alone)
            return tree_map(lambda value: value.unsqueeze(0), found)
        return vmap(call, in_dims=(0, *axes), randomness="different")(held, *inputs)

    def _held(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every place of a tensor once: a part that is used twice is one, a tensor of two parts has two.

        PyTorch's own way to tie them leaves the last call's tensors in a part that has two names.
        """
        for path, part in self.module.named_modules():
            for named in (part.named_parameters, part.named_buffers):
                yield from named(path, recurse=False, remove_duplicate=False)


class PlainObserver(PlainNetwork, ObservingNetwork):
    """The same, whose first input is observations, or what a features extractor makes of them."""

    def forward(self, *inputs: Any, frozen: bool = False) -> Any:
        """Call each replica's module."""
        observations, *others = inputs
        return super().forward(self.features(observations, frozen), *others, frozen=frozen)

    def at(self, observations: Any, frozen: bool = False) -> Velocity:
        """Fix the observations, as a velocity field does; the module is given the times t as a column, (N, 1)."""

        def velocity(x: Tensor, t: Time) -> Tensor:
            found: Tensor = self(observations, x, as_column(t, x), frozen=frozen)
            return found

        return velocity


def from_module(
    make: Callable[[Sizes], nn.Module],
    observes: bool = True,
    target: bool = False,
    **training: Any,
) -> NetworkSpec:
    """Return the spec of a network that is an ordinary module of one replica.

    :param make: makes the module from the sizes; it maps rows (N, ...) to rows.
    :param observes: whether its first input is observations.
    :param target: whether it has an exponential moving average.
    :param training: what it has of its own.
    :return: the spec.
    """
    kind = PlainObserver if observes else PlainNetwork
    return NetworkSpec(lambda n: kind(lambda: make(n), n.replicas), target, **training)


def _checked(module: Any) -> nn.Module:
    """Return a module; refuse what gives other results, or changes, when it is called again."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"`make` must return a torch.nn.Module, got {type(module).__name__}; return the module")
    for part in module.modules():
        for kind, reason in _REFUSED:
            does_nothing = not getattr(part, "track_running_stats", True) or getattr(part, "p", None) == 0
            if isinstance(part, kind) and not does_nothing:
                raise TypeError(f"a module must be a function of its inputs, got {type(part).__name__}, which {reason}")
        lost = [name for name, value in vars(part).items() if isinstance(value, Tensor) and value.is_leaf]
        if lost:
            raise TypeError(f"`{lost[0]}` of {type(part).__name__} would not be saved; give it to `register_buffer`")
    return module
