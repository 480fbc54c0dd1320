"""What networks an algorithm has: how each is built and what follows it.

Each function here returns the spec of one network. ``target``: it has a target copy; ``time``: the flow time is an
input; ``role``: its part in pretraining; ``training``: what it has of its own, see
:class:`~agents.common.common_settings.NetworkOptions`, e.g. ``critic(learning_rate="cos_1e-3", tau=0.01)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils._pytree import tree_map

from agents.common.batch import Time, Velocity
from agents.common.common_settings import NetworkOptions
from agents.common.maths.denoising import BetaSchedule
from agents.common.nets.mlp import maybe_detach
from agents.common.nets.networks import (
    CriticEnsemble,
    GaussianMean,
    Multiplier,
    Network,
    Networks,
    NoisePredictor,
    NoiseSchedule,
    ObservingNetwork,
    Sizes,
    StateValue,
    TanhActor,
    TanhGaussian,
    Temperature,
    VelocityField,
    as_column,
)

__all__ = [
    "NetworkSpec", "Networks", "Role", "Sizes", "critic", "diffusion_schedule", "from_module", "gaussian_mean",
    "multiplier", "noise_predictor", "state_value", "tanh_actor", "tanh_gaussian", "temperature", "velocity_field",
]  # fmt: skip

Role = Literal["behaviour", "copy"]


class NetworkSpec:
    """One network of an algorithm.

    :param build: makes it from the sizes.
    :param target: whether it has an exponential moving average, named with ``_target``.
    :param role: its part in pretraining: the ``behaviour`` flow is cloned from the data, a ``copy`` starts equal to it;
        None has no part.
    :param follows_net_arch: whether its hidden widths are those of the setting `net_arch`.
    :param training: what it has of its own, see :class:`~agents.common.common_settings.NetworkOptions`.
    :raises TypeError: for an unknown name or a value of another type.
    :raises ValueError: for a value out of range, or one of a target where there is none.
    """

    def __init__(
        self,
        build: Callable[[Sizes], Network],
        target: bool = False,
        role: Role | None = None,
        follows_net_arch: bool = False,
        **training: Any,
    ) -> None:
        self.build = build
        self.target = target
        self.role = role
        self.follows_net_arch = follows_net_arch
        self.training = NetworkOptions(**training)
        if not target and (self.training.tau, self.training.target_every) != (None, 1):
            raise ValueError(
                "`tau` and `target_every` are of a target, and this network has none; leave them out"
            )


_MLPSpec = partial(NetworkSpec, follows_net_arch=True)


def critic(
    target: bool = True,
    time: bool = False,
    network: type[CriticEnsemble] = CriticEnsemble,
    width: Callable[[int], int] = int,
    **training: Any,
) -> NetworkSpec:
    """Return the spec of a critic ensemble; ``width`` gives, for D, the number of inputs beside features and time."""
    return _MLPSpec(lambda n: network(n, width(n.actions), time), target, **training)


def state_value(target: bool = False, **training: Any) -> NetworkSpec:
    """Return the spec of a state value."""
    return _MLPSpec(StateValue, target, **training)


def velocity_field(
    target: bool = False,
    time: bool = True,
    role: Role | None = None,
    noise_size: int | None = None,
    **training: Any,
) -> NetworkSpec:
    """Return the spec of a velocity field, or of a one-step map without ``time``; ``noise_size`` None is D."""
    return _MLPSpec(lambda n: VelocityField(n, time, noise_size), target, role, **training)


def noise_predictor(time_features: int = 64, **training: Any) -> NetworkSpec:
    """Return the spec of a diffusion policy's noise prediction, with Fourier features of the step."""
    return _MLPSpec(lambda n: NoisePredictor(n, time_features), **training)


def diffusion_schedule(kind: BetaSchedule) -> NetworkSpec:
    """Return the spec of a noise schedule: a network, since its table has the axis S and a device."""
    return NetworkSpec(lambda n: NoiseSchedule(n.replicas, n.flow_steps, kind))


def tanh_gaussian(given_action: bool = False, **training: Any) -> NetworkSpec:
    """Return the spec of a squashed Gaussian policy; an edit policy also sees the given action."""
    return _MLPSpec(lambda n: TanhGaussian(n, given_action), **training)


def tanh_actor(target: bool = False, head_scale: float = 0.01, **training: Any) -> NetworkSpec:
    """Return the spec of a deterministic tanh policy; ``head_scale`` is the variance scale of its last layer."""
    return _MLPSpec(lambda n: TanhActor(n, head_scale), target, **training)


def gaussian_mean(head_scale: float = 0.01, **training: Any) -> NetworkSpec:
    """Return the spec of a Gaussian policy's mean; ``head_scale`` is the variance scale of its last layer."""
    return _MLPSpec(lambda n: GaussianMean(n, head_scale), **training)


def multiplier(initial: float, budget: float) -> NetworkSpec:
    """Return the spec of a trust region's multiplier with a budget of the path KL."""
    return NetworkSpec(lambda n: Multiplier(n.replicas, initial, budget))


def temperature(initial: float = 1.0, **training: Any) -> NetworkSpec:
    """Return the spec of a learnt temperature, a positive scalar."""
    return NetworkSpec(lambda n: Temperature(n.replicas, initial), **training)


def from_module(
    make: Callable[[Sizes], nn.Module],
    observes: bool = True,
    target: bool = False,
    follows_net_arch: bool = False,
    **training: Any,
) -> NetworkSpec:
    """Return the spec of a network that is an ordinary module of one replica.

    :param make: makes the module from the sizes; it maps rows (B, ...) to rows.
    :param observes: whether its first input is observations.
    :param target: whether it has an exponential moving average.
    :param follows_net_arch: whether ``make`` takes hidden widths from ``actor_arch`` or ``critic_arch`` of the sizes.
    :param training: what it has of its own.
    :return: the spec.
    """
    kind = VmappedObserver if observes else VmappedModule
    return NetworkSpec(
        lambda n: kind(lambda: make(n), n.replicas),
        target,
        follows_net_arch=follows_net_arch,
        **training,
    )


def find_behaviour(specs: Mapping[str, NetworkSpec]) -> str | None:
    """Return the name of the behaviour flow.

    :param specs: an algorithm's networks.
    :return: its name; None where the algorithm has none.
    """
    behaviours = [name for name, spec in specs.items() if spec.role == "behaviour"]
    return behaviours[0] if behaviours else None


@torch.no_grad()
def start_from_behaviour(nets: Networks, specs: Mapping[str, NetworkSpec]) -> None:
    """Copy the behaviour flow into the networks that begin at it, and into their moving averages.

    :param nets: the networks.
    :param specs: their specs.
    """
    behaviour = find_behaviour(specs)
    assert behaviour is not None
    for name, spec in specs.items():
        network: Any = nets[name]
        if spec.role == "copy":
            _copy(nets[behaviour], network)
        if spec.role is not None and spec.target:
            _copy(network, nets[f"{name}_target"])


def _copy(source: nn.Module, copy: nn.Module) -> None:
    # buffers too: a features extractor may have statistics
    tensors = [*source.parameters(), *source.buffers()]
    torch._foreach_copy_([*copy.parameters(), *copy.buffers()], tensors)


def parameter_groups(
    nets: Networks, specs: Mapping[str, NetworkSpec], optimizer_class: type[torch.optim.Optimizer]
) -> list[dict[str, Any]]:
    """Return what is trained as groups of the optimiser: one of all, and one of each network with own options.

    :param nets: the networks, targets among them.
    :param specs: their specs.
    :param optimizer_class: that takes the groups.
    :return: the groups.
    :raises ValueError: if a network has options and no parameters, or a kind of Adam where another optimiser is used.
    """
    shared = []
    own_groups = []
    for name, network in nets.items():
        trained = [p for p in network.parameters() if p.requires_grad]
        options = {}
        if name in specs:  # a target's copy has no spec; nothing of it is trained
            options = specs[name].training.options()
        if not options:
            shared += trained
            continue
        if not trained:
            raise ValueError(
                f"network `{name}` has nothing that is trained by gradient, got {options} for it"
            )
        if "decoupled_weight_decay" in options and optimizer_class is not torch.optim.Adam:
            raise ValueError(
                f"`optimizer` of network `{name}` chooses between kinds of Adam, got `optimizer_class` = "
                f"{optimizer_class.__name__} for the policy; leave one of them out"
            )
        own_groups.append({"params": trained, "network": name, **options})
    if shared:
        own_groups.insert(0, {"params": shared})
    return own_groups


STATEFUL_MODULES = (
    nn.modules.batchnorm._NormBase,
    nn.utils.parametrizations._SpectralNorm,
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
    nn.modules.lazy.LazyModuleMixin,
    nn.RNNBase,
    torch.jit.ScriptModule,
)
"""Stateful or random modules, and those that `torch.func.vmap` cannot call for several seeds at once."""


class Slot(NamedTuple):
    """A parameter or buffer of a module: its part's dict, its name there and in the module, and its value in a call."""

    tensors: dict[str, Any]
    name: str
    path: str
    value: Tensor


class VmappedModule(Network):
    """S ordinary modules that know nothing of replicas: each sees its own rows, (B, ...), and draws its own weights.

    The first module made holds the parameters and buffers of all, with the leading axis S.

    :param make: makes the module of one replica.
    :param replicas: S.
    :raises TypeError: if what is made is no module, or one that cannot stand for several.
    """

    def __init__(self, make: Callable[[], nn.Module], replicas: int) -> None:
        super().__init__()
        self._make = make
        self.replicas = replicas
        self.module = _checked(make())
        for part in self.module.modules():
            part._non_persistent_buffers_set.clear()  # what is drawn at random must be saved
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            tensor.data = tensor.data.new_zeros(replicas, *tensor.shape)

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """Make the module of one replica; what that draws from PyTorch's global generator follows from its own."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            # on the CPU also where networks are built for their shapes alone
            seed = torch.randint(2**62, (), generator=generator, device="cpu")
            torch.default_generator.manual_seed(int(seed))
            module = self._make()
            tensors = [*self.module.parameters(), *self.module.buffers()]
            drawn = [*module.parameters(), *module.buffers()]
            for tensor, values in zip(tensors, drawn, strict=True):
                if tensor is values:
                    raise TypeError(
                        "`from_module` must make a new module at every call, got parts that were there before; what "
                        "networks share must be a network of its own, as `encoder` in docs/register.md"
                    )
                tensor[replica].copy_(values)

    def forward(self, *inputs: Any, frozen: bool = False) -> Any:
        """Call each replica's module on its part of the tensors, (S, ...); numbers and None are the same for all."""
        return self._call(self._slots(frozen), *inputs)

    def at(self, observations: Any, frozen: bool = False) -> Velocity:
        """Fix the observations, as a velocity field does; the module is given the times t as a column, (B, 1)."""
        # once for a chain of calls
        slots = self._slots(frozen)

        def velocity(x: Tensor, t: Time) -> Tensor:
            return self._call(slots, observations, x, as_column(t, x))

        return velocity

    def _slots(self, frozen: bool) -> list[Slot]:
        """Return where the module's parameters and buffers are, with what a call finds there."""
        slots = []
        # of every part, since a tensor of two parts has two slots
        for path, part in self.module.named_modules():
            for tensors in (part._parameters, part._buffers):
                for name, value in tensors.items():
                    if value is not None:
                        value = maybe_detach(value, frozen)
                        value = value if self.replicas > 1 else value.squeeze(0)
                        slots.append(Slot(tensors, name, f"{path}.{name}".lstrip("."), value))
        return slots

    def _call(self, slots: list[Slot], *inputs: Any) -> Any:
        """Call each replica's module with its tensors."""
        axes = [0 if isinstance(value, Tensor) and value.ndim else None for value in inputs]

        # `torch.func.functional_call` walks through the module's names twice, a tenth of calling a small one
        def call(values: list[Tensor], *rows: Any) -> Any:
            stacked = [slot.tensors[slot.name] for slot in slots]
            for slot, value in zip(slots, values, strict=True):
                slot.tensors[slot.name] = value
            try:
                outputs = self.module(*rows)
                for slot, value in zip(slots, values, strict=True):
                    if slot.tensors[slot.name] is not value:
                        raise TypeError(
                            f"a module must be a function of its inputs, got one that assigns `{slot.path}`, "
                            "which would be forgotten; change it in the hook `after_update`"
                        )
            finally:
                for slot, value in zip(slots, stacked, strict=True):
                    slot.tensors[slot.name] = value
            return outputs

        values = [slot.value for slot in slots]
        if self.replicas > 1:
            return vmap(call, in_dims=(0, *axes), randomness="different")(values, *inputs)
        # the module itself, which exports as it is
        rows = [
            value if axis is None else value[0] for axis, value in zip(axes, inputs, strict=True)
        ]
        outputs = call(values, *rows)
        return tree_map(lambda value: value.unsqueeze(0), outputs)


class VmappedObserver(VmappedModule, ObservingNetwork):
    """The same, whose first input is observations, or what a features extractor makes of them."""

    def forward(self, *inputs: Any, frozen: bool = False) -> Any:
        """Call each replica's module."""
        observations, *rows = inputs
        return super().forward(self.features(observations, frozen), *rows, frozen=frozen)

    def at(self, observations: Any, frozen: bool = False) -> Velocity:
        """Fix the observations, whose features are extracted once for a chain."""
        return super().at(self.features(observations, frozen), frozen)


def _checked(module: Any) -> nn.Module:
    """Return a module; refuse what gives other results, or changes, when it is called again."""
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"`make` must return a torch.nn.Module, got {type(module).__name__}; return the module"
        )
    for part in module.modules():
        is_instance_norm = isinstance(part, nn.modules.instancenorm._InstanceNorm)
        # without running statistics it treats each row by itself, as batch normalisation never does
        has_no_state = is_instance_norm and not part.track_running_stats
        is_switched_off = getattr(part, "p", None) == 0  # dropout
        if isinstance(part, STATEFUL_MODULES) and not (has_no_state or is_switched_off):
            raise TypeError(
                f"a module must be a function of its inputs, got {type(part).__name__}: leave out statistics of "
                "batches (use e.g. LayerNorm), random numbers (set a dropout's `p` to 0), lazy layers, recurrent ones "
                "(use e.g. GRUCell) and TorchScript"
            )
        for name, value in vars(part).items():
            # parameters and buffers are in dicts of their own, so this is a plain attribute
            if isinstance(value, Tensor) and value.is_leaf:
                raise TypeError(
                    f"`{name}` of {type(part).__name__} would not be saved; give it to `register_buffer`"
                )
    return module
