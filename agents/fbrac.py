"""FBRAC: behaviour-regularised actor-critic with a flow, trained by backpropagation through the flow's steps."""

from __future__ import annotations

from torch import Tensor

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
    log_range,
    normal,
    setting,
    uniform,
    velocity_field,
)


class FBRAC(Method):
    r"""One flow is both behaviour model and policy: it clones the data and maximises Q through all its Euler steps.

    .. math:: L = L_{TD} + L_{FM}(v) - \frac1w\,\mathbb{E}\,\bar Q(s, \mathrm{ODE}(s, z; v))

    Source: Park, Li and Levine, Flow Q-Learning, arXiv 2502.02538, as the flow counterpart of behaviour-regularised
    actor-critic; in the form of the baseline of Li and Levine, arXiv 2601.14234.
    """

    trains_behaviour = True

    bc_weight: float = setting(
        default=100.0,
        reference="alpha",
        above=0,
        search=log_range(0.01, 1000.0),
        doc="Weight w of cloning relative to Q; the loss scales the Q term by 1/w.",
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics and the flow."""
        return {"critic": critic(target=True), "flow": velocity_field(role="behaviour")}

    def noise(self) -> dict[str, Draw]:
        """Return the noise and times of flow matching, and the policy's noise."""
        return {"bc_x0": normal(), "bc_t": uniform(), "q_z": normal()}

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of the Q term."""
        return {"q": 1 / self.bc_weight}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Integrate the flow."""
        flow = nets.flow.at(observations)
        return integrate_flow(flow, noise["action"], self.flow_steps).clamp(-1, 1)

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD and flow-matching losses, and the Q term, differentiated through all steps of the flow."""
        # computed before the cloning loss, since the order of computation is the order in which the
        # flow's gradients are summed
        actions = self.act(batch.observations, {"action": noise["q_z"]}, nets)
        td = self.critic_loss(batch, targets, nets, info)
        return {
            "td": td,
            "bc_flow": cloning_loss(nets.flow, batch, noise),
            # differentiated through every step of the flow; FQL's one-step policy avoids this
            "q": -nets.frozen.critic(batch.observations, actions).mean((1, 2)),
        }
