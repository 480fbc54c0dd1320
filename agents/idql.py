"""IDQL: implicit Q-learning with a diffusion policy, whose best sample is executed."""

from __future__ import annotations

from torch import Tensor

from agents.common.common_settings import checked_rate
from agents.common.maths.critic import implicit_targets, implicit_value_loss
from agents.common.maths.flow import add_noise, denoise
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
    choice,
    critic,
    integers,
    linear_range,
    noise_predictor,
    normal,
    setting,
    state_value,
)


class IDQL(Method):
    r"""Values are learnt from dataset actions alone; the best of N samples of a cloned diffusion policy is executed.

    .. math:: L = \mathbb{E}\,|\kappa - 1[u < 0]|\,u^2 + \mathbb{E}\,(Q(s, a) - R - \gamma^H M V(s'))^2
        + \mathbb{E}\lVert\epsilon_\theta(s, x_t, t) - \epsilon\rVert^2, \qquad u = Q'_{min}(s, a) - V(s)

    Samples come from a slow moving average of the policy, and the target critics choose among them.

    Source: Hansen-Estruch et al., IDQL, arXiv 2304.10573, and the authors' code (github.com/philippe-eecs/IDQL,
    ``jaxrl5/agents/ddpm_iql``).
    """

    samples_next_action = False

    expectile: float = setting(
        default=0.9,
        reference="critic_hyperparam",
        above=0,
        below=1,
        search=linear_range(0.5, 0.99),
        doc="Expectile kappa of the value loss.",
    )
    policy_tau: float = setting(
        default=0.001,
        reference="actor_tau",
        at_least=0,
        at_most=1,
        doc="Rate at which the policy's moving average, used for acting, tracks the policy.",
    )
    policy_learning_rate: float | str | None = setting(
        default=None,
        reference="actor_lr",
        check=checked_rate,
        doc="Learning rate of the policy; None means `learning_rate`.",
    )
    flow_steps: int = setting(
        default=5,
        reference="T",
        fixed="the noise schedule is built with it",
        doc="Number K of diffusion steps.",
    )
    best_of_n: int = setting(default=64, reference="N", search=choice(16, 64, 256))
    ensemble_size: int = setting(default=2)
    rho: float = setting(default=1.0, doc="Pessimism; with two critics, 1 gives their minimum.")

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics, the state value, the noise predictor with its moving average, and the noise schedule."""
        return {
            "critic": critic(),
            "value": state_value(),
            # the weight decay is the default of optax's AdamW
            "denoiser": noise_predictor(
                target=True,
                tau=self.policy_tau,
                learning_rate=self.policy_learning_rate,
                weight_decay=1e-4,
            ),
            "schedule": diffusion_schedule(),
        }

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the initial noise and the step noise of the reverse chain."""
        return {"action": normal(), "denoise": normal("KBD")}

    def noise(self) -> dict[str, Draw]:
        """Return the noise and diffusion steps of the denoising loss."""
        return {"diffusion_t": integers(), "diffusion_eps": normal()}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Sample with the reverse chain of the policy's moving average."""
        predict = nets.denoiser_target.at(observations)
        return denoise(
            predict, noise["action"], noise["denoise"], nets.schedule, "ddpm", clip_states=True
        )

    def score(self, observations: Tensor, actions: Tensor, nets: Networks) -> Tensor:
        """Score candidates by the minimum of the target critics."""
        # the minimum, not the mean, since the best of many candidates is often overestimated
        return nets.critic_target(observations, actions).amin(1)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the critics' target (from V at the next state) and V's target (from the target critics)."""
        return implicit_targets(batch, nets, self.rho)

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the expectile, TD and denoising losses."""
        td = self.critic_loss(batch, targets, nets, info)
        value = implicit_value_loss(
            batch, targets["value"], batch.valid, nets, self.expectile, info
        )
        step = noise["diffusion_t"]
        eps = noise["diffusion_eps"]
        noisy = add_noise(batch.actions, eps, nets.schedule.alpha_bar(step))
        predicted = nets.denoiser.at(batch.observations)(noisy, step.unsqueeze(-1))
        # summed over coordinates, as in the formula; QSM and DAC take the mean
        denoising = (batch.valid * (eps - predicted).square().sum(-1)).mean(-1)
        return {"value": value, "td": td, "bc": denoising}
