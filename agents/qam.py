"""QAM: Q-learning with Adjoint Matching."""

from __future__ import annotations

from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from agents.common.base import CommonArguments, FlowQLearning, GymEnv, Info, Losses, Targets
from agents.common.batch import Batch
from agents.common.maths.adjoint import (
    adjoint_matching_loss,
    adjoint_statistics,
    lean_adjoint,
    memoryless_rollout,
    memoryless_sigmas,
    step_times,
    terminal_adjoint,
)
from agents.common.maths.critic import q_statistics, td_loss, td_target
from agents.common.maths.flow import added, flow_matching_loss, integrate_flow
from agents.common.nets.specs import Networks, NetworkSpec, critic, velocity_field
from agents.common.noise import Draw, Noise, normal, uniform
from agents.common.policy import FlowPolicy
from agents.common.validation import boolean, number
from agents.registry import register


class QAMSettings(TypedDict, total=False):
    """Settings of QAM that its variants hand on; documented at :class:`QAM`."""

    inverse_temperature: float
    target_behaviour: bool
    target_gradient: bool
    clip_adjoint: bool
    residual: bool


@register("qam", paper="Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234)", published_name="QAM")
class QAM(FlowQLearning):
    r"""A multi-step flow policy moves towards :math:`\pi_\beta e^{\tau Q}` using only the critic's action gradient.

    The behaviour flow :math:`v_\beta` is cloned from the data. The fine-tuned flow :math:`v_f` is rolled out as a
    memoryless SDE; the lean adjoint of the behaviour flow carries Q's gradient at the end back along the rollout, and
    :math:`v_f` regresses to :math:`v_\beta - \frac{\sigma^2}{2} a`:

    .. math:: L = L_{TD} + L_{FM}(v_\beta)
        + \mathbb{E}\sum_{i,d}\left[\tfrac{2}{\sigma_i}(v_f - v_\beta) + \sigma_i a_i\right]^2

    Source: Li and Levine, arXiv 2601.14234; adjoint matching: Domingo-Enrich et al., arXiv 2409.08861. Differs in:
    nothing; the defaults are the behaviour of the authors' code.

    :param policy: see :class:`FlowQLearning`.
    :param env: see :class:`FlowQLearning`.
    :param inverse_temperature: weight of Q against the behaviour prior, tau in the paper, >= 0; 0 is behaviour cloning,
        and samples from the behaviour flow. The effective value grows as ``flow_steps`` falls.
    :param max_grad_norm: bound on the joint gradient norm.
    :param target_behaviour: whether the prior is the moving average of the behaviour flow, not the flow itself.
    :param target_gradient: whether Q's gradient comes from the target critics, not the online ones.
    :param clip_adjoint: whether actions are clipped to [-1, 1] inside Q's gradient, so that it vanishes outside.
    :param residual: whether the fine-tuned network is added to the behaviour flow; the sampler adds the online one.
    :param common: the settings of :class:`FlowQLearning`.
    """

    def __init__(  # type: ignore[misc]  # `max_grad_norm` is a common setting with another default here
        self,
        policy: str | type[FlowPolicy],
        env: GymEnv | str | None,
        *,
        inverse_temperature: float = 0.3,
        max_grad_norm: float | None = 1.0,
        target_behaviour: bool = True,
        target_gradient: bool = True,
        clip_adjoint: bool = True,
        residual: bool = False,
        **common: Unpack[CommonArguments],
    ) -> None:
        self.inverse_temperature = number("inverse_temperature", inverse_temperature, at_least=0)
        self.target_behaviour = boolean("target_behaviour", target_behaviour)
        self.target_gradient = boolean("target_gradient", target_gradient)
        self.clip_adjoint = boolean("clip_adjoint", clip_adjoint)
        self.residual = boolean("residual", residual)
        super().__init__(policy, env, **{**common, "max_grad_norm": max_grad_norm})

    def networks(self) -> dict[str, NetworkSpec]:
        """Return critics, behaviour flow and fine-tuned flow; the two flows start independently."""
        fine_tuned = velocity_field(role="residual" if self.residual else "copy")
        flows = {"behaviour": velocity_field(target=True, role="behaviour"), "fine_tuned": fine_tuned}
        return {"critic": critic(target=True), **flows}

    def noise(self) -> dict[str, Draw]:
        """Return the draws of flow matching and of the rollout."""
        return {"bc_x0": normal(), "bc_t": uniform(), "am_x0": normal(), "am_eps": normal("KBD")}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Follow the fine-tuned flow; without any weight on Q, the behaviour flow."""
        return self.sample_flow(observations, noise["action"], nets)

    def sample_flow(self, observations: Tensor, x_0: Tensor, nets: Networks) -> Tensor:
        """Return the end of the policy's flow, clipped to the action box."""
        velocity = (nets.behaviour if self.inverse_temperature == 0 else nets.fine_tuned).at(observations)
        if self.residual and self.inverse_temperature > 0:
            velocity = added(velocity, nets.behaviour.at(observations))
        return integrate_flow(velocity, x_0, self.flow_steps).clamp(-1, 1)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target, the rollout's states, their adjoints and the prior's velocities there."""
        s = batch.observations
        next_actions = self.next_actions(batch, noise, nets)
        next_q = nets.critic_target(batch.next_observations, next_actions)
        prior, own = self._prior(nets).at(s), nets.fine_tuned.at(s)
        fine_tuned = added(own, prior) if self.residual else own
        states = memoryless_rollout(fine_tuned, prior, noise["am_x0"], noise["am_eps"])
        end_adjoint = self.inverse_temperature * terminal_adjoint(
            lambda actions: self._guide(nets)(s, actions).mean(1), states[:, -1], self.clip_adjoint
        )
        states = states[:, :-1]
        info |= adjoint_statistics(end_adjoint)
        return {
            "next_actions": next_actions,
            "td": td_target(batch, next_q, self.rho),
            "states": states,
            "adjoints": lean_adjoint(prior, states, end_adjoint),
            "prior": prior(states, step_times(self.flow_steps, states)),
        }

    def losses(self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info) -> Losses:
        """Return the TD, flow-matching and adjoint-matching losses."""
        q = nets.critic(batch.observations, batch.actions)
        info |= q_statistics(q)
        states, sigmas = targets["states"], memoryless_sigmas(self.flow_steps, targets["states"])
        fine_tuned = nets.fine_tuned(batch.observations, states, step_times(self.flow_steps, states))
        prior = torch.zeros_like(states) if self.residual else targets["prior"]
        return {
            "td": td_loss(q, targets["td"], batch.valid),
            "bc_flow": flow_matching_loss(
                nets.behaviour.at(batch.observations), noise["bc_x0"], batch.actions, noise["bc_t"], batch.valid
            ),
            "am": adjoint_matching_loss(fine_tuned, prior, targets["adjoints"], sigmas),
        }

    def _prior(self, nets: Networks) -> Any:
        return nets.behaviour_target if self.target_behaviour else nets.frozen.behaviour

    def _guide(self, nets: Networks) -> Any:
        return nets.critic_target if self.target_gradient else nets.frozen.critic
