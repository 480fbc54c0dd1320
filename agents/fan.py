"""FAN: flow-anchored noise-conditioned Q-learning."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from agents.common.nets.networks import CriticEnsemble
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
    Velocity,
    choice,
    cloning_loss,
    critic,
    expectile_loss,
    interpolate,
    linear_range,
    log_range,
    normal,
    pessimistic_value,
    q_statistics,
    setting,
    td_loss,
    uniform,
    velocity_field,
)


class FAN(Method):
    r"""A one-step policy is anchored to a behaviour flow without integrating it; one of two critics has a noise input.

    The policy's displacement, action minus noise, regresses to the flow's velocity at a random point between noise and
    action. A critic F of state, action and noise represents a distribution of returns, and the critic Q learns an upper
    expectile of this distribution:

    .. math:: A(s, z) = \lVert \mu(s, z) - z - v(s, x_t, t)\rVert^2,\quad x_t = (1 - t) z + t \mu(s, z)

    .. math:: L = \mathbb{E}(F(s, a, z') - R - \gamma^H M [Q(s', \mu(s', z')) - w' A(s', z')])^2
        + \mathbb{E}\,|\kappa - 1[u < 0]|\,u^2 + L_{FM}(v) + w\,\mathbb{E} A(s, z) / D
        - \mathbb{E}\,\bar F(s, \mu(s, z), n) - \mathbb{E}\,\bar Q(s, \mu(s, z))

    with :math:`u = \bar F'(s, a, n) - Q(s, a)` and F' the moving average of F. Actions are clipped, except in the term
    w A(s, z).

    Source: Lee et al., arXiv 2605.01663, and the authors' code (github.com/brianlsy98/FAN, ``agents/fan.py``).
    """

    fails_by_design: ClassVar[dict[str, str]] = {
        "values": "the TD target is reduced by the distance to the flow, so values are low"
    }

    samples_next_action = False  # the next action's noise is declared in `noise`

    anchor_weight: float = setting(
        default=10.0,
        reference="alpha1",
        above=0,
        search=log_range(1.0, 300.0),
        doc="Weight w of the anchoring. Large values keep the policy close to the flow.",
    )
    critic_anchor_weight: float = setting(
        default=10.0,
        reference="alpha2",
        at_least=0,
        search=choice(0.0, 0.3, 1.0, 3.0, 10.0),
        doc="Weight w' of the next action's distance to the flow, summed over the chunk, in "
        "the TD target.",
    )
    expectile: float = setting(
        default=0.9,
        above=0,
        below=1,
        search=linear_range(0.5, 0.99),
        doc="Expectile kappa of Q, the critic without noise as an input.",
    )
    ensemble_size: int = setting(default=2)
    rho: float = setting(default=0.0, reference="z_agg")

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics with and without noise as an input, the behaviour flow and the one-step policy."""
        return {
            # inputs: an action chunk and noise of the same shape
            "noise_critic": NetworkSpec(lambda n: CriticEnsemble(n, 2 * n.actions), target=True),
            # Q regresses to the moving average of F and needs no target network
            "critic": critic(target=False),
            "behaviour": velocity_field(role="behaviour"),
            "one_step": velocity_field(time=False),
        }

    def noise(self) -> dict[str, Draw]:
        """Return the noise and times of the next action, of the losses and of flow matching."""
        return {
            "next_z": normal(),
            "next_t": uniform(),
            "value_n": normal(),
            "bc_x0": normal(),
            "bc_t": uniform(),
            "anchor_z": normal(),
            "anchor_t": uniform(),
            "q_n": normal(),
        }

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of the anchoring loss."""
        return {"anchor": self.anchor_weight}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Map noise to actions in one step."""
        return nets.one_step(observations, noise["action"]).clamp(-1, 1)

    def distance(self, flow: Velocity, z: Tensor, actions: Tensor, t: Tensor) -> Tensor:
        """Return the squared differences between action - noise and the velocity, (S, B, D), at times t (S, B)."""
        t = t.unsqueeze(-1)
        return (actions - z - flow(interpolate(z, actions, t), t)).square()

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target, reduced by the distance to the flow, and the target of the critic without noise."""
        next_actions = self.act(batch.next_observations, {"action": noise["next_z"]}, nets)
        flow = nets.behaviour.at(batch.next_observations)
        # summed over the chunk, so longer chunks reduce the target more
        penalty = self.distance(flow, noise["next_z"], next_actions, noise["next_t"]).sum(-1)
        next_q = pessimistic_value(nets.critic(batch.next_observations, next_actions), self.rho)
        noisy = torch.cat([batch.actions, noise["value_n"]], -1)
        return {
            "next_actions": next_actions,
            "td": batch.rewards + batch.discounts * (next_q - self.critic_anchor_weight * penalty),
            "value": nets.noise_critic_target(batch.observations, noisy).mean(1, keepdim=True),
        }

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the losses of both critics, of flow matching and of anchoring, and a Q term for each critic."""
        q = nets.critic(batch.observations, batch.actions)
        # the TD target's next action was computed from z', so F receives the same z'
        noisy = torch.cat([batch.actions, noise["next_z"]], -1)
        noisy_q = nets.noise_critic(batch.observations, noisy)
        actions = nets.one_step(batch.observations, noise["anchor_z"])
        clipped = actions.clamp(-1, 1)
        noisy = torch.cat([clipped, noise["q_n"]], -1)
        policy_q = nets.frozen.noise_critic(batch.observations, noisy)
        # frozen: the policy is regularised towards the flow, not the flow towards the policy
        flow = nets.frozen.behaviour.at(batch.observations)
        distance = self.distance(flow, noise["anchor_z"], actions, noise["anchor_t"])
        value_losses = expectile_loss(targets["value"] - q, self.expectile)
        info |= q_statistics(q)
        return {
            "td": td_loss(noisy_q, targets["td"], batch.valid),
            "value": (batch.valid.unsqueeze(1) * value_losses).mean((1, 2)),
            "bc_flow": cloning_loss(nets.behaviour, batch, noise),
            "anchor": distance.mean((1, 2)),
            "noise_q": -policy_q.mean((1, 2)),
            "q": -nets.frozen.critic(batch.observations, clipped).mean((1, 2)),
        }
