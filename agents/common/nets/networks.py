"""The networks of the algorithms, mostly MLPs; the tensors of a network contain S replicas, one per seed.

Shapes use S replicas, E ensemble members, B rows, K flow steps, O observation size, D flattened chunk. Common
arguments:

- ``sizes``: the sizes of the network;
- ``observations`` (S, B, O), ``actions`` (S, B, D), ``t`` times: a number, or a tensor that broadcasts to (..., 1);
- ``frozen``: the parameters are constants; only the inputs receive gradients.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from agents.common.batch import Time, Velocity
from agents.common.maths.flow import noise_schedule
from agents.common.nets.mlp import (
    ConditionedVelocity,
    StackedMLP,
    evaluate,
    fill_uniform,
    linear,
    maybe_detach,
)


@dataclass
class Sizes:
    """Sizes from which networks are built."""

    replicas: int  # S
    observations: int  # O, or the number of extracted features
    actions: int  # D, the flattened chunk
    ensemble: int  # E
    flow_steps: int  # K
    actor_arch: list[int]  # hidden layers of policies and velocity fields
    critic_arch: list[int]  # hidden layers of critics and state values
    actor_layer_norm: bool  # whether actor_arch's networks, except TanhGaussian, use LayerNorm
    critic_layer_norm: bool  # whether critics and state values use LayerNorm


class Network(nn.Module):
    """A network of an algorithm: all parameters and buffers have a leading replica axis S."""

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """Sample one replica's weights from a CPU generator, part by part."""
        for part in self.children():
            if isinstance(part, StackedMLP):
                part.initialise(replica, generator)


# the base classes of all kinds of batch normalisation and dropout have no public names
STATEFUL_LAYERS = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RReLU)


def is_stateful(layer: nn.Module) -> bool:
    """Return whether a layer in training mode samples random numbers, as dropout does, or updates statistics."""
    # instance normalisation tracks statistics only on request
    has_statistics = getattr(layer, "running_mean", None) is not None
    return has_statistics or isinstance(layer, STATEFUL_LAYERS)


class ObservingNetwork(Network):
    """A network whose first input is observations or, with a features extractor of its own, their features.

    An SB3 extractor maps rows ``(B, *observation shape)`` to features (B, F). An extractor with parameters needs S = 1,
    since its parameters have no axis S, unless it is an :class:`~agents.common.sb3.encoders.ImpalaEncoder`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features_extractor: nn.Module | None = None
        self.prepare_rows: Callable[[Tensor], Any] | None = None
        """Converts rows (B, O) to the extractor's input."""
        self.cached_features: list[tuple[Tensor, Tensor]] | None = None
        """Pairs of observations and their features; None outside :meth:`Networks.caching_features`."""
        self.repeats: list[tuple[Tensor, Tensor, int]] = []
        """Triples of repeated observations, the original observations, and the number of repeats."""

    def features(self, observations: Tensor, frozen: bool) -> Tensor:
        """Return the features (S, B, F) of observations or, without an extractor, the observations themselves."""
        if self.features_extractor is None:
            return observations
        for repeated, rows, times in self.repeats:
            if repeated is observations:
                return self.features(rows, frozen).repeat_interleave(times, dim=1)
        parts = self.features_extractor.modules()
        if self.cached_features is None or any(
            part.training and is_stateful(part) for part in parts
        ):
            return self._extract(observations, frozen)
        matches = [features for rows, features in self.cached_features if rows is observations]
        if not matches:
            # with gradients, since a later loss may need them even if this call does not
            with torch.enable_grad():
                matches = [self._extract(observations, False)]
            self.cached_features.append((observations, matches[0]))
        return matches[0] if torch.is_grad_enabled() and not frozen else matches[0].detach()

    def _extract(self, observations: Tensor, frozen: bool) -> Tensor:
        assert self.features_extractor is not None
        assert self.prepare_rows is not None
        rows = self.prepare_rows(observations.flatten(0, -2))
        parameters = self.features_extractor.named_parameters()
        # if this is empty, `functional_call` uses the extractor's own parameters
        constants = {name: value.detach() for name, value in parameters if frozen}
        features = functional_call(self.features_extractor, constants, (rows,))
        return features.unflatten(0, observations.shape[:-1])


class CriticEnsemble(ObservingNetwork):
    """Q_j(s, a), or Q_j(s, x, t) with ``time``: E members share the inputs; ``width`` is the size of a or x."""

    def __init__(self, sizes: Sizes, width: int, time: bool = False) -> None:
        super().__init__()
        layer_sizes = [sizes.observations + width + time, *sizes.critic_arch, 1]
        self.mlp = StackedMLP(
            (sizes.replicas, sizes.ensemble), layer_sizes, sizes.critic_layer_norm
        )

    def forward(
        self, observations: Tensor, actions: Tensor, t: Time | None = None, frozen: bool = False
    ) -> Tensor:
        """Return the Q values of all members, (S, E, B); ``t`` in [0, 1] is given only if the time is an input."""
        inputs = [self.features(observations, frozen), actions]
        if t is not None:
            inputs.append(as_column(t, actions))
        return self.mlp(torch.cat(inputs, -1), frozen).squeeze(-1)


class StateValue(ObservingNetwork):
    """V(s), one network per replica."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        layer_sizes = [sizes.observations, *sizes.critic_arch, 1]
        self.mlp = StackedMLP((sizes.replicas,), layer_sizes, sizes.critic_layer_norm)

    def forward(self, observations: Tensor, frozen: bool = False) -> Tensor:
        """Return the values, (S, B)."""
        return self.mlp(self.features(observations, frozen), frozen).squeeze(-1)


class VelocityField(ObservingNetwork):
    """v(s, x, t), with t as an unscaled input; without ``time``, a one-step map mu(s, z)."""

    def __init__(self, sizes: Sizes, time: bool = True, noise_size: int | None = None) -> None:
        super().__init__()
        self.split = [sizes.observations, noise_size or sizes.actions, *[1] * time]
        layer_sizes = [sum(self.split), *sizes.actor_arch, sizes.actions]
        self.mlp = StackedMLP((sizes.replicas,), layer_sizes, sizes.actor_layer_norm)

    def forward(self, observations: Tensor, z: Tensor, *, frozen: bool = False) -> Tensor:
        """Return the actions of a one-step map for noise z, (S, B, D)."""
        return self.at(observations, frozen)(z)

    def at(self, observations: Tensor, frozen: bool = False) -> ConditionedVelocity:
        """Return (x, t) -> velocity at fixed observations, which the first layer processes only once."""
        first, *later = self.mlp.layers(frozen)
        state_weight, x_weight, *time_weight = first.weight.split_with_sizes(self.split, dim=-2)
        features = self.features(observations, frozen)
        shared = linear(features, state_weight, first.bias, first.dtype)
        return ConditionedVelocity([first._replace(weight=x_weight), *later], shared, time_weight)


class NetworkViews:
    """Methods shared by :class:`Networks` and its views."""

    with_extractor: Callable[[], list[Any]]
    """Return the networks that have a features extractor."""
    __getitem__: Any

    @property
    def frozen(self) -> Any:
        """The same networks with constant weights: only their inputs receive gradients."""
        return NetworkView(lambda name: _FrozenNetwork(self[name]), self.with_extractor)

    def using(self, **substitutes: str) -> Any:
        """Return a view in which some names refer to other networks, e.g. ``actor="actor_target"``."""
        return NetworkView(lambda name: self[substitutes.get(name, name)], self.with_extractor)

    def recording(self, names: set[str]) -> Any:
        """Return a view that adds the name of every network it returns to the set ``names``."""

        def find(name: str) -> Any:
            names.add(name)
            return self[name]

        return NetworkView(find, self.with_extractor)

    @contextmanager
    def repeating(self, observations: Tensor, times: int) -> Iterator[Tensor]:
        """Yield repeated observations, (S, B * times, O); features are extracted from (S, B, O), then repeated."""
        repeated = observations.repeat_interleave(times, dim=1)
        networks = self.with_extractor()
        for network in networks:
            network.repeats.append((repeated, observations, times))
        try:
            yield repeated
        finally:
            for network in networks:
                network.repeats.pop()


@dataclass
class NetworkView(NetworkViews):
    """View of networks: a function returns the network for each name."""

    _find: Callable[[str], Any]
    with_extractor: Callable[[], list[Any]]

    def __getattr__(self, name: str) -> Any:
        return self._find(name)

    __getitem__ = __getattr__


class Networks(NetworkViews, nn.ModuleDict):
    """An algorithm's networks by name; in ``nets.frozen``, their parameters do not receive gradients.

    >>> nets = agents.FQL("MlpPolicy", "Pendulum-v1", horizon_length=1, ensemble_size=2).policy.nets
    >>> nets.critic_target(torch.zeros(1, 8, 3), torch.zeros(1, 8, 1)).shape  # (S, E, B)
    torch.Size([1, 2, 8])
    """

    with_target: tuple[str, ...] = ()
    """Names of the networks that have a target network."""

    def with_extractor(self) -> list[Any]:
        """Return the networks that have a features extractor."""
        networks = self.values()
        return [net for net in networks if getattr(net, "features_extractor", None) is not None]

    @contextmanager
    def caching_features(self) -> Iterator[None]:
        """Let each network extract an observation tensor's features only once; weights must not change in the block."""
        networks = self.with_extractor()
        for network in networks:
            network.cached_features = []
        try:
            yield
        finally:
            for network in networks:
                network.cached_features = None

    if TYPE_CHECKING:  # signatures of the networks differ

        def __getattr__(self, name: str) -> Any: ...

    def add_targets(self, names: Sequence[str]) -> None:
        """Add target networks, which are initialised as copies."""
        for name in names:
            if f"{name}_target" in self:
                raise ValueError(
                    f"`{name}_target` is the name of the target network of `{name}`, got another network with this "
                    f"name; rename it, or declare `{name}` with `target=False`"
                )
            self[f"{name}_target"] = copy.deepcopy(self[name]).requires_grad_(False)
        self.with_target = tuple(names)

    def train(self, mode: bool = True) -> Self:
        """Set PyTorch's training mode, except in target networks, which are always in evaluation mode."""
        super().train(mode)
        for name in self.with_target:
            self[f"{name}_target"].eval()
        return self


@dataclass
class _FrozenNetwork:
    network: Any

    def __call__(self, *inputs: Any) -> Any:
        return self.network(*inputs, frozen=True)

    def at(self, observations: Tensor) -> Any:
        return self.network.at(observations, frozen=True)


def as_column(t: Time, like: Tensor) -> Tensor:
    """Return times as one feature column for the rows of ``like``."""
    if not isinstance(t, Tensor):
        return torch.full_like(like[..., :1], t)
    return t.expand(*like.shape[:-1], 1)


class TanhGaussian(ObservingNetwork):
    """Squashed Gaussian: trunk with activated last layer, heads for the mean and the clipped log standard deviation."""

    def __init__(self, sizes: Sizes, given_action: bool) -> None:
        super().__init__()
        layer_sizes = [sizes.observations + given_action * sizes.actions, *sizes.actor_arch]
        self.trunk = StackedMLP((sizes.replicas,), layer_sizes, activate_final=True)
        ends = [layer_sizes[-1], sizes.actions]
        self.mean = StackedMLP((sizes.replicas,), ends)
        self.log_std = StackedMLP((sizes.replicas,), ends)

    def forward(
        self, observations: Tensor, *inputs: Tensor, frozen: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation (in [-20, 2]) before the squashing, (S, B, D) each."""
        hidden = self.trunk(torch.cat([self.features(observations, frozen), *inputs], -1), frozen)
        log_std = self.log_std(hidden, frozen).clamp(-20, 2)
        return self.mean(hidden, frozen), log_std


class GaussianMean(ObservingNetwork):
    """Mean of a Gaussian policy: trunk with activated last layer, and a head with small initial weights.

    The head's initial weights are uniform; their variance is 0.01 divided by the mean of fan-in and fan-out.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        layer_sizes = [sizes.observations, *sizes.actor_arch]
        self.trunk = StackedMLP(
            (sizes.replicas,), layer_sizes, sizes.actor_layer_norm, activate_final=True
        )
        ends = [layer_sizes[-1], sizes.actions]
        self.mean = StackedMLP((sizes.replicas,), ends)
        self.head_bound = math.sqrt(6 * 0.01 / sum(ends))

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """Sample one replica's weights, with a separate bound for the head."""
        self.trunk.initialise(replica, generator)
        fill_uniform(self.mean.weights[0], replica, self.head_bound, generator)

    def forward(self, observations: Tensor, frozen: bool = False) -> Tensor:
        """Return the mean actions, (S, B, D)."""
        return self.mean(self.trunk(self.features(observations, frozen), frozen), frozen)


class TanhActor(GaussianMean):
    """Deterministic policy: the Gaussian mean, squashed by tanh."""

    def forward(self, observations: Tensor, frozen: bool = False) -> Tensor:
        """Return the actions, (S, B, D) in (-1, 1)."""
        return super().forward(observations, frozen).tanh()


class Multiplier(Network):
    """State of a trust region: the multiplier, and the running average and the budget of the path KL."""

    value: Tensor
    kl_average: Tensor
    budget: Tensor

    def __init__(self, replicas: int, initial: float, budget: float) -> None:
        super().__init__()
        for name, start in {"value": initial, "kl_average": 0.0, "budget": budget}.items():
            self.register_buffer(name, torch.full((replicas,), float(start)))


class NoisePredictor(ObservingNetwork):
    """eps(s, x, t) of a diffusion policy, for integer steps t: learnt Fourier features of t pass through a time MLP.

    Inputs of the main MLP are x, s and the time MLP's output, in this order; activations are mish. The time MLP's last
    layer has no activation and has the size of the main MLP's last hidden layer.
    """

    FREQUENCIES = 32  # each gives a cosine and a sine

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        stack = (sizes.replicas,)
        time_sizes = [2 * self.FREQUENCIES, *sizes.actor_arch]
        self.split = [sizes.actions, sizes.observations, time_sizes[-1]]
        self.frequencies = nn.Parameter(torch.zeros(*stack, self.FREQUENCIES, 1))
        self.time_mlp = StackedMLP(stack, time_sizes, activation=F.mish)
        layer_sizes = [sum(self.split), *sizes.actor_arch, sizes.actions]
        self.mlp = StackedMLP(stack, layer_sizes, sizes.actor_layer_norm, activation=F.mish)

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """Sample one replica's weights, and its frequencies from N(0, 0.2^2)."""
        drawn = torch.randn(self.frequencies.shape[1:], generator=generator)
        self.frequencies.data[replica] = 0.2 * drawn
        super().initialise(replica, generator)

    def at(self, observations: Tensor, frozen: bool = False) -> Velocity:
        """Return (x, t) -> noise at fixed observations, as :meth:`VelocityField.at` does for velocities."""
        first, *later = self.mlp.layers(frozen)
        x_weight, state_weight, time_weight = first.weight.split_with_sizes(self.split, dim=-2)
        features = self.features(observations, frozen)
        shared = linear(features, state_weight, first.bias, first.dtype)

        frequencies = maybe_detach(self.frequencies, frozen).transpose(-2, -1)

        def predict(x: Tensor, t: Time) -> Tensor:
            # a single row suffices if all rows share the step
            column = t if isinstance(t, Tensor) else torch.full_like(x[:, :1, :1], t)
            angles = 2 * math.pi * column * frequencies
            embedded = self.time_mlp(torch.cat([angles.cos(), angles.sin()], -1), frozen)
            product = linear(x, x_weight, None, first.dtype)
            product = product + linear(embedded, time_weight, None, first.dtype) + shared
            return evaluate(later, first.epilogue(product))

        return predict


class NoiseSchedule(Network):
    """Noise schedule: Python numbers for the denoising chain, and a table on the device for random steps."""

    table: Tensor

    def __init__(self, replicas: int, steps: int) -> None:
        super().__init__()
        betas = noise_schedule(steps)
        alpha_bars = (1 - betas).cumprod(0)
        self.betas: list[float] = betas.tolist()
        self.alpha_bars: list[float] = alpha_bars.tolist()
        self.register_buffer("table", alpha_bars.repeat(replicas, 1))

    def alpha_bar(self, t: Tensor) -> Tensor:
        """Return the signal's share of the variance, (S, B, 1), at steps t, (S, B): integers 0..K stored as floats."""
        return self.table.gather(1, t.long()).unsqueeze(-1)


class Temperature(Network):
    """A learnt positive scalar per replica; its logarithm is the parameter."""

    def __init__(self, replicas: int, initial: float) -> None:
        super().__init__()
        self.log_value = nn.Parameter(torch.full((replicas,), math.log(initial)))

    def forward(self, frozen: bool = False) -> Tensor:
        """Return the temperature, (S,)."""
        return maybe_detach(self.log_value, frozen).exp()
