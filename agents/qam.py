"""QAM: Q-learning with Adjoint Matching."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.maths.adjoint import (
    adjoint_matching_loss,
    adjoint_statistics,
    lean_adjoint,
    memoryless_chain,
    memoryless_end,
    memoryless_sigmas,
    memoryless_states,
    step_times,
    terminal_adjoint,
)
from agents.common.maths.critic import q_statistics, td_loss, td_target
from agents.common.maths.flow import added, cloning_loss, euler_chain, follow_chains, integrate_flow
from agents.common.method import Draw, Info, Losses, Method, Noise, Targets, normal, uniform
from agents.common.nets.specs import Networks, NetworkSpec, critic, velocity_field
from agents.common.search import log_range
from agents.common.settings import setting
from agents.registry import register


@register("qam", paper="Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234)", published_name="QAM")
class QAM(Method):
    r"""A multi-step flow policy moves towards :math:`\pi_\beta e^{\tau Q}` using only the critic's action gradient.

    The behaviour flow :math:`v_\beta` is cloned from the data. The fine-tuned flow :math:`v_f` is rolled out as a
    memoryless SDE; the lean adjoint of the behaviour flow carries Q's gradient at the end back along the rollout, and
    :math:`v_f` regresses to :math:`v_\beta - \frac{\sigma^2}{2} a`:

    .. math:: L = L_{TD} + L_{FM}(v_\beta)
        + \mathbb{E}\sum_{i,d}\left[\tfrac{2}{\sigma_i}(v_f - v_\beta) + \sigma_i a_i\right]^2

    Source: Li and Levine, arXiv 2601.14234; adjoint matching: Domingo-Enrich et al., arXiv 2409.08861. Differs in:
    nothing; the defaults are the behaviour of the authors' code.
    """

    inverse_temperature: float = setting(
        default=0.3,
        reference="tau",
        at_least=0,
        search=log_range(0.1, 100.0),
        doc="Weight of Q against the behaviour prior; 0 is behaviour cloning, and samples from the "
        "behaviour flow. The effective value grows as `flow_steps` falls.",
    )
    max_grad_norm: float | None = setting(default=1.0)
    target_behaviour: bool = setting(default=True, doc="Hold the policy to the moving average of the behaviour flow.")
    target_gradient: bool = setting(default=True, doc="Take Q's gradient from the target critics.")
    clip_adjoint: bool = setting(default=True, doc="Clip actions to [-1, 1] inside Q's gradient.")
    residual: bool = setting(
        default=False,
        fixed="the flow is trained as one or the other",
        doc="Add the fine-tuned network to the behaviour flow; the sampler adds it to the online one.",
    )

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
        actions = self.sample_flow(observations, noise["action"], nets)
        return self.after_flow(observations, actions, noise, nets)

    def after_flow(self, observations: Tensor, actions: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Return what is played where the policy's flow ends in ``actions``: these themselves."""
        return actions

    def sample_flow(self, observations: Tensor, x_0: Tensor, nets: Networks) -> Tensor:
        """Return the end of the policy's flow, clipped to the action box."""
        velocity = (nets.behaviour if self.inverse_temperature == 0 else nets.fine_tuned).at(observations)
        if self.residual and self.inverse_temperature > 0:
            velocity = added(velocity, nets.behaviour.at(observations))
        return integrate_flow(velocity, x_0, self.flow_steps).clamp(-1, 1)

    def flow_starts(self, batch: Batch, noise: Noise) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the observations and the noise from which an update samples the policy's flow, by name."""
        return {"next": (batch.next_observations, noise["td_action"])} if self.best_of_n == 1 else {}

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target, the rollout's states, their adjoints and the prior's velocities there."""
        s = batch.observations
        prior = self._prior(nets).at(s)
        flow_ends, states = self._follow(batch, noise, nets, prior)
        next_actions = self._next_actions(batch, noise, nets, flow_ends)
        next_q = nets.critic_target(batch.next_observations, next_actions)
        velocities = prior(states, step_times(self.flow_steps, states))
        end_adjoint = self.inverse_temperature * terminal_adjoint(
            lambda actions: self._guide(nets)(s, actions).mean(1),
            memoryless_end(states, velocities[:, -1]),
            self.clip_adjoint,
        )
        info |= adjoint_statistics(end_adjoint)
        return {
            **flow_ends,
            "next_actions": next_actions,
            "td": td_target(batch, next_q, self.rho),
            "states": states,
            "adjoints": lean_adjoint(prior, states, end_adjoint),
            "prior": velocities,
        }

    def _follow(self, batch: Batch, noise: Noise, nets: Networks, prior: Any) -> tuple[dict[str, Tensor], Tensor]:
        """Return the ends of the policy's flows by name, and the states of the rollout."""
        starts, s, steps = self.flow_starts(batch, noise), batch.observations, self.flow_steps
        if self.residual or self.inverse_temperature == 0:  # flow and rollout are not of one network
            ends = {name: self.sample_flow(*start, nets) for name, start in starts.items()}
            own = nets.fine_tuned.at(s)
            fine_tuned = added(own, prior) if self.residual else own
            return ends, memoryless_states(fine_tuned, noise["am_x0"], noise["am_eps"])
        chains = [euler_chain(*start, steps) for start in starts.values()]
        rollout = memoryless_chain(s, noise["am_x0"], noise["am_eps"])
        *flows, states = follow_chains(nets.fine_tuned, [*chains, rollout], steps)
        ends = {name: points[-1].clamp(-1, 1) for name, points in zip(starts, flows, strict=True)}
        return ends, torch.stack(states, 1)

    def _next_actions(self, batch: Batch, noise: Noise, nets: Networks, flow_ends: dict[str, Tensor]) -> Tensor:
        """Return the next state's actions, from the flow's end where it is known."""
        if "next" not in flow_ends:
            return self.next_actions(batch, noise, nets)
        return self.after_flow(batch.next_observations, flow_ends["next"], self.next_noise(noise), nets)

    def losses(self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info) -> Losses:
        """Return the TD, flow-matching and adjoint-matching losses."""
        q = nets.critic(batch.observations, batch.actions)
        info |= q_statistics(q)
        states, sigmas = targets["states"], memoryless_sigmas(self.flow_steps, targets["states"])
        fine_tuned = nets.fine_tuned(batch.observations, states, step_times(self.flow_steps, states))
        prior = torch.zeros_like(states) if self.residual else targets["prior"]
        return {
            "td": td_loss(q, targets["td"], batch.valid),
            "bc_flow": cloning_loss(nets.behaviour, batch, noise),
            "am": adjoint_matching_loss(fine_tuned, prior, targets["adjoints"], sigmas),
        }

    def _prior(self, nets: Networks) -> Any:
        return nets.behaviour_target if self.target_behaviour else nets.frozen.behaviour

    def _guide(self, nets: Networks) -> Any:
        return nets.critic_target if self.target_gradient else nets.frozen.critic
