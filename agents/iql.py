"""IQL: implicit Q-learning with a Gaussian policy."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from agents.common.maths.critic import (
    advantage_weight,
    implicit_targets,
    implicit_value_loss,
    mean_absolute,
)
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
    gaussian_mean,
    linear_range,
    log_range,
    pessimistic_value,
    setting,
    state_value,
)


class IQL(Method):
    r"""Values are learnt from dataset actions alone; a Gaussian policy is trained by advantage-weighted cloning.

    .. math:: L = \mathbb{E}\,|\kappa - 1[u < 0]|\,u^2 + \sum_j \mathbb{E}\,(Q_j(s, a) - R - \gamma^H M V(s'))^2
        - \mathbb{E}\,\min(e^{\alpha A}, 100)\,\log\pi(a|s), \qquad u = Q'_{min}(s, a) - V(s),\quad A = Q_{min} - V

    In the loss, the policy's standard deviation is 1. With ``actor_loss="ddpgbc"``, the policy's mean maximises Q
    divided by the mean absolute value of Q, and alpha is the weight of behaviour cloning.

    Source: Kostrikov, Nair and Levine, Implicit Q-Learning, arXiv 2110.06169, in the form of Flow Q-Learning, arXiv
    2502.02538, whose code is github.com/seohongpark/fql (``agents/iql.py``).
    """

    samples_next_action = False

    expectile: float = setting(
        default=0.9,
        above=0,
        below=1,
        search=linear_range(0.5, 0.99),
        doc="Expectile kappa of the value loss.",
    )
    actor_loss: Literal["awr", "ddpgbc"] = setting(
        default="awr",
        search=choice("awr", "ddpgbc"),
        doc="Loss of the policy, `awr` or `ddpgbc` (DDPG+BC).",
    )
    actor_weight: float = setting(
        default=10.0,
        reference="alpha",
        at_least=0,
        search=log_range(0.1, 100.0),
        doc="Alpha: with AWR, the weight of the advantage; with DDPG+BC, the weight of cloning.",
    )
    sample_std: float = setting(
        default=0.0, at_least=0, doc="Standard deviation of executed actions around the mean."
    )
    ensemble_size: int = setting(default=2)
    rho: float = setting(default=1.0, doc="Pessimism; with two critics, 1 gives their minimum.")

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the state value, the critics and the policy's mean."""
        return {"value": state_value(), "critic": critic(), "actor": gaussian_mean()}

    def noise(self) -> dict[str, Draw]:
        """Return nothing: an update needs no noise."""
        return {}

    def loss_weights(self) -> dict[str, float]:
        """Return the weight that makes the TD loss a sum over the critics."""
        return {"td": self.ensemble_size}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Return the policy's mean plus noise, (S, B, D)."""
        return (nets.actor(observations) + self.sample_std * noise["action"]).clamp(-1, 1)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the critics' target (from V at the next state), V's target (from target critics) and the advantage."""
        q = nets.critic(batch.observations, batch.actions)
        # the advantage uses the online critics, whereas V regresses to the target critics
        advantage = pessimistic_value(q, self.rho) - nets.value(batch.observations)
        return {**implicit_targets(batch, nets, self.rho), "advantage": advantage}

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the expectile, TD and actor losses."""
        td = self.critic_loss(batch, targets, nets, info)
        value = implicit_value_loss(
            batch, targets["value"], batch.valid, nets, self.expectile, info
        )
        mean = nets.actor(batch.observations)
        # the loss assumes standard deviation 1; `sample_std` applies only to acting
        log_prob = -0.5 * (
            (mean - batch.actions).square().sum(-1) + mean.shape[-1] * math.log(2 * math.pi)
        )
        if self.actor_loss == "awr":
            weight = advantage_weight(targets["advantage"], self.actor_weight)
            actor = -(batch.valid * weight * log_prob).mean(-1)
        else:
            policy_q = nets.frozen.critic(batch.observations, mean.clamp(-1, 1))
            policy_q = pessimistic_value(policy_q, self.rho)
            # normalised, so that the weight of cloning does not depend on the reward scale
            improvement = policy_q.mean(-1) / mean_absolute(policy_q)
            actor = -improvement - self.actor_weight * (batch.valid * log_prob).mean(-1)
        info["advantage"] = targets["advantage"].mean(1)
        return {"value": value, "td": td, "actor": actor}
