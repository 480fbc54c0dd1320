"""What networks an algorithm has: how each is built and what follows it.

Each function here returns the spec of one network. ``target``: it has a target copy; ``tau``: the weight with which the
copy follows, instead of the setting `tau`; ``time``: the flow time is an input; ``role``: its part in pretraining.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from agents.common.nets.heads import CriticEnsemble, Network, Networks, StateValue, VelocityField
from agents.common.nets.policies import Multiplier, NoisePredictor, TanhActor, TanhGaussian, Temperature

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


@dataclass(frozen=True)
class NetworkSpec:
    """One network of an algorithm.

    :param build: makes it from the sizes.
    :param target: whether it has an exponential moving average, named with ``_target``.
    :param role: its part in pretraining: the ``behaviour`` flow is cloned from the data, a ``copy`` starts equal to it,
        and a ``residual``, which is added to it, at zero; None has no part.
    :param tau: Polyak weight of its moving average; None for the one of the setting `tau`.
    """

    build: Callable[[Sizes], Network]
    target: bool = False
    role: Role | None = None
    tau: float | None = None


def critic(target: bool = True, time: bool = False, tau: float | None = None) -> NetworkSpec:
    """Return the spec of a critic ensemble."""
    return NetworkSpec(
        lambda n: CriticEnsemble(
            n.replicas, n.observations, n.actions, n.ensemble, n.critic_arch, n.critic_layer_norm, time
        ),
        target,
        tau=tau,
    )


def state_value(target: bool = False, tau: float | None = None) -> NetworkSpec:
    """Return the spec of a state value."""
    return NetworkSpec(
        lambda n: StateValue(n.replicas, n.observations, n.critic_arch, n.critic_layer_norm), target, tau=tau
    )


def velocity_field(
    target: bool = False, time: bool = True, role: Role | None = None, tau: float | None = None
) -> NetworkSpec:
    """Return the spec of a velocity field, or of a one-step map without ``time``."""
    return NetworkSpec(
        lambda n: VelocityField(n.replicas, n.observations, n.actions, n.actor_arch, n.actor_layer_norm, time),
        target,
        role,
        tau,
    )


def noise_predictor(time_features: int = 64) -> NetworkSpec:
    """Return the spec of a diffusion policy's noise prediction, with Fourier features of the step."""
    return NetworkSpec(
        lambda n: NoisePredictor(n.replicas, n.observations, n.actions, n.actor_arch, n.actor_layer_norm, time_features)
    )


def tanh_gaussian(given_action: bool = False) -> NetworkSpec:
    """Return the spec of a squashed Gaussian policy; an edit policy also sees the given action."""
    return NetworkSpec(
        lambda n: TanhGaussian(n.replicas, n.observations + given_action * n.actions, n.actions, n.actor_arch)
    )


def tanh_actor(target: bool = False, head_scale: float = 0.01, tau: float | None = None) -> NetworkSpec:
    """Return the spec of a deterministic tanh policy; ``head_scale`` is the variance scale of its last layer."""
    return NetworkSpec(
        lambda n: TanhActor(n.replicas, n.observations, n.actions, n.actor_arch, n.actor_layer_norm, head_scale),
        target,
        tau=tau,
    )


def multiplier(initial: float, budget: float) -> NetworkSpec:
    """Return the spec of a trust region's multiplier with a budget of the path KL."""
    return NetworkSpec(lambda n: Multiplier(n.replicas, initial, budget))


def temperature(initial: float = 1.0) -> NetworkSpec:
    """Return the spec of a learnt temperature."""
    return NetworkSpec(lambda n: Temperature(n.replicas, initial))
