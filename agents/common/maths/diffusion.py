r"""Diffusion policies: noise schedules, denoising chain, and what the algorithms on them share.

Step t = 0 is the clean action and t = T noise: :math:`x_t = \sqrt{\bar\alpha_t}\,a + \sqrt{1-\bar\alpha_t}\,\epsilon`
with :math:`\bar\alpha_t = \prod_{s\le t}(1-\beta_s)`. Shapes: S replicas, B rows, D flattened chunk.
"""

from __future__ import annotations

import math
from typing import Literal, TypedDict, Unpack

import torch
from torch import Tensor

from agents.common.base import CommonArguments, FlowQLearning, GymEnv, Info, Targets
from agents.common.data.batch import Batch
from agents.common.maths.critic import action_gradient, td_target
from agents.common.nets.heads import Network, Velocity
from agents.common.nets.specs import Networks, NetworkSpec, critic, noise_predictor
from agents.common.noise import Draw, Noise, integers, normal
from agents.common.policy import FlowPolicy
from agents.common.validation import boolean, integer, number, one_of

BetaSchedule = Literal["vp", "cosine", "linear"]
Sampler = Literal["ddpm", "ddpm_clipped", "jump"]


class DiffusionSettings(TypedDict, total=False):
    """Settings that the diffusion algorithms share; documented at :class:`DiffusionQLearning`."""

    bc_weight: float
    target_gradient: bool
    sampler: Sampler
    clip_states: bool
    beta_schedule: BetaSchedule
    time_features: int


class DiffusionArguments(CommonArguments, DiffusionSettings, total=False):
    """Everything that the diffusion algorithms hand on."""


def noise_schedule(kind: str, steps: int) -> Tensor:
    r"""Return the variances :math:`\beta_t` of the forward steps.

    ``vp`` discretises the variance-preserving SDE with rates from 0.1 to 10, ``cosine`` makes :math:`\bar\alpha` a
    squared cosine, ``linear`` goes from 1e-4 to 2e-2. Source: Song et al., Score-Based Generative Modeling through
    Stochastic Differential Equations, arXiv 2011.13456; Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic
    Models, arXiv 2102.09672; Ho et al., Denoising Diffusion Probabilistic Models, arXiv 2006.11239.

    :param kind: ``vp``, ``cosine`` or ``linear``.
    :param steps: T.
    :return: float32 (T + 1,); entry 0 is 0.
    """
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    if kind == "vp":
        betas = 1 - torch.exp(-0.1 / steps - 0.5 * 9.9 * (2 * t - 1) / steps**2)
    elif kind == "cosine":
        curve = torch.cos((torch.cat([t[:1] - 1, t]) / steps + 0.008) / 1.008 * math.pi / 2).square()
        betas = (1 - curve[1:] / curve[:-1]).clamp(0, 0.999)
    else:
        betas = torch.linspace(1e-4, 2e-2, steps, dtype=torch.float64)
    return torch.cat([torch.zeros(1), betas.float()])


class NoiseSchedule(Network):
    """A noise schedule as numbers for the denoising chain, and as a table on the device for steps drawn there.

    :param replicas: S.
    :param steps: T.
    :param kind: see :func:`noise_schedule`.
    """

    table: Tensor

    def __init__(self, replicas: int, steps: int, kind: str) -> None:
        super().__init__()
        betas = noise_schedule(kind, steps)
        alpha_bars = (1 - betas).cumprod(0)
        self.betas: list[float] = betas.tolist()
        self.alpha_bars: list[float] = alpha_bars.tolist()
        self.register_buffer("table", alpha_bars.repeat(replicas, 1))

    def alpha_bar(self, t: Tensor) -> Tensor:
        """Return the signal's share of the variance at steps drawn per row.

        :param t: integers 0..T stored as floats, (S, B).
        :return: (S, B, 1).
        """
        return self.table.gather(1, t.long()).unsqueeze(-1)


def noised(actions: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    r"""Return :math:`x_t = \sqrt{\bar\alpha_t}\,a + \sqrt{1-\bar\alpha_t}\,\epsilon`.

    :param actions: clean, (S, B, D).
    :param noise: standard normal, (S, B, D).
    :param alpha_bar: (S, B, 1).
    :return: (S, B, D).
    """
    return alpha_bar.sqrt() * actions + (1 - alpha_bar).sqrt() * noise


def denoise(
    predict: Velocity, x: Tensor, noise: Tensor, schedule: NoiseSchedule, sampler: str, clip_states: bool
) -> Tensor:
    r"""Follow the reverse chain from noise to actions.

    With the estimate :math:`\hat a = (x_t - \sqrt{1-\bar\alpha_t}\,\epsilon(x_t, t))/\sqrt{\bar\alpha_t}` of the clean
    action, the next state's mean is that of the posterior :math:`q(x_{t-1} | x_t, \hat a)` for ``ddpm``, the same with
    :math:`\hat a` clipped to [-1, 1] for ``ddpm_clipped``, and :math:`\hat a` itself for ``jump``; noise of variance
    :math:`\beta_t` is added to it, except at the end. Source: Ho et al., Denoising Diffusion Probabilistic Models,
    arXiv 2006.11239, sampling.

    :param predict: noise prediction, (x, t) -> eps.
    :param x: standard normal start, (S, B, D).
    :param noise: standard normal step noise in the order t = T..1, (S, T, B, D); the last is not used.
    :param schedule: of T steps.
    :param sampler: which mean.
    :param clip_states: whether every state is clipped to [-1, 1] after its step.
    :return: (S, B, D).
    """
    steps = noise.shape[1]
    for t in range(steps, 0, -1):
        beta, alpha_bar, before = schedule.betas[t], schedule.alpha_bars[t], schedule.alpha_bars[t - 1]
        estimate = (x - math.sqrt(1 - alpha_bar) * predict(x, t)) / math.sqrt(alpha_bar)
        if sampler == "jump":
            x = estimate
        else:
            estimate = estimate.clamp(-1, 1) if sampler == "ddpm_clipped" else estimate
            x = (math.sqrt(before) * beta * estimate + math.sqrt(1 - beta) * (1 - before) * x) / (1 - alpha_bar)
        if t > 1:
            x = x + math.sqrt(beta) * noise[:, steps - t]
        x = x.clamp(-1, 1) if clip_states else x
    return x


def row_mean(losses: Tensor, weight: Tensor) -> Tensor:
    """Return weighted rows' losses, averaged over coordinates and rows; the divisor counts every row.

    :param losses: (S, B, D).
    :param weight: (S, B).
    :return: (S,).
    """
    return (weight * losses.mean(-1)).mean(-1)


class DiffusionQLearning(FlowQLearning):
    """What algorithms with a diffusion policy share: networks, sampler and targets. Their losses are their own.

    ``flow_steps`` is the number of diffusion steps T.

    :param policy: see :class:`FlowQLearning`.
    :param env: see :class:`FlowQLearning`.
    :param bc_weight: weight w of the denoising loss on the data, ``alpha`` in the authors' code, >= 0.
    :param target_gradient: whether Q's action gradient comes from the target critics, not the online ones.
    :param sampler: mean of a reverse step: ``ddpm_clipped``, the posterior of the clipped estimate, ``ddpm`` without
        that clip, or ``jump`` to the estimate; see :func:`denoise`.
    :param clip_states: whether every state of the reverse chain is clipped to [-1, 1].
    :param beta_schedule: see :func:`noise_schedule`.
    :param time_features: Fourier features of the step, even, >= 2.
    :param max_grad_norm: bound on the joint gradient norm.
    :param common: the settings of :class:`FlowQLearning`.
    :raises ValueError: if ``time_features`` is odd.
    """

    def __init__(  # type: ignore[misc]  # `max_grad_norm` is a common setting with another default here
        self,
        policy: str | type[FlowPolicy],
        env: GymEnv | str | None,
        *,
        bc_weight: float = 1.0,
        target_gradient: bool = True,
        sampler: Sampler = "ddpm_clipped",
        clip_states: bool = False,
        beta_schedule: BetaSchedule = "vp",
        time_features: int = 64,
        max_grad_norm: float | None = 1.0,
        **common: Unpack[CommonArguments],
    ) -> None:
        self.bc_weight = number("bc_weight", bc_weight, at_least=0)
        self.target_gradient = boolean("target_gradient", target_gradient)
        self.sampler = one_of("sampler", sampler, ("ddpm", "ddpm_clipped", "jump"))
        self.clip_states = boolean("clip_states", clip_states)
        self.beta_schedule = one_of("beta_schedule", beta_schedule, ("vp", "cosine", "linear"))
        self.time_features = integer("time_features", time_features, at_least=2)
        if self.time_features % 2:
            raise ValueError(f"`time_features` must be even, cosines and sines in pairs, got {time_features}")
        super().__init__(policy, env, **{**common, "max_grad_norm": max_grad_norm})

    def networks(self) -> dict[str, NetworkSpec]:
        """Return critics, noise prediction and noise schedule."""
        return {
            "critic": critic(target=True),
            "denoiser": noise_predictor(self.time_features),
            "schedule": NetworkSpec(lambda n: NoiseSchedule(n.replicas, n.flow_steps, self.beta_schedule)),
        }

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the start of the reverse chain and its step noise."""
        return {"action": normal(), "denoise": normal("KBD")}

    def noise(self) -> dict[str, Draw]:
        """Return the draws of the denoising loss."""
        return {"diffusion_t": integers(), "diffusion_eps": normal()}

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of the denoising loss."""
        return {"bc": self.bc_weight}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Follow the reverse chain."""
        predict = nets.denoiser.at(observations)
        return denoise(predict, noise["action"], noise["denoise"], nets.schedule, self.sampler, self.clip_states)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target, noisy data actions, and Q's gradient there."""
        next_actions = self.next_actions(batch, noise, nets)
        next_q = nets.critic_target(batch.next_observations, next_actions)
        alpha_bar = nets.schedule.alpha_bar(noise["diffusion_t"])
        noisy = noised(batch.actions, noise["diffusion_eps"], alpha_bar)
        guide = nets.critic_target if self.target_gradient else nets.frozen.critic
        gradient = action_gradient(lambda actions: guide(batch.observations, actions).mean(1), noisy)
        info["q_gradient_norm"] = gradient.norm(dim=-1).mean(-1)
        return {
            "next_actions": next_actions,
            "td": td_target(batch, next_q, self.rho),
            "noisy": noisy,
            "gradient": gradient,
            "alpha_bar": alpha_bar,
        }
