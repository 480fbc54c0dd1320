"""What QAM and BAM share: a behaviour flow that is cloned from the data, and a flow that is fine-tuned from it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from agents.common.maths.flow import integrate_flow
from agents.common.nets.heads import SummedFields
from agents.common.nets.specs import critic, velocity_field
from agents.core import Method, Networks, NetworkSpec, Noise, setting


class FineTuning(Method):
    """Networks and sampler of a fine-tuned flow; a subclass adds the losses."""

    max_grad_norm: float | None = setting(default=1.0)
    target_behaviour: bool = setting(
        default=True, reference="target_actor", doc="Hold the policy to the moving average of the behaviour flow."
    )
    residual: bool = setting(
        default=False,
        fixed="the flow is trained as one or the other",
        doc="Add the fine-tuned network to the behaviour flow: in the rollout to the one that the policy is held to, "
        "in the sampler to the online one.",
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return critics, behaviour flow and fine-tuned flow; the two flows start independently."""
        return {
            "critic": critic(target=True),
            "behaviour": velocity_field(target=True, role="behaviour"),
            "fine_tuned": velocity_field(role="residual" if self.residual else "copy"),
        }

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Follow the fine-tuned flow."""
        policy = self.policy(nets, online=True).at(observations)
        return integrate_flow(policy, noise["action"], self.flow_steps).clamp(-1, 1)

    def prior(self, nets: Networks) -> Any:
        """Return the behaviour flow that the policy is held to, with constant weights."""
        return nets.frozen.behaviour_target if self.target_behaviour else nets.frozen.behaviour

    def policy(self, nets: Networks, online: bool = False) -> Any:
        """Return the fine-tuned flow; with `residual`, its sum with the flow that it is held to, or the online one."""
        if not self.residual:
            return nets.fine_tuned
        return SummedFields(nets.fine_tuned, nets.frozen.behaviour if online else self.prior(nets))
