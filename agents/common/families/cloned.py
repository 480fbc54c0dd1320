"""What BC, CGQL, FEdit, FQL, IFQL, QGF and all fine-tuned flows share: a flow that clones the data."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from agents.common.maths.critic import critic_loss
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
    normal,
    uniform,
    velocity_field,
)


class ClonedFlow(Method):
    """A behaviour flow that clones the data and acts, and critics that rate what it does; they never shape the flow."""

    def networks(self) -> dict[str, NetworkSpec]:
        """Return critics and behaviour flow."""
        return {"critic": critic(target=True), "behaviour": velocity_field(role="behaviour")}

    def noise(self) -> dict[str, Draw]:
        """Return the draws of flow matching."""
        return {"bc_x0": normal(), "bc_t": uniform()}

    def cloned_flow(self, nets: Networks) -> Any:
        """Return the flow that clones the data and acts."""
        return nets.behaviour

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Follow the behaviour flow."""
        flow = self.cloned_flow(nets).at(observations)
        return integrate_flow(flow, noise["action"], self.flow_steps).clamp(-1, 1)

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD and flow-matching losses."""
        return {
            "td": critic_loss(batch, targets, nets, info),
            "bc_flow": cloning_loss(self.cloned_flow(nets), batch, noise),
        }
