"""FAWAC: advantage-weighted actor-critic with a flow policy."""

from __future__ import annotations

from torch import Tensor

from agents.common.maths.critic import LARGEST_WEIGHT, advantage_weight
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
    flow_matching_loss,
    integrate_flow,
    log_range,
    normal,
    setting,
    state_value,
    td_loss,
    uniform,
    velocity_field,
)


class FAWAC(Method):
    r"""A flow policy clones dataset actions, each weighted by the exponential of its advantage, up to a cap.

    .. math:: L = L_{TD} + \mathbb{E}\,(Q'(s, a) - V(s))^2
        + \mathbb{E}\,\min(e^{\tau(\bar Q(s, a) - V(s))}, 100)\,\lVert v(s, x_t, t) - (x_1 - x_0)\rVert^2 / D

    with dataset actions a. No critic is differentiated in the policy loss. Source: Nair et al., AWAC, arXiv 2006.09359;
    the form with a flow is the baseline of Li and Levine, arXiv 2601.14234.
    """

    trains_behaviour = True

    inverse_temperature: float = setting(
        default=10.0,
        reference="inv_temp",
        at_least=0,
        search=log_range(0.1, 100.0),
        doc="Weight tau of the advantage; 0 is behaviour cloning.",
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics, the state value, and the flow, which is the policy."""
        return {
            "critic": critic(target=True),
            "value": state_value(),
            "flow": velocity_field(role="behaviour"),
        }

    def noise(self) -> dict[str, Draw]:
        """Return the noise and times of flow matching."""
        return {"bc_x0": normal(), "bc_t": uniform()}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Integrate the flow."""
        flow = nets.flow.at(observations)
        return integrate_flow(flow, noise["action"], self.flow_steps).clamp(-1, 1)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target, each target critic's values of dataset actions, and the weights of these actions."""
        # computed here, under `no_grad`, since the weights are constants in the flow's loss
        value = nets.value(batch.observations)
        advantage = nets.critic(batch.observations, batch.actions).mean(1) - value
        weight = advantage_weight(advantage, self.inverse_temperature)
        info |= {"advantage_mean": advantage.mean(1), "weight_mean": weight.mean(1)}
        # rows at the cap all have the same weight; if there are many, `inverse_temperature` is too large
        info["weight_at_max"] = (weight == LARGEST_WEIGHT).float().mean(1)
        return {
            **self.td_targets(batch, noise, nets),
            "data_q": nets.critic_target(batch.observations, batch.actions),
            "weight": weight,
        }

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD loss, the state value's loss and the weighted flow-matching loss."""
        td = self.critic_loss(batch, targets, nets, info)
        value = nets.value(batch.observations)
        info["v_mean"] = value.mean(1)
        velocity = nets.flow.at(batch.observations)
        weight = batch.valid * targets["weight"]
        return {
            "td": td,
            # `td_loss` is symmetric: here V is trained, and the target critics' values are constants
            "value": td_loss(targets["data_q"], value, batch.valid),
            "actor": flow_matching_loss(
                velocity, noise["bc_x0"], batch.actions, noise["bc_t"], weight
            ),
        }
