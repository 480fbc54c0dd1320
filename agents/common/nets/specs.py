"""What networks an algorithm has: how each is built and what follows it.

Each function here returns the spec of one network. ``target``: it has a target copy; ``time``: the flow time is an
input; ``role``: its part in pretraining; ``training``: what it has of its own, see
:class:`~agents.common.training.Training`, e.g. ``critic(learning_rate="cos_1e-3", tau=0.01)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from agents.common.nets.heads import CriticEnsemble, Network, Networks, StateValue, VelocityField
from agents.common.nets.policies import Multiplier, NoisePredictor, TanhActor, TanhGaussian, Temperature
from agents.common.training import Training

__all__ = [
    "NetworkSpec", "Networks", "Role", "Sizes", "critic", "multiplier", "noise_predictor", "state_value", "tanh_actor",
    "tanh_gaussian", "temperature", "velocity_field",
]  # fmt: skip

Role = Literal["behaviour", "copy", "residual"]


@dataclass(frozen=True)
class Sizes:
    """What networks are built from."""

    replicas: int  # S
    observations: int  # O, or the number of features where they are extracted
    actions: int  # D, the flattened chunk
    ensemble: int  # E
    flow_steps: int  # K
    actor_arch: list[int]  # hidden widths of policies and velocity fields
    critic_arch: list[int]  # hidden widths of critics and values
    actor_layer_norm: bool  # whether velocity fields are normalised
    critic_layer_norm: bool  # whether critics and values are normalised


class NetworkSpec:
    """One network of an algorithm.

    :param build: makes it from the sizes.
    :param target: whether it has an exponential moving average, named with ``_target``.
    :param role: its part in pretraining: the ``behaviour`` flow is cloned from the data, a ``copy`` starts equal to it,
        and a ``residual``, which is added to it, at zero; None has no part.
    :param training: what it has of its own, see :class:`~agents.common.training.Training`.
    :raises TypeError: for an unknown name or a value of another type.
    :raises ValueError: for a value out of range, or one of a target where there is none.
    """

    def __init__(
        self, build: Callable[[Sizes], Network], target: bool = False, role: Role | None = None, **training: Any
    ) -> None:
        self.build, self.target, self.role, self.training = build, target, role, Training(**training)
        if not target and (self.training.tau, self.training.target_every) != (None, 1):
            raise ValueError("`tau` and `target_every` are of a target, and this network has none; leave them out")

    def trained_with(self, own: Mapping[str, Any]) -> NetworkSpec:
        """Return the same network, trained otherwise."""
        return NetworkSpec(self.build, self.target, self.role, **{**self.training.settings(), **own})


def critic(
    target: bool = True,
    time: bool = False,
    network: type[CriticEnsemble] = CriticEnsemble,
    width: Callable[[int], int] = int,
    **training: Any,
) -> NetworkSpec:
    """Return the spec of a critic ensemble; ``width`` of D says how many inputs there are beside features and time."""
    return NetworkSpec(
        lambda n: network(
            n.replicas, n.observations, width(n.actions), n.ensemble, n.critic_arch, n.critic_layer_norm, time
        ),
        target,
        **training,
    )


def state_value(target: bool = False, **training: Any) -> NetworkSpec:
    """Return the spec of a state value."""
    return NetworkSpec(
        lambda n: StateValue(n.replicas, n.observations, n.critic_arch, n.critic_layer_norm), target, **training
    )


def velocity_field(target: bool = False, time: bool = True, role: Role | None = None, **training: Any) -> NetworkSpec:
    """Return the spec of a velocity field, or of a one-step map without ``time``."""
    return NetworkSpec(
        lambda n: VelocityField(n.replicas, n.observations, n.actions, n.actor_arch, n.actor_layer_norm, time),
        target,
        role,
        **training,
    )


def noise_predictor(time_features: int = 64, **training: Any) -> NetworkSpec:
    """Return the spec of a diffusion policy's noise prediction, with Fourier features of the step."""
    return NetworkSpec(
        lambda n: NoisePredictor(
            n.replicas, n.observations, n.actions, n.actor_arch, n.actor_layer_norm, time_features
        ),
        **training,
    )


def tanh_gaussian(given_action: bool = False, **training: Any) -> NetworkSpec:
    """Return the spec of a squashed Gaussian policy; an edit policy also sees the given action."""
    return NetworkSpec(
        lambda n: TanhGaussian(n.replicas, n.observations + given_action * n.actions, n.actions, n.actor_arch),
        **training,
    )


def tanh_actor(target: bool = False, head_scale: float = 0.01, **training: Any) -> NetworkSpec:
    """Return the spec of a deterministic tanh policy; ``head_scale`` is the variance scale of its last layer."""
    return NetworkSpec(
        lambda n: TanhActor(n.replicas, n.observations, n.actions, n.actor_arch, n.actor_layer_norm, head_scale),
        target,
        **training,
    )


def multiplier(initial: float, budget: float) -> NetworkSpec:
    """Return the spec of a trust region's multiplier with a budget of the path KL."""
    return NetworkSpec(lambda n: Multiplier(n.replicas, initial, budget))


def temperature(initial: float = 1.0, **training: Any) -> NetworkSpec:
    """Return the spec of a learnt temperature, a positive scalar."""
    return NetworkSpec(lambda n: Temperature(n.replicas, initial), **training)
