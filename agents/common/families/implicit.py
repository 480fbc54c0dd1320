"""What IQL, IDQL, IFQL and QGF share: values that are learnt from data actions alone."""

from __future__ import annotations

from agents.common.families.cloned import ClonedFlow
from agents.common.maths.critic import critic_loss
from agents.core import (
    Batch,
    Info,
    Losses,
    Method,
    Networks,
    NetworkSpec,
    Noise,
    Targets,
    critic,
    expectile_loss,
    linear_range,
    pessimistic_value,
    setting,
    state_value,
)


class ImplicitQLearning(Method):
    r"""The critics and the state value of implicit Q-learning; a subclass adds the policy and its loss.

    .. math:: L = \mathbb{E}\,|\kappa - 1[u < 0]|\,u^2 + \mathbb{E}\,(Q(s, a) - R - \gamma^H M V(s'))^2,
        \qquad u = Q'_{pess}(s, a) - V(s)

    Source: Kostrikov, Nair and Levine, Implicit Q-Learning, arXiv 2110.06169.
    """

    samples_next_action = False

    expectile: float = setting(
        default=0.9,
        above=0,
        below=1,
        search=linear_range(0.5, 0.99),
        doc="Kappa of the value loss.",
    )

    mask_value = True
    """Whether the value's loss leaves sequences that cross a trajectory's end out."""

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the critics' target from V at the next state, and V's from the target critics at the data actions."""
        # of data actions only, so that no action outside of the data is ever rated
        data_q = nets.critic_target(batch.observations, batch.actions)
        return {
            "td": batch.rewards + batch.discounts * nets.value(batch.next_observations),
            "value": pessimistic_value(data_q, self.rho),
        }

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the expectile loss of the value and the TD loss."""
        td = critic_loss(batch, targets, nets, info)
        value = nets.value(batch.observations)
        info |= {"v_mean": value.mean(1), "v_max": value.amax(1), "v_min": value.amin(1)}
        value_losses = expectile_loss(targets["value"] - value, self.expectile)
        if self.mask_value:
            # the target rates a whole chunk, which may run into the next trajectory
            value_losses = batch.valid * value_losses
        return {"value": value_losses.mean(-1), "td": td}


class ImplicitFlow(ImplicitQLearning, ClonedFlow):
    """The same over a flow that clones the data."""

    def networks(self) -> dict[str, NetworkSpec]:
        """Return critics, state value and behaviour flow."""
        # weights are drawn in this order
        return {"critic": critic(), "value": state_value(), **super().networks()}

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the expectile, TD and flow-matching losses."""
        losses = super().losses(batch, targets, noise, nets, info)
        return {**losses, "bc_flow": self.pretraining_loss(nets.behaviour, batch, noise)}
