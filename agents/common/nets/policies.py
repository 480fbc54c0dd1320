"""Networks besides critics, values and velocity fields: Gaussian, deterministic and diffusion policies, scalars.

Shapes and arguments are those of :mod:`agents.common.nets.heads`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.common.nets.fast import make_mlp
from agents.common.nets.heads import Network, ObservingNetwork, Time, Velocity
from agents.common.nets.mlp import fill_uniform, maybe_detach

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class TanhGaussian(ObservingNetwork):
    """Squashed Gaussian: trunk with activated last layer, heads for the mean and the clipped log standard deviation."""

    def __init__(self, replicas: int, input_size: int, action_size: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.trunk = make_mlp((replicas,), [input_size, *hidden], activate_final=True)
        ends = [[input_size, *hidden][-1], action_size]
        self.mean, self.log_std = make_mlp((replicas,), ends), make_mlp((replicas,), ends)

    def forward(self, observations: Tensor, *inputs: Tensor, frozen: bool = False) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation, in [-20, 2], before the squash, (S, N, D) each."""
        hidden = self.trunk(torch.cat([self.features(observations, frozen), *inputs], -1), frozen)
        return self.mean(hidden, frozen), self.log_std(hidden, frozen).clamp(LOG_STD_MIN, LOG_STD_MAX)


class TanhActor(ObservingNetwork):
    """Deterministic policy: trunk with activated last layer, a head with small initial weights, tanh.

    The head's initial weights are uniform, of variance ``head_scale`` over the mean of the fans.
    """

    def __init__(
        self,
        replicas: int,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        layer_norm: bool = False,
        head_scale: float = 0.01,
    ) -> None:
        super().__init__()
        self.trunk = make_mlp((replicas,), [observation_size, *hidden], layer_norm, activate_final=True)
        ends = [[observation_size, *hidden][-1], action_size]
        self.mean = make_mlp((replicas,), ends)
        self.head_bound = math.sqrt(3 * head_scale / (sum(ends) / 2))

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """Draw one replica's weights, those of the head in its own bounds."""
        self.trunk.initialise(replica, generator)
        fill_uniform(self.mean.weights[0], replica, self.head_bound, generator)

    def forward(self, observations: Tensor, frozen: bool = False) -> Tensor:
        """Return the actions, (S, N, D) in (-1, 1)."""
        return self.mean(self.trunk(self.features(observations, frozen), frozen), frozen).tanh()


class Multiplier(Network):
    """State of a trust region: multiplier, running average of the path KL, and the budget it is held against."""

    value: Tensor
    kl_average: Tensor
    budget: Tensor

    def __init__(self, replicas: int, initial: float, budget: float) -> None:
        super().__init__()
        self.register_buffer("value", torch.full((replicas,), float(initial)))
        self.register_buffer("kl_average", torch.zeros(replicas))
        self.register_buffer("budget", torch.full((replicas,), float(budget)))


class NoisePredictor(ObservingNetwork):
    """eps(s, x, t) of a diffusion policy, for integer steps t: learnt Fourier features of t pass their own MLP.

    The main MLP sees x, s and that MLP's output, in this order; activations are mish. ``time_features`` counts cosines
    and sines together; the time MLP ends, without activation, in the last of ``hidden``.
    """

    def __init__(
        self,
        replicas: int,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        layer_norm: bool = False,
        time_features: int = 64,
    ) -> None:
        super().__init__()
        self.split = [action_size, observation_size, [time_features, *hidden][-1]]
        self.frequencies = nn.Parameter(torch.zeros(replicas, time_features // 2, 1))
        self.time_mlp = make_mlp((replicas,), [time_features, *hidden], activation=F.mish)
        self.mlp = make_mlp((replicas,), [sum(self.split), *hidden, action_size], layer_norm, activation=F.mish)

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """Draw one replica's weights, and its frequencies from N(0, 0.2^2)."""
        with torch.no_grad():
            self.frequencies[replica].copy_(0.2 * torch.randn(self.frequencies.shape[1:], generator=generator))
        super().initialise(replica, generator)

    def forward(self, observations: Tensor, x: Tensor, t: Time, frozen: bool = False) -> Tensor:
        """Predict the noise in noisy actions x, (S, N, D)."""
        return self.at(observations, frozen)(x, t)

    def at(self, observations: Tensor, frozen: bool = False) -> Velocity:
        """Fix the observations, as :meth:`VelocityField.at` does: (x, t) -> noise."""
        first, *others = self.mlp.layers(frozen)
        of_x, of_observation, of_time = first.weight.split(self.split, dim=-2)
        dense = self.mlp.dense
        shared = dense(self.features(observations, frozen), of_observation, first.bias, first.dtype)

        def predict(x: Tensor, t: Time) -> Tensor:
            embedded = self._embed(t, x, frozen)
            product = dense(x, of_x, None, first.dtype) + dense(embedded, of_time, None, first.dtype) + shared
            return self.mlp.evaluate(others, first.finish(product))

        return predict

    def _embed(self, t: Time, like: Tensor, frozen: bool) -> Tensor:
        """Return the time MLP's output; one row when all rows share the step."""
        column = t if isinstance(t, Tensor) else torch.full_like(like[:, :1, :1], t)
        angles = 2 * math.pi * column * maybe_detach(self.frequencies, frozen).transpose(-2, -1)
        return self.time_mlp(torch.cat([angles.cos(), angles.sin()], -1), frozen)


class Temperature(Network):
    """A learnt positive scalar per replica, exp(l)."""

    def __init__(self, replicas: int, initial: float = 1.0) -> None:
        super().__init__()
        self.log_value = nn.Parameter(torch.full((replicas,), math.log(initial)))

    def forward(self, frozen: bool = False) -> Tensor:
        """Return the temperature, (S,)."""
        return maybe_detach(self.log_value, frozen).exp()


def tanh_gaussian_sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return a squashed sample and its log density.

    :math:`y = \tanh u,\; \log\pi(y) = \sum_d \log N(u_d) - 2(\log 2 - u_d - \mathrm{softplus}(-2u_d))`

    The density comes from the pre-tanh value, so that saturated samples stay finite.

    :param mean: (..., D).
    :param log_std: (..., D).
    :param noise: standard normal, (..., D).
    :return: y (..., D) in [-1, 1] and log pi (...,).
    """
    pre_tanh = mean + log_std.exp() * noise
    return pre_tanh.tanh(), tanh_gaussian_log_prob(mean, log_std, pre_tanh)


def tanh_gaussian_log_prob(mean: Tensor, log_std: Tensor, pre_tanh: Tensor) -> Tensor:
    """Return the log density of tanh(u), (...,), at a pre-tanh value u; all arguments are (..., D)."""
    normal = -0.5 * ((pre_tanh - mean) / log_std.exp()).square() - log_std - 0.5 * math.log(2 * math.pi)
    squash = 2 * (math.log(2) - pre_tanh - F.softplus(-2 * pre_tanh))
    return (normal - squash).sum(-1)
