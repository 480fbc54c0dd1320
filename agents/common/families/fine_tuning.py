"""What QAM, BAM, TRQAM and SQAM share: a behaviour flow that clones the data, and a flow that is fine-tuned from it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from agents.common.nets.heads import SummedFields
from agents.core import (
    Draw,
    Method,
    Networks,
    NetworkSpec,
    Noise,
    critic,
    integrate_flow,
    normal,
    setting,
    uniform,
    velocity_field,
)


class FineTuning(Method):
    """Networks, noise and sampler of a fine-tuned flow; a subclass adds the losses."""

    max_grad_norm: float | None = setting(default=1.0)
    target_behaviour: bool = setting(
        default=True, reference="target_actor", doc="Hold the policy to the moving average of the behaviour flow."
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return critics, behaviour flow and fine-tuned flow; the two flows start independently."""
        return {
            "critic": critic(target=True),
            "behaviour": velocity_field(target=True, role="behaviour"),
            "fine_tuned": velocity_field(role="copy"),
        }

    def noise(self) -> dict[str, Draw]:
        """Return the draws of flow matching and of the rollout."""
        return {"bc_x0": normal(), "bc_t": uniform(), "am_x0": normal(), "am_eps": normal("KBD")}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Follow the fine-tuned flow."""
        policy = self.policy(nets, online=True).at(observations)
        return integrate_flow(policy, noise["action"], self.flow_steps).clamp(-1, 1)

    def prior(self, nets: Networks) -> Any:
        """Return the behaviour flow that the policy is held to, with constant weights."""
        return nets.frozen.behaviour_target if self.target_behaviour else nets.frozen.behaviour

    def policy(self, nets: Networks, online: bool = False) -> Any:
        """Return the fine-tuned flow."""
        return nets.fine_tuned


class ResidualFineTuning(FineTuning):
    """The same, with a choice: the fine-tuned flow is a network of its own, or one that is added to the behaviour."""

    residual: bool = setting(
        default=False,
        fixed="the flow is trained as one or the other",
        doc="Add the fine-tuned network to the behaviour flow: in the rollout to the one that the policy is held to, "
        "in the sampler to the online one.",
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the networks; a residual is zero after pretraining."""
        return super().networks() | {"fine_tuned": velocity_field(role="residual" if self.residual else "copy")}

    def policy(self, nets: Networks, online: bool = False) -> Any:
        """Return the fine-tuned flow; with `residual`, its sum with the flow that it is held to, or the online one."""
        if not self.residual:
            return nets.fine_tuned
        return SummedFields(nets.fine_tuned, nets.frozen.behaviour if online else self.prior(nets))
