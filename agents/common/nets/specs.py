"""Network declarations: how a network is built, and whether it has a target network.

Functions such as :func:`critic` return the spec of one network. ``target``: whether the network has a target network;
``time``: whether the flow time is an input; ``role``: its part in pretraining; ``training``: its training options, see
:class:`~agents.common.common_settings.NetworkOptions`.

>>> networks = {
...     "critic": critic(learning_rate="cos_1e-3", tau=0.01),
...     "behaviour": velocity_field(role="behaviour"),
...     "actor": tanh_gaussian(),
...     "temperature": temperature(initial=0.1),
... }
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch import nn

from agents.common.common_settings import NetworkOptions
from agents.common.nets.modules import VmappedModule, VmappedObserver, checked_module
from agents.common.nets.networks import (
    CriticEnsemble,
    GaussianMean,
    Multiplier,
    Network,
    Networks,
    NoisePredictor,
    NoiseSchedule,
    Sizes,
    StateValue,
    TanhActor,
    TanhGaussian,
    Temperature,
    VelocityField,
)

Role = Literal["behaviour", "copy"]


class NetworkSpec:
    """Declaration of one network of an algorithm.

    :param build: function that makes the network from the sizes.
    :param target: whether there is a target network, an exponential moving average named ``<name>_target``.
    :param role: part in pretraining: the ``behaviour`` flow is trained by cloning, and a ``copy`` is initialised from
        the flow; None: not part of pretraining.
    :param training: training options, see :class:`~agents.common.common_settings.NetworkOptions`.
    :raises TypeError: for an unknown option or a value of another type.
    :raises ValueError: for a value out of range, or an option of target networks if the network has none.

    >>> NetworkSpec(lambda sizes: CriticEnsemble(sizes, sizes.actions, False), target=True).target
    True
    """

    def __init__(
        self,
        build: Callable[[Sizes], Network],
        target: bool = False,
        role: Role | None = None,
        **training: Any,
    ) -> None:
        self.build = build
        self.target = target
        self.role = role
        self.training = NetworkOptions(**training)
        if not target and (self.training.tau, self.training.target_every) != (None, 1):
            raise ValueError(
                "`tau` and `target_every` need a target network, and this network has none; "
                "leave them out"
            )


def critic(target: bool = True, time: bool = False, **training: Any) -> NetworkSpec:
    """Return the spec of a critic ensemble."""
    return NetworkSpec(lambda n: CriticEnsemble(n, n.actions, time), target, **training)


def state_value(target: bool = False, **training: Any) -> NetworkSpec:
    """Return the spec of a state-value network."""
    return NetworkSpec(StateValue, target, **training)


def velocity_field(
    target: bool = False,
    time: bool = True,
    role: Role | None = None,
    noise_size: int | None = None,
    **training: Any,
) -> NetworkSpec:
    """Return the spec of a velocity field or, without ``time``, of a one-step map; ``noise_size`` None means D."""
    return NetworkSpec(lambda n: VelocityField(n, time, noise_size), target, role, **training)


def noise_predictor(**training: Any) -> NetworkSpec:
    """Return the spec of a noise predictor, with Fourier features of the diffusion step."""
    return NetworkSpec(NoisePredictor, **training)


def diffusion_schedule() -> NetworkSpec:
    """Return the spec of a noise schedule, which is a network because its table has the axis S and a device."""
    return NetworkSpec(lambda n: NoiseSchedule(n.replicas, n.flow_steps))


def tanh_gaussian(given_action: bool = False, **training: Any) -> NetworkSpec:
    """Return the spec of a squashed Gaussian policy; ``given_action`` adds an action to the inputs (edit policy)."""
    return NetworkSpec(lambda n: TanhGaussian(n, given_action), **training)


def tanh_actor(target: bool = False, **training: Any) -> NetworkSpec:
    """Return the spec of a deterministic tanh policy."""
    return NetworkSpec(TanhActor, target, **training)


def gaussian_mean(**training: Any) -> NetworkSpec:
    """Return the spec of a Gaussian policy's mean."""
    return NetworkSpec(GaussianMean, **training)


def multiplier(initial: float, budget: float) -> NetworkSpec:
    """Return the spec of a trust region's multiplier, which keeps the path KL within a budget."""
    return NetworkSpec(lambda n: Multiplier(n.replicas, initial, budget))


def temperature(initial: float = 1.0, **training: Any) -> NetworkSpec:
    """Return the spec of a learnt temperature, a positive scalar."""
    return NetworkSpec(lambda n: Temperature(n.replicas, initial), **training)


def from_module(
    make: Callable[[Sizes], nn.Module],
    observes: bool = True,
    target: bool = False,
    **training: Any,
) -> NetworkSpec:
    """Return the spec of a network made of one ordinary module per replica.

    :param make: function that makes the module from the sizes; the module maps rows (B, ...) to rows.
    :param observes: whether the first input is observations.
    :param target: whether the network has a target network.
    :param training: training options.
    :return: the spec.

    >>> reward_model = from_module(lambda n: nn.Linear(n.observations, 1))
    >>> reward_model.target
    False
    """
    kind = VmappedObserver if observes else VmappedModule
    return NetworkSpec(
        lambda n: kind(lambda: checked_module(make(n)), n.replicas), target, **training
    )


def find_behaviour(specs: Mapping[str, NetworkSpec]) -> str | None:
    """Return the name of the behaviour flow among an algorithm's networks; None if it has none."""
    return next((name for name, spec in specs.items() if spec.role == "behaviour"), None)


def require_behaviour(method: Any, replacement: str | None = None) -> str:
    """Return the name of an algorithm's behaviour flow.

    :param method: the algorithm.
    :param replacement: the replacement of pretraining, as named in the message; None if there is none.
    :return: the flow's name.
    :raises ValueError: if the algorithm has no behaviour flow, or if a replaced flow is to be pretrained.
    """
    behaviour = find_behaviour(method.specs())
    if behaviour is None:
        raise ValueError(
            f"{type(method).__name__} has no behaviour flow to pretrain or to replace; declare one with "
            '`role="behaviour"`, or use an algorithm with one, such as QAM'
        )
    if replacement and method.pretraining_steps:
        raise ValueError(
            f"{replacement} replaces pretraining, got `pretraining_steps` = {method.pretraining_steps}; set it to 0 "
            "(--pretraining-steps 0)"
        )
    return behaviour


def start_from_behaviour(nets: Networks, specs: Mapping[str, NetworkSpec]) -> None:
    """Copy the behaviour flow into its target network, and into networks initialised from it and their targets.

    :param nets: the networks.
    :param specs: their specs.
    """
    behaviour = find_behaviour(specs)
    assert behaviour is not None
    # buffers too: a features extractor may have statistics
    state = nets[behaviour].state_dict()
    for name, spec in specs.items():
        if spec.role is None:
            continue
        nets[name].load_state_dict(state)
        if spec.target:
            nets[f"{name}_target"].load_state_dict(state)


def parameter_groups(nets: Networks, specs: Mapping[str, NetworkSpec]) -> list[dict[str, Any]]:
    """Return the optimiser's parameter groups: a shared one, and one per network with options.

    :param nets: the networks; target networks, which have no spec, are not trained by gradient.
    :param specs: their specs.
    :return: the groups.
    """
    shared = []
    own_groups = []
    for name, spec in specs.items():
        trained = [p for p in nets[name].parameters() if p.requires_grad]
        options = spec.training.options()
        if not options:
            shared += trained
            continue
        own_groups.append({"params": trained, "network": name, **options})
    if shared:
        own_groups.insert(0, {"params": shared})
    return own_groups
