"""IFQL: implicit Q-learning with a behaviour flow and rejection sampling."""

from __future__ import annotations

from torch import Tensor

from agents.common.maths.critic import implicit_targets, implicit_value_loss
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
    cloning_loss,
    critic,
    integrate_flow,
    linear_range,
    normal,
    setting,
    state_value,
    uniform,
    velocity_field,
)


class IFQL(Method):
    r"""Values are learnt from dataset actions alone; the best of N samples of a cloned flow is executed.

    .. math:: L = \mathbb{E}\,|\kappa - 1[u < 0]|\,u^2 + \mathbb{E}\,(Q(s, a) - R - \gamma^H M V(s'))^2 + L_{FM}(v),
        \qquad u = Q'_{pess}(s, a) - V(s)

    N is ``best_of_n``; the best sample has the highest minimum over the critics. Source: Kostrikov, Nair and Levine,
    Implicit Q-Learning, arXiv 2110.06169; Hansen-Estruch et al., IDQL, arXiv 2304.10573; with a flow: Park, Li and
    Levine, Flow Q-Learning, arXiv 2502.02538; in the form of the baseline of Li and Levine, arXiv 2601.14234.
    """

    samples_next_action = False
    unmasked_losses = frozenset({"value"})

    expectile: float = setting(
        default=0.9,
        reference="kappa",
        above=0,
        below=1,
        search=linear_range(0.5, 0.99),
        doc="Expectile kappa of the value loss.",
    )
    mask_value: bool = setting(
        default=False,
        doc="In the value loss, mask sequences that cross a trajectory's end, as the other "
        "losses do. The authors' code includes these sequences, whose chunks contain "
        "actions of the next trajectory.",
    )
    best_of_n: int = setting(default=32, reference="num_samples", search=choice(8, 16, 32, 64))

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics, the state value and the behaviour flow."""
        return {
            "critic": critic(target=True),
            "value": state_value(),
            "behaviour": velocity_field(role="behaviour"),
        }

    def noise(self) -> dict[str, Draw]:
        """Return the noise and times of flow matching."""
        return {"bc_x0": normal(), "bc_t": uniform()}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Integrate the behaviour flow."""
        flow = nets.behaviour.at(observations)
        return integrate_flow(flow, noise["action"], self.flow_steps).clamp(-1, 1)

    def score(self, observations: Tensor, actions: Tensor, nets: Networks) -> Tensor:
        """Score candidates by the minimum of the online critics."""
        # the minimum, not the mean, since the best of many candidates is often overestimated
        return nets.critic(observations, actions).amin(1)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the critics' target (from V at the next state) and V's target (from the target critics)."""
        return implicit_targets(batch, nets, self.rho)

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the expectile, TD and flow-matching losses."""
        td = self.critic_loss(batch, targets, nets, info)
        # the authors' code includes sequences that cross a trajectory end
        weight = batch.valid if self.mask_value else 1.0
        value = implicit_value_loss(batch, targets["value"], weight, nets, self.expectile, info)
        return {
            "value": value,
            "td": td,
            "bc_flow": cloning_loss(nets.behaviour, batch, noise),
        }
