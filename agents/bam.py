"""BAM: basic adjoint matching, the memoryless control problem solved by backpropagation through the rollout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.maths.adjoint import memoryless_rollout, memoryless_sigma
from agents.common.maths.critic import pessimistic_value, q_statistics, td_loss, td_target
from agents.common.maths.flow import cloning_loss, integrate_flow
from agents.common.method import Draw, Info, Losses, Method, Noise, Targets, normal, uniform
from agents.common.nets.specs import Networks, NetworkSpec, critic, velocity_field
from agents.common.search import log_range
from agents.common.settings import setting
from agents.registry import register


@register(
    "bam",
    paper="ablation of Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234)",
    published_name="BAM",
)
class BAM(Method):
    r"""The fine-tuned flow's memoryless SDE is differentiated from end to end: climb Q, pay for leaving the behaviour.

    .. math:: L = L_{TD} + L_{FM}(v_\beta) - \tau\,\mathbb{E}\,Q_{pess}(s, x_K)
        + \kappa\,\mathbb{E}\sum_{i<K-1}\tfrac{2}{\sigma_i^2}\lVert v_f - v_\beta\rVert^2

    With kappa = 1 the control cost lacks the step size h = 1/K of the path KL: the optimum is the tilt of the behaviour
    by :math:`e^{\tau h Q}`, so that tuned values of tau are about K times those of QAM. The velocity at the last grid
    time gets no gradient, but the sampler uses it: there the fine-tuned flow is what its network makes of nearby times.

    Source: Li and Levine, Q-learning with Adjoint Matching, arXiv 2601.14234, ablation. Differs in: the gradient
    where all critics agree, see ``pessimistic_value``.
    """

    inverse_temperature: float = setting(
        default=0.3, reference="inv_temp", at_least=0, search=log_range(0.3, 100.0), doc="Weight tau of Q."
    )
    kl_scale: float = setting(
        default=1.0,
        above=0,
        doc="Factor kappa of the control cost; `1 / flow_steps` makes it the path KL, and the optimum the tilt by tau "
        "itself.",
    )
    max_grad_norm: float | None = setting(default=1.0)
    target_behaviour: bool = setting(
        default=True, reference="target_actor", doc="Hold the policy to the moving average of the behaviour flow."
    )
    residual: bool = setting(
        default=False,
        fixed="the flow is trained as one or the other",
        doc="Add the fine-tuned network to the behaviour flow: in the rollout to the prior, in the sampler to the "
        "online behaviour flow.",
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return critics, behaviour flow and fine-tuned flow; the two flows start independently."""
        return {
            "critic": critic(target=True),
            "behaviour": velocity_field(target=True, role="behaviour"),
            "fine_tuned": velocity_field(role="residual" if self.residual else "copy"),
        }

    def noise(self) -> dict[str, Draw]:
        """Return the draws of flow matching and of the rollout."""
        return {"bc_x0": normal(), "bc_t": uniform(), "am_x0": normal(), "am_eps": normal("KBD")}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Follow the fine-tuned flow."""
        velocity = nets.fine_tuned.at(observations)
        if self.residual:
            residual, behaviour = velocity, nets.behaviour.at(observations)
            velocity = lambda x, t: residual(x, t) + behaviour(x, t)  # noqa: E731
        return integrate_flow(velocity, noise["action"], self.flow_steps).clamp(-1, 1)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target."""
        next_actions = self.next_actions(batch, noise, nets)
        next_q = nets.critic_target(batch.next_observations, next_actions)
        return {"next_actions": next_actions, "td": td_target(batch, next_q, self.rho)}

    def losses(self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info) -> Losses:
        """Return the TD and flow-matching losses, and the control problem's through the whole rollout."""
        q = nets.critic(batch.observations, batch.actions)
        info |= q_statistics(q)
        return {
            "td": td_loss(q, targets["td"], batch.valid),
            "bc_flow": cloning_loss(nets.behaviour, batch, noise),
            "bam": self._control_loss(batch, noise, nets, info),
        }

    def _control_loss(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Tensor:
        """Return the control cost of the way minus the value of its end; Q is not clipped to the action box."""
        prior_net = nets.frozen.behaviour_target if self.target_behaviour else nets.frozen.behaviour
        prior, fine_tuned = prior_net.at(batch.observations), nets.fine_tuned.at(batch.observations)
        gaps: list[Tensor] = []

        def controlled(x: Tensor, t: Any) -> Tensor:
            base: Tensor = prior(x, t)
            own: Tensor = fine_tuned(x, t)
            gaps.append(own if self.residual else own - base)
            return base + own if self.residual else own

        end = memoryless_rollout(controlled, prior, noise["am_x0"], noise["am_eps"])[:, -1]
        cost = torch.zeros_like(batch.rewards)
        for step, gap in enumerate(gaps):
            cost = cost + (2 / memoryless_sigma(step, self.flow_steps) ** 2) * gap.square().sum(-1)
        info["bam_control_loss"] = control = self.kl_scale * cost.mean(-1)
        value = pessimistic_value(nets.frozen.critic(batch.observations, end), self.rho)
        return control - self.inverse_temperature * value.mean(-1)
