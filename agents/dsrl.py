"""DSRL: diffusion steering, a soft actor-critic in the noise space of a behaviour flow."""

from __future__ import annotations

from torch import Tensor

from agents.common.maths.edit import temperature_loss
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
    cloning_loss,
    critic,
    integrate_flow,
    linear_range,
    normal,
    setting,
    tanh_gaussian,
    tanh_gaussian_sample,
    temperature,
    uniform,
    velocity_field,
)


class DSRL(Method):
    r"""A soft actor-critic selects the noise that a cloned flow maps to an action.

    The latent critic Z learns the critics' values of the flow's actions F(s, z) at standard normal noise z, and the
    latent policy maximises Z:

    .. math:: L = L_{TD} + L_{FM}(v) + \mathbb{E}_z(Z(s, z) - Q(s, F(s, z)))^2
        + \mathbb{E}_{y\sim\pi}[\alpha\log\pi(y\mid s) - \bar Z(s, c\,y)] + \alpha\,(-\log\pi(y\mid s) - \bar H)

    with stop-gradients as in soft actor-critic. Source: Wagenmaker et al., Steering Your Diffusion Policy with Latent
    Space Reinforcement Learning, arXiv 2506.15799, the variant with noise aliasing, in the form of the baseline of Li
    and Levine, arXiv 2601.14234.
    """

    noise_scale: float = setting(
        default=1.0,
        above=0,
        search=linear_range(0.2, 2.0),
        doc="Bound c on every coordinate of the noise that the latent policy selects.",
    )
    target_entropy: float | None = setting(
        default=None, doc="Target entropy of the latent policy before scaling by c; None: -D/2."
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics of actions and of noise, the behaviour flow, the latent policy and its temperature."""
        return {
            "critic": critic(target=True),
            "latent_critic": critic(target=False),
            "behaviour": velocity_field(target=True, role="behaviour"),
            "latent_policy": tanh_gaussian(),
            "temperature": temperature(),
        }

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the latent policy's noise. The policy's samples are the flow's initial noise."""
        return {"policy": normal()}

    def noise(self) -> dict[str, Draw]:
        """Return the noise of the latent distillation and policy losses, and the noise and times of flow matching."""
        return {"latent_z": normal(), "bc_x0": normal(), "bc_t": uniform(), "policy_eps": normal()}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Integrate the flow from a sample of the latent policy."""
        mean, log_std = nets.latent_policy(observations)
        latent, _ = tanh_gaussian_sample(mean, log_std, noise["policy"])
        return self.steer(observations, self.noise_scale * latent, nets)

    def steer(self, observations: Tensor, z: Tensor, nets: Networks) -> Tensor:
        """Return the actions F(s, z), (S, B, D), of the behaviour flow's moving average."""
        flow = nets.behaviour_target.at(observations)
        return integrate_flow(flow, z, self.flow_steps).clamp(-1, 1)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target, and each critic's values of the flow's actions, (S, E, B)."""
        steered = self.steer(batch.observations, noise["latent_z"], nets)
        return {
            # as in the baseline's code, without an entropy bonus
            **self.td_targets(batch, noise, nets),
            "latent_q": nets.critic(batch.observations, steered),
        }

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the losses of TD, latent distillation, flow matching, the latent policy and its temperature."""
        td = self.critic_loss(batch, targets, nets, info)
        # the latent critic evaluates noise, so the latent policy is trained without gradients through
        # the flow
        latent_q = nets.latent_critic(batch.observations, noise["latent_z"])
        mean, log_std = nets.latent_policy(batch.observations)
        sample, log_prob = tanh_gaussian_sample(mean, log_std, noise["policy_eps"])
        # as in the baseline's code, `log_prob` is the density before scaling
        policy_q = nets.frozen.latent_critic(batch.observations, self.noise_scale * sample).mean(1)
        info["latent_std"] = log_std.exp().mean((1, 2))
        return {
            "td": td,
            # this loss uses no dataset actions, so it is not weighted by `valid`
            "latent": (latent_q - targets["latent_q"]).square().mean((1, 2)),
            "bc_flow": cloning_loss(nets.behaviour, batch, noise),
            "actor": (nets.frozen.temperature().unsqueeze(1) * log_prob - policy_q).mean(1),
            "temperature": temperature_loss(log_prob, sample, self.target_entropy, nets, info),
        }
