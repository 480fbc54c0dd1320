"""Value Flows: the critic is a flow from noise to returns; the best of several cloned actions is executed."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from agents.common.nets.mlp import evaluate
from agents.common.nets.networks import CriticEnsemble
from agents.common.validation import number
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
    action_gradient,
    cloning_loss,
    integrate_flow,
    interpolate,
    log_range,
    normal,
    pessimistic_value,
    q_statistics,
    setting,
    uniform,
    velocity_field,
)


class ReturnFlow(CriticEnsemble):
    """Velocities u_j(g, t | s, a) at returns g; the returns may differ between members."""

    def forward(  # type: ignore[override]
        self,
        observations: Tensor,
        actions: Tensor,
        returns: Tensor,
        t: Tensor,
        frozen: bool = False,
    ) -> Tensor:
        """Return the velocities, (S, E, B), at returns (S, E or 1, B) and times (S, B)."""
        inputs = torch.cat(
            [t.unsqueeze(-1), self.features(observations, frozen), actions], -1
        ).unsqueeze(1)
        rows = torch.cat([returns.unsqueeze(-1), inputs.expand(-1, returns.shape[1], -1, -1)], -1)
        return evaluate(self.mlp.layers(frozen), rows).squeeze(-1)


class ValueFlows(Method):
    r"""Flows from noise to returns are trained to satisfy the Bellman equation.

    A flow v clones actions, and the candidate with the highest mean return, u(0, 0 | s, a), is executed. The states of
    the return flows are :math:`G_t(s, a)` at time t and G at the end. Bars are means over the members; G' and u' are
    taken at the next state and action:

    .. math:: L = L_{FM}(v) + \mathbb{E}\,c\,\sum_j w_b\,(u_j((1 - t) z + t y, t\,|\,s, a) - (y - z))^2
        + w_d\,(u_j(R + \gamma^H M \bar G_t', t\,|\,s, a) - \bar u'(\bar G_t', t))^2

    .. math:: y = R + \gamma^H M \bar G',\qquad c = \tfrac12 + \sigma(-\tau / \overline{|\partial_z G(s, a)|})

    Source: Dong et al., arXiv 2510.07650, and the authors' code (github.com/chongyi-zheng/value-flows).
    """

    fails_by_design: ClassVar[dict[str, str]] = {
        "values": "the consistency loss also pulls terminal values towards the next state's value"
    }

    bootstrap_weight: float = setting(
        default=1.0,
        reference="bcfm_lambda",
        at_least=0,
        search=log_range(0.3, 10.0),
        doc="Weight w_b of flow matching to sampled returns.",
    )
    consistency_weight: float = setting(
        default=1.0, reference="dcfm_lambda", at_least=0, doc="Weight w_d of the consistency loss."
    )
    confidence_temperature: float = setting(
        default=0.3,
        reference="confidence_weight_temp",
        at_least=0,
        search=log_range(0.01, 100.0),
        doc="Temperature tau of the confidence weight c.",
    )
    reward_min: float | None = setting(
        default=None,
        doc="Smallest reward, from which the lower bound of returns is computed; None: no bound.",
    )
    reward_max: float | None = setting(
        default=None,
        doc="Largest reward, from which the upper bound of returns is computed; None: no bound.",
    )
    best_of_n: int = setting(default=16, reference="num_samples")
    ensemble_size: int = setting(default=2)
    rho: float = setting(default=0.0, reference="ret_agg")

    def check_together(self) -> None:
        """Reject reward bounds in the wrong order."""
        super().check_together()
        if self.reward_min is not None and self.reward_max is not None:
            number("reward_max", self.reward_max, at_least=self.reward_min)

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the return flows and the behaviour flow."""
        # each critic has a return as an additional input
        returns = NetworkSpec(lambda n: ReturnFlow(n, n.actions + 1, time=True), target=True)
        return {"critic": returns, "behaviour": velocity_field(role="behaviour")}

    def noise(self) -> dict[str, Draw]:
        """Return the noise and times of the return flows and of the behaviour flow."""
        return {
            "return_z": normal("B"),
            "return_t": uniform(),
            "confidence_z": normal("B"),
            "bc_x0": normal(),
            "bc_t": uniform(),
        }

    def loss_weights(self) -> dict[str, float]:
        """Return the weights of the return flows' losses."""
        return {"bootstrap": self.bootstrap_weight, "consistency": self.consistency_weight}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Integrate the behaviour flow, clipping actions after every step."""
        return integrate_flow(
            nets.behaviour.at(observations), noise["action"], self.flow_steps, clip=True
        )

    def score(self, observations: Tensor, actions: Tensor, nets: Networks) -> Tensor:
        """Score candidates by their mean return, which is the velocity at noise 0 and time 0."""
        zero = torch.zeros_like(actions[..., 0])
        return self.bounded(nets.critic(observations, actions, zero.unsqueeze(1), zero)).mean(1)

    def bounded(self, returns: Tensor) -> Tensor:
        """Clip returns to the range that the reward bounds imply for episodes of any length.

        >>> method = agents.ValueFlows.method_class(gamma=0.9, reward_min=-1.0, reward_max=-1.0)
        >>> method.bounded(torch.tensor([-20.0, -1.0]))
        tensor([-10.,  -1.])
        """
        if self.reward_min is self.reward_max is None:
            return returns
        weight = max(1 - self.gamma, 1e-6)  # 1 / the sum of gamma^k over all k
        lowest, highest = self.reward_min, self.reward_max
        # with 0, since there are no rewards after the end of an episode
        if lowest is not None:
            lowest = min(lowest, 0) / weight
        if highest is not None:
            highest = max(highest, 0) / weight
        return returns.clamp(lowest, highest)

    def integrate(self, velocity: Velocity, z: Tensor, t: Tensor) -> Tensor:
        """Integrate the return flows from noise (S, 1, B) to times (S, B); return their states (S, E, B)."""
        # one step size for each row, so that all rows take the same number of steps
        returns, h = z, t / self.flow_steps
        for step in range(self.flow_steps):
            returns = returns + h.unsqueeze(1) * velocity(returns, step * h)
            # straight-through: clipping changes values but not derivatives
            returns = returns + (self.bounded(returns) - returns).detach()
        return returns

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return sampled returns, the states and target velocities of the consistency loss, and the rows' weights."""
        next_actions = self.next_actions(batch, noise, nets)
        next_velocity = partial(nets.critic_target, batch.next_observations, next_actions)
        z = noise["return_z"].unsqueeze(1)  # (S, 1, B), the same for every member
        t = noise["return_t"]
        end = torch.ones_like(t)
        sampled = pessimistic_value(self.integrate(next_velocity, z, end), self.rho)
        halfway = pessimistic_value(self.integrate(next_velocity, z, t), self.rho)

        def present_returns(z: Tensor) -> Tensor:
            velocity = partial(nets.critic_target, batch.observations, batch.actions)
            return self.integrate(velocity, z, end)

        # repeated, so that each member has its own derivative
        confidence_z = noise["confidence_z"].unsqueeze(1).repeat(1, self.ensemble_size, 1)
        std = action_gradient(present_returns, confidence_z).abs().mean(1)
        info["return_std"] = std.mean(1)
        return {
            "next_actions": next_actions,
            "td": batch.rewards + batch.discounts * sampled,
            "state": batch.rewards + batch.discounts * halfway,
            "velocity": pessimistic_value(next_velocity(halfway.unsqueeze(1), t), self.rho),
            "weight": batch.valid * ((-self.confidence_temperature / std).sigmoid() + 0.5),
        }

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the losses of flow matching to sampled returns, of consistency, and of flow matching to actions."""
        z, t, returns = noise["return_z"], noise["return_t"], targets["td"]

        def regression(state: Tensor, target: Tensor) -> Tensor:
            velocity = nets.critic(batch.observations, batch.actions, state.unsqueeze(1), t)
            # a sum over the members, each of which is a separate flow
            return (targets["weight"] * (velocity - target.unsqueeze(1)).square().sum(1)).mean(1)

        info |= q_statistics(returns.unsqueeze(1))
        return {
            "bootstrap": regression(interpolate(z, returns, t), returns - z),
            "consistency": regression(targets["state"], targets["velocity"]),
            "bc_flow": cloning_loss(nets.behaviour, batch, noise),
        }
