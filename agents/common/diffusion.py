"""What the algorithms with a diffusion policy share: networks, sampler and targets."""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack

from torch import Tensor

from agents.common.base import CommonArguments, FlowQLearning, GymEnv, Info, Targets
from agents.common.batch import Batch
from agents.common.maths.critic import action_gradient, td_target
from agents.common.maths.denoising import NoiseSchedule, denoise, noised
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


class DiffusionQLearning(FlowQLearning):
    """What algorithms with a diffusion policy share: networks, sampler and targets. Their losses are their own.

    ``flow_steps`` is the number of diffusion steps T.

    :param policy: see :class:`FlowQLearning`.
    :param env: see :class:`FlowQLearning`.
    :param bc_weight: weight w of the denoising loss on the data, ``alpha`` in the authors' code, >= 0.
    :param target_gradient: whether Q's action gradient comes from the target critics, not the online ones.
    :param sampler: mean of a reverse step: ``ddpm_clipped``, the posterior of the clipped estimate, ``ddpm`` without
        that clip, or ``jump`` to the estimate; see :func:`agents.common.maths.denoising.denoise`.
    :param clip_states: whether every state of the reverse chain is clipped to [-1, 1].
    :param beta_schedule: see :func:`agents.common.maths.denoising.noise_schedule`.
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
