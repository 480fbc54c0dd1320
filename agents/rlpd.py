"""RLPD: soft actor-critic online, with prior data in every batch."""

from __future__ import annotations

from torch import Tensor

from agents.common.maths.edit import tanh_gaussian_log_prob, temperature_loss
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
    critic,
    log_range,
    normal,
    pessimistic_value,
    setting,
    tanh_gaussian,
    tanh_gaussian_sample,
    temperature,
)

ACTION_MARGIN = 1e-5  # the pre-tanh value of an action at its bound is infinite


class RLPD(Method):
    r"""Soft actor-critic from scratch; half of each batch is from the dataset and half from online transitions.

    .. math:: L = L_{TD} + \mathbb{E}\left[sg[\alpha]\log\pi(y\mid s) - Q_{pess}(s, y)\right]
        + \alpha\,sg[-\mathbb{E}\log\pi - \bar H] - w\,\mathbb{E}\log\pi(a\mid s),\quad y\sim\pi

    Source: Ball et al., Efficient Online Reinforcement Learning with Offline Data, arXiv 2302.02948.
    """

    bc_weight: float = setting(
        default=0.0,
        reference="bc_alpha",
        at_least=0,
        search=log_range(0.001, 1.0),
        doc="Weight w of cloning, the log-likelihood of the batch's actions.",
    )
    target_entropy: float | None = setting(
        default=None, doc="Target entropy of the policy; None: -D/2."
    )
    balanced_sampling: bool = setting(default=True)

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics, the actor and its temperature."""
        return {
            "critic": critic(target=True),
            "actor": tanh_gaussian(),
            "temperature": temperature(),
        }

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the actor's noise."""
        return {"policy": normal()}

    def noise(self) -> dict[str, Draw]:
        """Return the noise of the policy loss."""
        return {"policy_eps": normal()}

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of cloning."""
        return {"bc": self.bc_weight}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Sample the squashed Gaussian."""
        mean, log_std = nets.actor(observations)
        return tanh_gaussian_sample(mean, log_std, noise["policy"])[0]

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD, soft policy, temperature and cloning losses."""
        td = self.critic_loss(batch, targets, nets, info)
        mean, log_std = nets.actor(batch.observations)
        actions, log_prob = tanh_gaussian_sample(mean, log_std, noise["policy_eps"])
        value = pessimistic_value(nets.frozen.critic(batch.observations, actions), self.rho)
        data_actions = batch.actions.clamp(-1 + ACTION_MARGIN, 1 - ACTION_MARGIN)
        data_log_prob = tanh_gaussian_log_prob(mean, log_std, data_actions.atanh())
        info["policy_q"] = value.mean(-1)
        return {
            "td": td,
            # this loss uses no dataset actions, so it is not weighted by `valid`
            "actor": (nets.frozen.temperature().unsqueeze(-1) * log_prob - value).mean(-1),
            "temperature": temperature_loss(log_prob, actions, self.target_entropy, nets, info),
            "bc": -(batch.valid * data_log_prob).mean(-1),
        }
