"""DAC: diffusion actor-critic, whose Q term is linear in the predicted noise."""

from __future__ import annotations

from torch import Tensor

from agents.common.maths.flow import Sampler, add_noise, denoise
from agents.common.nets.specs import diffusion_schedule
from agents.core import (
    Batch,
    Draw,
    Info,
    Losses,
    Method,
    Networks,
    NetworkSpec,
    Noise,
    Targets,
    action_gradient,
    critic,
    integers,
    log_range,
    noise_predictor,
    normal,
    setting,
)


class DAC(Method):
    r"""A diffusion policy is cloned from the data while its noise prediction is pushed along Q's negative gradient.

    At noisy dataset actions :math:`x_t`, with :math:`g = \nabla_x \bar Q'(s, x_t)`:

    .. math:: L = L_{TD} + w\,\mathbb{E}\lVert\epsilon_\theta(s, x_t, t) - \epsilon\rVert^2 / D
        + \mathbb{E}\sqrt{1-\bar\alpha_t}\;g^\top\epsilon_\theta(s, x_t, t) / D

    The last two terms are minimal at the noise prediction :math:`\epsilon_\beta - \sqrt{1-\bar\alpha_t}\,g/(2w)`. This
    is the noise prediction for :math:`\pi_\beta e^{Q/(2w)}`, except that its Q gradient is not damped at high noise
    levels, so guidance overshoots there.

    Source: Fang et al., Diffusion Actor-Critic, arXiv 2405.20555; the form here is the baseline of Li and Levine, arXiv
    2601.14234.
    """

    flow_steps: int = setting(
        default=10,
        reference="diffusion_steps",
        fixed="the noise schedule is built with it",
        doc="Number K of diffusion steps.",
    )
    bc_weight: float = setting(
        default=1.0,
        reference="alpha",
        at_least=0,
        search=log_range(0.1, 100.0),
        doc="Weight w of the denoising loss, which clones the data.",
    )
    sampler: Sampler = setting(
        default="ddpm_clipped",
        reference="clip_sampler_before",
        doc="Mean of a reverse step, computed from an estimate of the clean action: the posterior mean given the "
        "clipped (`ddpm_clipped`) or unclipped estimate (`ddpm`), or the estimate itself (`jump`); see `denoise`.",
    )
    clip_states: bool = setting(
        default=False,
        reference="clip_sampler_after",
        doc="Clip every state of the reverse chain to [-1, 1].",
    )
    max_grad_norm: float | None = setting(default=1.0, reference="clip_grad_norm")

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics, the noise predictor and the noise schedule."""
        return {
            "critic": critic(target=True),
            "denoiser": noise_predictor(),
            "schedule": diffusion_schedule(),
        }

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the initial noise and the step noise of the reverse chain."""
        return {"action": normal(), "denoise": normal("KBD")}

    def noise(self) -> dict[str, Draw]:
        """Return the noise and diffusion steps of the denoising loss."""
        return {"diffusion_t": integers(), "diffusion_eps": normal()}

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of the denoising loss."""
        return {"bc": self.bc_weight}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Sample with the reverse chain."""
        predict = nets.denoiser.at(observations)
        return denoise(
            predict,
            noise["action"],
            noise["denoise"],
            nets.schedule,
            self.sampler,
            self.clip_states,
        )

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target, and noisy dataset actions with their noise levels and Q's gradients."""
        alpha_bar = nets.schedule.alpha_bar(noise["diffusion_t"])
        noisy = add_noise(batch.actions, noise["diffusion_eps"], alpha_bar)
        # the critics' mean: only the TD target is pessimistic
        gradient = action_gradient(
            lambda actions: nets.critic_target(batch.observations, actions).mean(1), noisy
        )
        info["q_gradient_norm"] = gradient.norm(dim=-1).mean(-1)
        return {
            **self.td_targets(batch, noise, nets),
            "noisy": noisy,
            "gradient": gradient,
            "alpha_bar": alpha_bar,
        }

    def actor_losses(self, predicted: Tensor, targets: Targets) -> Tensor:
        """Return the linear Q terms.

        :param predicted: the policy's noise prediction at the noisy dataset actions, (S, B, D).
        :param targets: from :meth:`targets`.
        :return: (S, B, D).
        """
        # adds Q's gradient to the score, which is minus the noise divided by sqrt(1 - alpha_bar)
        return (1 - targets["alpha_bar"]).sqrt() * targets["gradient"] * predicted

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD loss, the denoising loss and the policy's Q term."""
        predict = nets.denoiser.at(batch.observations)
        predicted = predict(targets["noisy"], noise["diffusion_t"].unsqueeze(-1))
        errors = (noise["diffusion_eps"] - predicted).square()
        actor_losses = self.actor_losses(predicted, targets)
        return {
            "td": self.critic_loss(batch, targets, nets, info),
            "bc": (batch.valid * errors.mean(-1)).mean(-1),
            "actor": (batch.valid * actor_losses.mean(-1)).mean(-1),
        }
